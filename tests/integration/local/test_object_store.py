"""The embedded S3: loopback only, its keys alone, durable over stops and kills."""

import io
import secrets
import signal
from contextlib import contextmanager

import psutil
import pytest
from embedded import bound_to_this_process, running
from minio import Minio
from minio.error import S3Error

from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.ports import is_free, pick_free

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path / "s3", secrets.token_hex(8), secrets.token_hex(16), tuple(pick_free(PORT_COUNT)))


@contextmanager
def server(store: ObjectStore):
    store.initialise()
    command = (*bound_to_this_process("SIGTERM"), *store.command())
    with running(command, store.environment(), store.is_ready, store.directory / "log", signal.SIGTERM) as process:
        yield process


def client(store: ObjectStore, secret: str = "") -> Minio:
    return Minio(store.endpoint.removeprefix("http://"), store.access_key, secret or store.secret_key, secure=False)


def read(store: ObjectStore, key: str) -> bytes:
    answer = client(store).get_object("bucket", key)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def test_objects_survive_a_stop_and_a_kill(store):
    with server(store) as process:
        client(store).make_bucket("bucket")
        client(store).put_object("bucket", "a/b", io.BytesIO(b"hello"), 5)
        process.kill()
        process.wait()
    with server(store):
        assert read(store, "a/b") == b"hello"
        client(store).put_object("bucket", "a/c", io.BytesIO(b"world"), 5)
    assert not store.is_ready()
    assert all(map(is_free, store.ports))
    with server(store):
        assert read(store, "a/c") == b"world"


def test_a_wrong_key_is_refused(store):
    with server(store), pytest.raises(S3Error) as caught:
        client(store, "wrong").list_buckets()
    assert caught.value.code == "SignatureDoesNotMatch"


def test_buckets_are_not_made_by_writing(store):
    with server(store), pytest.raises(S3Error) as caught:
        client(store).put_object("typo", "a", io.BytesIO(b"1"), 1)
    assert caught.value.code == "NoSuchBucket"


def test_it_listens_on_loopback_and_on_the_given_ports_only(store):
    with server(store) as process:
        sockets = [c.laddr for c in psutil.Process(process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in sockets} == {"127.0.0.1"}
    assert {address.port for address in sockets} <= set(store.ports)
