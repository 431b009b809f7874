"""Real Postgres and real S3 for tests: started once per session, fresh database and fresh bucket per test."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import minio
import psycopg
import pytest

from services.common.postgres import migrate
from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.ports import pick_free
from tunesmith.local.postgres import USER, Cluster, environment, identity_prefix

START_DEADLINE_SECONDS = 60.0
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server and a bucket name nobody else uses; the bucket is not made yet."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


@contextmanager
def running(
    command: tuple[str, ...], env: Mapping[str, str], ready: Callable[[], bool], log: Path, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that ends with the block, and with the test process whatever happens to it."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not ready():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bound_to_this_process(death_signal: str) -> tuple[str, ...]:
    """Command prefix: the child gets `death_signal` when the test process dies."""
    return (sys.executable, "-P", "-m", "tunesmith.local.child", death_signal, str(os.getpid()))


@contextmanager
def quick_directory() -> Iterator[Path]:
    """An empty directory until the end of the block, in main memory where there is room: most of what a copied database costs
    on a disk are its blocks."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="tunesmith-tests-", dir=_MEMORY if has_room else None) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Cluster]:
    """One Postgres for the whole session."""
    with quick_directory() as directory, _serving_postgres(directory) as cluster:
        yield cluster


@contextmanager
def _serving_postgres(directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(directory=directory, password=secrets.token_hex(8), port=pick_free(1)[0])
    cluster.initialise()
    # Tests measure rules, not disks: without fsync every transaction is several times faster.
    command = (*identity_prefix(), *bound_to_this_process("SIGINT"), *cluster.command(), "-c", "fsync=off")
    with running(command, environment(), cluster.is_ready, directory / "postgres.log", signal.SIGINT):
        # Thousands of connections are made: two thirds of what one costs are the rounds of hashing the password.
        with psycopg.connect(cluster.dsn, autocommit=True) as admin:
            admin.execute("SET scram_iterations = 1")
            admin.execute(f"ALTER ROLE {USER} PASSWORD '{cluster.password}'")
        yield cluster


@contextmanager
def fresh_database(server: Cluster, template: str = "template1") -> Iterator[str]:
    """URL of a copy of `template`; dropped after the block."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        # Copying files is cheaper than logging each of their pages, where nobody waits for the disk.
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    yield server.dsn.rsplit("/", 1)[0] + "/" + name
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def migrated_template(server: Cluster, service: ModuleType) -> str:
    """Name of a database with the tables of a service and no rows: copying it costs a third of migrating an empty one."""
    schema = service.__name__.rpartition(".")[2]
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{schema}"')
    dsn = server.dsn.rsplit("/", 1)[0] + "/" + schema
    asyncio.run(migrate(dsn, schema, Path(str(service.__file__)).with_name("migrations")))
    return schema


@pytest.fixture
def empty_dsn(postgres_server: Cluster) -> Iterator[str]:
    """URL of a fresh, empty database; dropped after the test."""
    with fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def postgres_dsn(empty_dsn: str) -> str:
    """URL of a fresh database: an empty one, or with the tables of the service that a folder is about."""
    return empty_dsn


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """One S3 server for the whole session."""
    with quick_directory() as directory, _serving_s3(directory) as store:
        yield store


@contextmanager
def _serving_s3(directory: Path) -> Iterator[ObjectStore]:
    ports = tuple(pick_free(PORT_COUNT))
    store = ObjectStore(directory=directory, access_key=secrets.token_hex(8), secret_key=secrets.token_hex(16), ports=ports)
    store.initialise()
    command = (*bound_to_this_process("SIGTERM"), *store.command())
    with running(command, store.environment(), store.is_ready, directory / "weed.log", signal.SIGTERM):
        yield store


@pytest.fixture
def s3(s3_server: ObjectStore) -> Iterator[S3]:
    """The S3 server with a bucket name of the test's own; the bucket goes after the test, since each one holds a volume."""
    settings = S3(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, f"test-{uuid.uuid4().hex}")
    yield settings
    address = settings.endpoint.removeprefix("http://")
    client = minio.Minio(address, settings.access_key, settings.secret_key, secure=False, region="us-east-1")
    if client.bucket_exists(settings.bucket):
        for item in list(client.list_objects(settings.bucket, recursive=True)):
            client.remove_object(settings.bucket, item.object_name)
        client.remove_bucket(settings.bucket)
