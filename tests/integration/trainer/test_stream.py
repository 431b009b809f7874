"""The stream contract of StreamRunEvents over a real connection."""

import asyncio
import signal

import grpc
import pytest
from trainer_face import Face, assert_dense, eventually
from trainer_scripts import GOOD, HELD, RUNS_ON
from trainer_storage import FakeStorage

from services.common.rich_status import reason_of
from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration


def stream(face: Face, name: str, after: int = 0):
    return face.stub.StreamRunEvents(trainer_service_pb2.StreamRunEventsRequest(name=name, after_sequence=after), timeout=60)


async def test_header_first_end_last_and_never_more_than_500_events_in_between(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "flood", "lines": 2000}, *GOOD), epoch=3)
    await face.watch(name)

    responses = [response async for response in stream(face, name)]

    header, end = responses[0].header, responses[-1].end
    assert (header.first_available_sequence, header.epoch, header.state) == (1, 3, task_pb2.Task.SUCCEEDED)
    assert header.head_sequence == end.head_sequence > 2000
    assert [response.WhichOneof("control") for response in responses[1:-1]] == [None] * (len(responses) - 2)
    assert 0 < max(len(response.events) for response in responses) <= 500
    assert_dense([event for response in responses for event in response.events])


@pytest.mark.parametrize("share", [0, 0.3, 1])
async def test_a_cursor_is_exclusive(face: Face, storage: FakeStorage, share: float) -> None:
    name = await face.submit(storage.add_script({"do": "flood", "lines": 700}, *GOOD))
    everything, _ = await face.watch(name)
    cursor = int(len(everything) * share)

    rest, end = await face.watch(name, after=cursor)

    assert rest == everything[cursor:]
    assert end.state == task_pb2.Task.SUCCEEDED


@pytest.mark.parametrize(
    ("after", "code", "reason"),
    [
        (10_000, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD"),
        (-1, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_a_cursor_that_cannot_be_is_refused(
    face: Face, storage: FakeStorage, after: int, code: grpc.StatusCode, reason: str
) -> None:
    name = await face.submit(storage.add_script(*GOOD))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await face.watch(name, after=after)
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason)


async def test_events_arrive_while_the_run_goes_on(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*HELD, {"do": "result", "step": 2}))
    seen = []
    async for response in stream(face, name):
        seen += response.events
        if any(event.step_metrics.step == 2 for event in response.events):
            assert (await face.get(name)).state == task_pb2.Task.RUNNING
            (face.directory(name) / "go").touch()
    assert_dense(seen)


async def test_a_stopping_face_ends_its_streams_with_the_cursor(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*RUNS_ON))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    seen: list[int] = []

    async def watch() -> grpc.aio.AioRpcError:
        try:
            async for response in stream(face, name):
                seen.extend(event.sequence for event in response.events)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the stream ended as if the run had")

    watching = asyncio.create_task(watch())
    await eventually(lambda: len(seen) >= 2, "no event came")
    await face.end(signal.SIGTERM)

    error = await watching
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")


async def test_readers_at_different_places_see_the_same(face: Face, storage: FakeStorage) -> None:
    script = ({"do": "steps", "first": 1, "last": 100, "pause": 0.005}, {"do": "result", "step": 100})
    name = await face.submit(storage.add_script(*script))

    answers = await asyncio.gather(*(face.watch(name) for _ in range(5)))

    assert all(answer == answers[0] for answer in answers)
