"""A trainer asks inference for the base model of what trains, and trains all the same where there is none to be asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from trainer_face import Face, eventually
from trainer_scripts import HELD
from trainer_storage import BASE_MODEL, FakeStorage

from tests.ports import free_port
from tunesmith.v1 import inference_service_pb2, inference_service_pb2_grpc, task_pb2

pytestmark = pytest.mark.integration

MakeFace = Callable[..., Awaitable[Face]]
ENDING = ({"do": "result", "step": 2},)


class FakeInference(inference_service_pb2_grpc.InferenceServiceServicer):
    """Loads everything, and remembers what it was asked and with which key."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, str]] = []
        self.address = ""

    async def LoadModel(self, request: inference_service_pb2.LoadModelRequest, context: Any) -> inference_service_pb2.LoadedModel:
        key = dict(context.invocation_metadata()).get("authorization", "")
        self.asked.append((request.model, request.ahead, key))
        return inference_service_pb2.LoadedModel(model=request.model)


@pytest.fixture
async def inference() -> AsyncIterator[FakeInference]:
    fake, server = FakeInference(), grpc.aio.server()
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield fake
    await server.stop(0)


async def succeeds(face: Face, name: str) -> None:
    """Lets a run that is held go on, and waits for its end."""
    (face.directory(name) / "go").touch()
    _, end = await face.watch(name)
    assert end.state == task_pb2.Task.SUCCEEDED


def logged(face: Face) -> str:
    return (face.root / "face.log").read_text()


async def test_the_base_model_is_asked_for_while_the_run_trains(
    make_face: MakeFace, storage: FakeStorage, inference: FakeInference
) -> None:
    face = await make_face(INFERENCE_ADDRESS=inference.address, INFERENCE_API_KEY="a-key")
    name = await face.submit(storage.add_script(*HELD, *ENDING))
    await eventually(lambda: bool(inference.asked), "inference was never asked")
    assert inference.asked == [(BASE_MODEL, True, "Bearer a-key")]
    await succeeds(face, name)


async def test_an_inference_service_that_is_away_changes_nothing(make_face: MakeFace, storage: FakeStorage) -> None:
    face = await make_face(INFERENCE_ADDRESS=f"127.0.0.1:{free_port()}")
    name = await face.submit(storage.add_script(*HELD, *ENDING))
    await eventually(lambda: "INFERENCE_UNAVAILABLE" in logged(face), "it was not told")
    await succeeds(face, name)


async def test_one_that_a_key_would_travel_to_unencrypted_is_not_asked(make_face: MakeFace, storage: FakeStorage) -> None:
    face = await make_face(INFERENCE_ADDRESS="192.0.2.1:1", INFERENCE_API_KEY="a-key")
    await eventually(lambda: "inference.not_asked" in logged(face), "it was not told")
    await succeeds(face, await face.submit(storage.add_script(*HELD, *ENDING)))
