"""What a task manager relies on of any trainer: asked of the real one and of the one that faults are tried with."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from services.common.rich_status import reason_of
from tests.faults.fake_worker import DEAF, DETACHED_CHILD, FAILS, HOLDS
from tests.faults.trainer_subjects import CAPACITY, Subject, subject_of, survivors
from tests.integration.trainer.trainer_face import eventually, eventually_async
from tunesmith.v1 import task_event_pb2, task_pb2, trainer_service_pb2

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
Task = task_pb2.Task
api = trainer_service_pb2
STEPS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "real"])
async def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
    async with subject_of(request.param, tmp_path_factory.mktemp(request.param)) as subject:
        yield subject


async def submit(trainer: Subject, manner: int = 0, **more: object) -> str:
    run = trainer.make(manner, STEPS, **more)
    await trainer.stub.StartRun(api.StartRunRequest(run=run), timeout=30)
    return str(run.name)


async def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), reason_of(caught.value)


async def get(trainer: Subject, name: str) -> api.Run:
    return await trainer.stub.GetRun(api.GetRunRequest(name=name), timeout=30)


async def watch(trainer: Subject, name: str, after: int = 0) -> list[api.StreamRunEventsResponse]:
    request = api.StreamRunEventsRequest(name=name, after_sequence=after)
    return [message async for message in trainer.stub.StreamRunEvents(request, timeout=60)]


def events(messages: list[api.StreamRunEventsResponse]) -> list[task_event_pb2.TaskEvent]:
    return [event for message in messages for event in message.events]


async def until_running(trainer: Subject, name: str) -> None:
    async def is_running() -> bool:
        run = await get(trainer, name)
        return run.state == Task.RUNNING or run.head_sequence > STEPS

    await eventually_async(is_running, f"{name} trains")


async def end_all(trainer: Subject) -> None:
    for run in (await trainer.stub.ListRuns(api.ListRunsRequest())).runs:
        await trainer.stub.CancelRun(api.CancelRunRequest(name=run.name))
        await watch(trainer, run.name)


async def test_a_stream_has_a_header_then_dense_events_then_the_end(trainer: Subject) -> None:
    name = await submit(trainer, epoch=3)
    messages = await watch(trainer, name)
    header, end = messages[0], messages[-1].end
    assert (header.WhichOneof("control"), header.header.first_available_sequence, header.header.epoch) == ("header", 1, 3)
    numbers = [event.sequence for event in events(messages)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert (end.state, end.head_sequence, bool(end.artifact)) == (Task.SUCCEEDED, len(numbers), True)
    assert [event.step_metrics.step for event in events(messages) if event.HasField("step_metrics")] == [1, 2, 3]
    assert {event.attempt for event in events(messages)} == {1}


async def test_whoever_reads_of_an_end_finds_no_process(trainer: Subject) -> None:
    name = await submit(trainer, DETACHED_CHILD)
    assert (await watch(trainer, name))[-1].end.state == Task.SUCCEEDED
    assert survivors(trainer) == set()


async def test_what_a_run_leaves_is_ended_though_its_trainer_was_killed_meanwhile(trainer: Subject) -> None:
    name = await submit(trainer, DETACHED_CHILD | HOLDS)
    await until_running(trainer, name)
    await trainer.end(signal.SIGKILL)
    living = survivors(trainer)
    (trainer.runs / name.removeprefix("runs/") / "go").touch()
    await eventually(lambda: survivors(trainer) < living, "its training ends")
    await trainer.start()
    assert (await watch(trainer, name))[-1].end.state == Task.SUCCEEDED
    assert survivors(trainer) == set()


async def test_a_cursor_is_exclusive_and_every_reader_is_sent_the_same(trainer: Subject) -> None:
    name = await submit(trainer)
    everything = events(await watch(trainer, name))
    for after in (1, len(everything) // 2, len(everything)):
        assert events(await watch(trainer, name, after)) == everything[after:]


async def test_a_cursor_that_cannot_be_is_refused(trainer: Subject) -> None:
    name = await submit(trainer)
    assert await refusal(watch(trainer, name, 10_000)) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD")
    assert await refusal(watch(trainer, name, -1)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_starting_again_is_answered_with_the_same_run(trainer: Subject) -> None:
    run = trainer.make(HOLDS, STEPS)
    for _ in range(3):
        await trainer.stub.StartRun(api.StartRunRequest(run=run))
    assert [one.name for one in (await trainer.stub.ListRuns(api.ListRunsRequest())).runs].count(run.name) == 1
    await end_all(trainer)


async def test_the_newest_run_is_listed_first(trainer: Subject) -> None:
    names = [await submit(trainer) for _ in range(3)]
    assert [run.name for run in (await trainer.stub.ListRuns(api.ListRunsRequest())).runs][:3] == names[::-1]
    await end_all(trainer)


async def test_what_it_does_not_have_is_not_found(trainer: Subject) -> None:
    name = f"runs/{uuid.uuid4()}-1"
    not_found = (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    for call in (
        get(trainer, name),
        trainer.stub.CancelRun(api.CancelRunRequest(name=name)),
        trainer.stub.PauseRun(api.PauseRunRequest(name=name)),
        watch(trainer, name),
    ):
        assert await refusal(call) == not_found


async def test_it_takes_no_more_than_it_has_room_for(trainer: Subject) -> None:
    async def start(processes: int) -> tuple[grpc.StatusCode, str]:
        return await refusal(submit(trainer, processes=processes))

    assert await start(CAPACITY + 1) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_PROCESSES")
    await submit(trainer, HOLDS, processes=CAPACITY - 1)
    capacity = await trainer.stub.GetCapacity(api.GetCapacityRequest())
    assert (capacity.total_processes, capacity.free_processes, capacity.active_run_count) == (CAPACITY, 1, 1)
    assert await start(2) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
    await end_all(trainer)
    assert (await trainer.stub.GetCapacity(api.GetCapacityRequest())).free_processes == CAPACITY


async def test_an_older_epoch_is_refused_and_a_newer_one_ends_the_run_before(trainer: Subject) -> None:
    task = str(uuid.uuid4())
    older = await submit(trainer, HOLDS, task=task, attempt=1, epoch=4)
    await until_running(trainer, older)
    newer = await submit(trainer, task=task, attempt=2, epoch=5)
    [end] = [message.end for message in await watch(trainer, older) if message.HasField("end")]
    assert (end.state, end.error.reason) == (Task.FAILED, "STALE_EPOCH")
    assert (await watch(trainer, newer))[-1].end.state == Task.SUCCEEDED
    stale = submit(trainer, task=task, attempt=3, epoch=3)
    assert await refusal(stale) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_EPOCH")


@pytest.mark.parametrize("manner", [0, DEAF, DETACHED_CHILD], ids=["plain", "deaf", "detached_child"])
async def test_a_cancelled_run_ends_with_its_whole_tree(trainer: Subject, manner: int) -> None:
    name = await submit(trainer, manner | HOLDS)
    await until_running(trainer, name)
    assert (await trainer.stub.CancelRun(api.CancelRunRequest(name=name))).state == Task.CANCELLING
    end = (await watch(trainer, name))[-1].end
    assert (end.state, end.HasField("error"), end.artifact) == (Task.CANCELLED, False, "")
    assert survivors(trainer) == set()
    assert (await trainer.stub.CancelRun(api.CancelRunRequest(name=name))).state == Task.CANCELLED


async def test_a_run_that_has_ended_stays_as_it_is(trainer: Subject) -> None:
    name = await submit(trainer)
    await watch(trainer, name)
    for ask in (trainer.stub.CancelRun(api.CancelRunRequest(name=name)), trainer.stub.PauseRun(api.PauseRunRequest(name=name))):
        assert (await ask).state == Task.SUCCEEDED


async def test_a_paused_run_fails_with_that_reason(trainer: Subject) -> None:
    name = await submit(trainer, HOLDS)
    await until_running(trainer, name)
    await trainer.stub.PauseRun(api.PauseRunRequest(name=name))
    end = (await watch(trainer, name))[-1].end
    assert (end.state, end.error.reason) == (Task.FAILED, "RUN_PAUSED")


async def test_a_run_that_fails_says_why(trainer: Subject) -> None:
    name = await submit(trainer, FAILS)
    end = (await watch(trainer, name))[-1].end
    assert (end.state, bool(end.error.reason), bool(end.error.message), end.artifact) == (Task.FAILED, True, True, "")


async def test_a_killed_trainer_goes_on_with_the_runs_it_had(trainer: Subject) -> None:
    done, held = await submit(trainer), await submit(trainer, HOLDS)
    before = events(await watch(trainer, done))
    await until_running(trainer, held)
    await trainer.end(signal.SIGKILL)
    await trainer.start()
    assert events(await watch(trainer, done)) == before
    assert (await get(trainer, held)).state == Task.RUNNING
    (trainer.runs / held.removeprefix("runs/") / "go").touch()
    assert (await watch(trainer, held))[-1].end.state == Task.SUCCEEDED


async def test_a_stopping_trainer_ends_its_streams_without_an_end(trainer: Subject) -> None:
    name = await submit(trainer, HOLDS)
    await until_running(trainer, name)
    stream = aiter(trainer.stub.StreamRunEvents(api.StreamRunEventsRequest(name=name), timeout=60))
    assert (await anext(stream)).HasField("header")
    stopping = asyncio.create_task(trainer.end(signal.SIGTERM))
    code, reason = await refusal(_rest(stream))
    await stopping
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    await trainer.start()
    await end_all(trainer)


async def _rest(stream: AsyncIterator[api.StreamRunEventsResponse]) -> None:
    async for message in stream:
        assert not message.HasField("end"), "the run goes on"
