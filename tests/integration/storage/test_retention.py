"""Expiry goes by the clock of the database."""

import datetime

import psycopg
import pytest
from unit.storage.artifact_suite import until
from unit.storage.service import Service, refused

from services.common.postgres import Pool, transaction
from tunesmith.v1 import artifact_service_pb2

pytestmark = pytest.mark.integration


class TestTinyRetention:
    @pytest.fixture
    def retention(self) -> datetime.timedelta:
        return datetime.timedelta(milliseconds=1)

    async def test_an_artifact_past_its_time_is_gone_for_every_reader(self, service: Service) -> None:
        artifact = await service.store_artifact({"a": b"x"})

        async def none_listed() -> bool:
            listed = await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest())
            return not listed.artifacts

        await until(none_listed)
        async with refused("ARTIFACT_EXPIRED") as refusal:
            await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name))
        expected = artifact.expire_time.ToDatetime(datetime.UTC).isoformat(timespec="seconds")
        assert refusal.metadata["expire_time"] == expected
        assert expected in refusal.message
        async with refused("ARTIFACT_EXPIRED"):
            await service.download_artifact(artifact.name, "a")


async def test_an_artifact_that_was_deleted_is_not_found(service: Service, pool: Pool) -> None:
    artifact = await service.store_artifact({"a": b"x"})
    async with transaction(pool) as connection:
        await connection.execute("UPDATE storage.artifact SET state = 'DELETED'")
    async with refused("ARTIFACT_NOT_FOUND"):
        await service.download_artifact(artifact.name, "a")
    assert not (await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest())).artifacts


async def test_bytes_that_a_row_refers_to_cannot_lose_their_blob(service: Service, pool: Pool) -> None:
    await service.store_artifact({"a": b"x"})
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with transaction(pool) as connection:
            await connection.execute("DELETE FROM storage.blob")
