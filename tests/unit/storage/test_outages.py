"""While the object store is away callers are told so; afterwards everything goes on."""

import datetime
import uuid

import grpc
import pytest
from unit.storage.fakes import Clock, MemoryObjectStore
from unit.storage.service import Service, artifact_messages, dataset_messages, lines, model_files, refused, row

from tunesmith.v1 import artifact_service_pb2, dataset_service_pb2


@pytest.mark.parametrize("what", ["dataset", "artifact", "model"])
async def test_an_upload_while_the_store_is_away_fails_and_works_later(
    service: Service, store: MemoryObjectStore, what: str
) -> None:
    calls = {
        "dataset": lambda: service.upload(lines(row()), request_id=str(uuid.UUID(int=1))),
        "artifact": lambda: service.store_artifact({"a": b"x"}, task=f"tasks/{uuid.UUID(int=1)}"),
        "model": lambda: service.register_model(model_files()),
    }
    store.away = True
    async with refused("OBJECT_STORE_UNAVAILABLE") as refusal:
        await calls[what]()
    assert refusal.code == grpc.StatusCode.UNAVAILABLE
    store.away = False
    assert (await calls[what]()).name


async def test_a_download_while_the_store_is_away_fails_and_works_later(service: Service, store: MemoryObjectStore) -> None:
    dataset = await service.upload(lines(row()))
    store.away = True
    async with refused("OBJECT_STORE_UNAVAILABLE"):
        await service.download(dataset.name)
    store.away = False
    assert await service.download(dataset.name) == lines(row())


async def test_a_delete_while_the_store_is_away_removes_the_row(service: Service, store: MemoryObjectStore) -> None:
    dataset = await service.upload(lines(row()))
    store.away = True
    await service.datasets.DeleteDataset(dataset_service_pb2.DeleteDatasetRequest(name=dataset.name))
    async with refused("DATASET_NOT_FOUND"):
        await service.download(dataset.name)


async def test_an_artifact_past_its_time_is_gone_for_every_reader(service: Service, clock: Clock) -> None:
    artifact = await service.store_artifact({"a": b"x"})
    clock.time += datetime.timedelta(days=15)
    async with refused("ARTIFACT_EXPIRED") as refusal:
        await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert refusal.metadata["expire_time"] == "2026-01-16T00:00:00+00:00"
    assert refusal.message.startswith(f"{artifact.name} expired at 2026-01-16T00:00:00+00:00 and can be restored until ")
    async with refused("ARTIFACT_EXPIRED"):
        await service.download_artifact(artifact.name, "a")
    assert not (await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest())).artifacts


async def test_a_refusal_reaches_a_client_that_has_much_more_to_send(service: Service) -> None:
    big = {"w.bin": bytes(2**20) * 20}
    for messages, call, reason in (
        (artifact_messages(big, epoch=0), service.artifacts.UploadArtifact, "INVALID_FIELD"),
        (dataset_messages(big["w.bin"], display_name=""), service.datasets.UploadDataset, "INVALID_FIELD"),
    ):
        async with refused(reason):
            await call(messages)
