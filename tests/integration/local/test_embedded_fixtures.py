"""The shared fixtures give real, empty servers."""

import io

import psycopg
import pytest
from minio import Minio

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("time", [1, 2])
def test_every_test_gets_an_empty_database(postgres_dsn: str, time: int) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE TABLE seen (n int)")
        connection.execute("INSERT INTO seen VALUES (%s)", (time,))
        assert connection.execute("SELECT count(*) FROM seen").fetchone() == (1,)


def test_a_wrong_password_is_refused(postgres_server) -> None:
    dsn = postgres_server.dsn.replace(postgres_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_an_object_written_is_read_back(s3) -> None:
    client = Minio(s3.endpoint.removeprefix("http://"), s3.access_key, s3.secret_key, secure=False)
    client.make_bucket(s3.bucket)
    client.put_object(s3.bucket, "a/b", io.BytesIO(b"hello"), 5)
    answer = client.get_object(s3.bucket, "a/b")
    assert answer.read() == b"hello"
    answer.close()
    answer.release_conn()
