"""What an export that tells its progress promises; run against the fakes and against Postgres and S3."""

import io

from unit.storage.retention_suite import FILES, Advance, days
from unit.storage.service import Service, refused

from services.storage.object_store import ObjectStore
from tunesmith.v1.artifact_service_pb2 import ExportArtifactRequest, StreamArtifactExportRequest, StreamArtifactExportResponse


async def steps_of(service: Service, name: str, **fields: str) -> list[StreamArtifactExportResponse]:
    asked = ExportArtifactRequest(name=name, model="models/mine", **fields)
    return [step async for step in service.artifacts.StreamArtifactExport(StreamArtifactExportRequest(export=asked))]


class ExportStreamSuite:
    """Tests take the fixtures `service`, `store` and `advance`."""

    async def test_a_stream_tells_how_far_it_is_and_ends_with_the_version(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        *before, last = await steps_of(service, artifact.name)
        total = sum(map(len, FILES.values()))
        verified = [step.verified_bytes for step in before]
        assert (verified, verified[-1]) == (sorted(set(verified)), total)
        assert {step.total_bytes for step in before} == {total}
        assert not any(step.HasField("model_version") for step in before)
        assert last.model_version == await service.version("models/mine")
        assert last.verified_bytes == last.total_bytes == last.model_version.size_bytes

    async def test_a_stream_that_broke_off_is_begun_again_and_makes_nothing_new(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        first = await steps_of(service, artifact.name, request_id="r")
        (again,) = await steps_of(service, artifact.name, request_id="r")
        assert again.model_version == first[-1].model_version
        assert await service.export(artifact.name, request_id="r") == again.model_version

    async def test_damage_ends_a_stream_with_its_reason(self, service: Service, store: ObjectStore) -> None:
        artifact = await service.store_artifact({"adapter_config.json": b"{}"})
        for key in await service.keys():
            await store.put(key, io.BytesIO(b"[]"), 2)
        async with refused("CHECKSUM_MISMATCH"):
            await steps_of(service, artifact.name)
        async with refused("REGISTERED_MODEL_NOT_FOUND"):
            await service.version("models/mine")

    async def test_what_has_expired_is_refused_before_anything_is_read(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15))
        async with refused("ARTIFACT_EXPIRED"):
            await steps_of(service, artifact.name)

    async def test_a_bad_name_is_refused(self, service: Service) -> None:
        async with refused("INVALID_NAME"):
            await steps_of(service, "models/mine")
