"""The service killed while it sweeps and exports: what was exported stays whole, what has ended goes in the end."""

import asyncio
import contextlib

import grpc
import pytest
from integration.storage.test_process import Start, start
from unit.storage.artifact_suite import until
from unit.storage.service import Service, reason_of

from tunesmith.v1 import artifact_pb2

__all__ = ["start"]

pytestmark = pytest.mark.integration

# Everything ends at once: every instant is one between two phases of some sweep.
HASTE = {
    "TUNESMITH_ARTIFACT_RETENTION": "300ms",
    "TUNESMITH_ARTIFACT_EXPIRY_GRACE": "50ms",
    "TUNESMITH_STORAGE_SWEEP_INTERVAL": "5ms",
    "TUNESMITH_STORAGE_SWEEP_LIMIT": "2",
}


async def work(address: str, round_number: int, exported: dict[str, bytes]) -> None:
    """Stores and exports until the service is gone."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async with grpc.aio.insecure_channel(address) as channel:
            service, number = Service(channel, set), 0
            while True:
                number += 1
                content = b"%d of round %d" % (number, round_number)
                artifact = await service.store_artifact({"w": content, "shared": b"shared"})
                if number % 2:
                    exported[(await service.export(artifact.name, f"models/r{round_number}")).name] = content


async def test_killed_during_sweep_and_export_nothing_is_lost_and_nothing_left(start: Start) -> None:
    exported: dict[str, bytes] = {}
    for round_number in range(4):
        process = start(**HASTE)
        await until(process.answers, seconds=60)
        known = len(exported)
        task = asyncio.create_task(work(process.address, round_number, exported))

        async def has_exported(enough: int = known + 3 + round_number, task: asyncio.Task = task) -> bool:
            return len(exported) >= enough or task.done()

        await until(has_exported, seconds=60)
        process.process.kill()
        await process.ended()
        await task
    assert len(exported) >= 12
    process = start(**HASTE)
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        service = Service(channel, set)

        # An export is a use, which keeps the artifact for an hour; all others have ended.
        async def all_others_deleted() -> bool:
            left = [artifact_pb2.Artifact.AVAILABLE, artifact_pb2.Artifact.EXPIRED]
            return all(artifact.HasField("hold_expire_time") for artifact in await service.list_artifacts(states=left))

        async def nothing_left_to_remove() -> bool:
            return (await service.sweep(dry_run=True)).removed_object_count == 0

        await until(all_others_deleted, seconds=60)
        await until(nothing_left_to_remove, seconds=60)
        assert await service.list_artifacts(states=[artifact_pb2.Artifact.DELETED])
        for name, content in exported.items():
            try:
                assert await service.download_model(name, "w") == content
                assert await service.download_model(name, "shared") == b"shared"
            except grpc.aio.AioRpcError as error:
                pytest.fail(f"{name}: {reason_of(error)}")
