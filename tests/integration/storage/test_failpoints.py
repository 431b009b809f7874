"""An upload that breaks at any failpoint of storage is repeated with the same request_id, and there is one artifact."""

import uuid
from collections.abc import Iterator

import grpc
import pytest
from unit.storage.service import Service

from services.common.failpoints import arm

pytestmark = pytest.mark.integration

FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": bytes(range(256)) * 100}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.mark.parametrize("point", ["object.put.before", "object.put.after", "artifacts.add.commit", "artifacts.add.committed"])
async def test_an_upload_that_breaks_is_repeated_and_stored_once(service: Service, point: str) -> None:
    task = f"tasks/{uuid.uuid4()}"
    arm(f"{point}=raise@1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.store_artifact(FILES, task=task)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    artifact = await service.store_artifact(FILES, task=task)
    assert [one.name for one in await service.list_artifacts(task=task)] == [artifact.name]
    for path, content in FILES.items():
        assert await service.download_artifact(artifact.name, path) == content
