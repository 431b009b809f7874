"""What downloads straight from the object store promise; run against the fakes and against Postgres and S3."""

import datetime
import io
from collections.abc import Awaitable, Callable

from unit.storage.retention_suite import FILES, Advance, days
from unit.storage.service import Service, checksums, model_files, refused

from services.storage.object_store import ObjectStore
from tunesmith.v1.artifact_service_pb2 import SignArtifactDownloadRequest, SignedDownload
from tunesmith.v1.model_service_pb2 import SignModelDownloadRequest

WEIGHTS = "adapter_model.safetensors"
ReadByUrl = Callable[[str], Awaitable[bytes]]


async def sign(service: Service, name: str, path: str = WEIGHTS) -> SignedDownload:
    return await service.artifacts.SignArtifactDownload(SignArtifactDownloadRequest(name=name, path=path))


async def sign_model(service: Service, name: str, path: str) -> SignedDownload:
    return await service.models.SignModelDownload(SignModelDownloadRequest(name=name, path=path))


class SignedDownloadSuite:
    """Tests take the fixtures `service`, `store`, `read_by_url` and `advance`."""

    async def test_the_url_leads_to_the_bytes_of_the_manifest(self, service: Service, read_by_url: ReadByUrl) -> None:
        artifact = await service.store_artifact(FILES)
        signed = await sign(service, artifact.name)
        assert await read_by_url(signed.url) == FILES[WEIGHTS]
        assert signed.size_bytes == len(FILES[WEIGHTS])
        assert {"sha256": signed.sha256, "blake3": signed.blake3} == checksums(FILES[WEIGHTS])

    async def test_base_models_and_versions_are_read_alike(self, service: Service, read_by_url: ReadByUrl) -> None:
        model = await service.register_model(model_files())
        version = await service.export((await service.store_artifact(FILES)).name, alias="champion")
        signed = await sign_model(service, model.name, "config.json")
        assert await read_by_url(signed.url) == model_files()["config.json"]
        for name in (version.name, "models/mine", "models/mine@champion"):
            assert await read_by_url((await sign_model(service, name, WEIGHTS)).url) == FILES[WEIGHTS]

    async def test_who_has_a_url_has_an_hour(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        before = datetime.datetime.now(datetime.UTC)
        until = (await sign(service, artifact.name)).expire_time.ToDatetime(datetime.UTC)
        hour = datetime.timedelta(hours=1)
        assert before + hour <= until <= datetime.datetime.now(datetime.UTC) + hour

    async def test_what_is_read_is_in_use(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15) - datetime.timedelta(minutes=1))
        await sign(service, artifact.name)
        await advance(datetime.timedelta(minutes=30))
        assert not (await service.sweep()).expired
        await advance(datetime.timedelta(hours=1))
        assert list((await service.sweep()).expired) == [artifact.name]

    async def test_what_has_expired_has_no_url(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15))
        async with refused("ARTIFACT_EXPIRED"):
            await sign(service, artifact.name)

    async def test_what_is_not_there_is_named(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        async with refused("FILE_NOT_FOUND"):
            await sign(service, artifact.name, "other")
        async with refused("BASE_MODEL_NOT_FOUND"):
            await sign_model(service, "baseModels/none", "config.json")
        async with refused("INVALID_NAME"):
            await sign_model(service, artifact.name, WEIGHTS)

    async def test_what_is_known_to_be_damaged_has_no_url(self, service: Service, store: ObjectStore) -> None:
        artifact = await service.store_artifact({WEIGHTS: b"weights"})
        for key in await service.keys():
            await store.put(key, io.BytesIO(b"rotten!"), 7)
        async with refused("FILE_DAMAGED"):
            await service.download_artifact(artifact.name, WEIGHTS)
        async with refused("FILE_DAMAGED"):
            await sign(service, artifact.name)
