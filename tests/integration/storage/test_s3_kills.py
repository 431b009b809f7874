"""The S3 server killed in the middle of uploads, exports and sweeps: what was acknowledged is whole, and the rest is swept."""

import asyncio
import contextlib
import datetime
import itertools
import pathlib
import secrets
import signal

import grpc
import pytest
from embedded import bound_to_this_process, running
from integration.storage.conftest import postgres_repositories
from unit.storage.artifact_suite import until
from unit.storage.scrub_suite import scrub
from unit.storage.service import Service, running_service

from services.common.errors import ServiceError
from services.common.names import registered_name
from services.common.postgres import Pool
from services.storage.object_store import MinioObjectStore
from services.storage.sweeper import BLOBS
from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.ports import pick_free
from tunesmith.v1 import artifact_pb2, artifact_service_pb2

pytestmark = pytest.mark.integration
State = artifact_pb2.Artifact


async def work(service: Service, stored: dict[str, bytes], exported: dict[str, bytes]) -> None:
    """Stores, exports, ends and sweeps until the server is gone."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        for number in itertools.count():
            content = secrets.token_bytes(200_000)
            artifact = await service.store_artifact({"w": content, "shared": b"shared"})
            stored[artifact.name] = content
            if number % 2:
                exported[(await service.export(artifact.name)).name] = content
            if number % 3 == 0:
                await service.expire(artifact.name)
                del stored[artifact.name]
            await service.sweep()


async def test_a_killed_s3_server_loses_nothing_that_was_acknowledged(pool: Pool, tmp_path: pathlib.Path, advance) -> None:
    directory = tmp_path / "s3"
    server = ObjectStore(directory, secrets.token_hex(8), secrets.token_hex(16), tuple(pick_free(PORT_COUNT)))
    server.initialise()
    command = (*bound_to_this_process("SIGTERM"), *server.command())
    store = MinioObjectStore(server.endpoint, access_key=server.access_key, secret_key=server.secret_key, bucket="kills")
    stored: dict[str, bytes] = {}
    exported: dict[str, bytes] = {}
    async with running_service(postgres_repositories(pool), store, set) as service:
        with running(command, server.environment(), server.is_ready, tmp_path / "first.log", signal.SIGKILL) as process:
            await store.prepare()
            task = asyncio.create_task(work(service, stored, exported))

            async def busy() -> bool:
                return len(stored) >= 8 or task.done()

            await until(busy, seconds=60)
            process.kill()
            await task
        assert len(exported) >= 3
        with running(command, server.environment(), server.is_ready, tmp_path / "second.log", signal.SIGTERM):

            async def serves() -> bool:
                with contextlib.suppress(ServiceError):
                    await store.probe()
                    return True
                return False

            await until(serves, seconds=90)
            for name, content in stored.items():
                assert await service.download_artifact(name, "w") == content
            for name, content in exported.items():
                assert await service.download_model(name, "w") == content
            # Whatever else a row refers to is whole as well; what none refers to goes.
            await advance(datetime.timedelta(days=31))
            await scrub(service)
            check = await service.artifacts.GetStorageCheck(artifact_service_pb2.GetStorageCheckRequest())
            assert (check.overdue_bytes, list(check.damages)) == (0, [])
            for _ in range(4):
                await advance(datetime.timedelta(days=4))
                await service.sweep()
            assert not await service.list_artifacts(states=[State.AVAILABLE, State.EXPIRED])
            referred = {file.object_key for name in exported for file in (await version(service, name)).files}
            assert {item.key for item in await store.list(BLOBS)} == referred


async def version(service: Service, name: str):
    return await service.repositories.registry.version(registered_name(name))
