"""WatchTask, StreamMetrics, StreamLogs, ListEvents and ListMetrics keep the stream contract."""

import asyncio
import math

import grpc
import pytest
from integration.task_manager.fake_peers import FakeRun, FakeTrainer
from integration.task_manager.manager_harness import Platform, reason_and_fields
from stream_contract import check_stream, items

from services.common.postgres import Pool
from tunesmith.v1 import task_event_pb2, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration

DEBUG, ERROR = task_event_pb2.LogEntry.DEBUG, task_event_pb2.LogEntry.ERROR


async def a_finished_task(manager: Platform, trainer: FakeTrainer) -> task_pb2.Task:
    """Three steps; the middle one also has an eval_loss; log lines of two ranks."""

    async def script(run: FakeRun) -> None:
        await run.line("quiet", severity=DEBUG)
        await run.start_training(3)
        await run.step(1, loss=3.0)
        await run.emit(step_metrics=task_event_pb2.StepMetrics(step=2, values={"loss": math.nan, "eval_loss": 2.5}))
        await run.line("bad", rank=1, severity=ERROR)
        await run.step(3, loss=1.0)
        await run.end(task_pb2.Task.SUCCEEDED)

    trainer.script = script
    task = await manager.create()
    return await manager.until(task.name, task_pb2.Task.SUCCEEDED)


async def test_every_cursor_gives_exactly_the_rest(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)

    for after in range(task.head_sequence + 1):
        sequences = check_stream(await manager.watch(task.name, after), after=after)
        assert sequences == list(range(after + 1, task.head_sequence + 1))


async def test_a_cursor_ahead_of_the_head_is_out_of_range(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.watch(task.name, task.head_sequence + 1)

    assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert reason_and_fields(caught.value)[0] == "CURSOR_AHEAD"


async def test_a_cursor_older_than_what_is_kept_is_out_of_range(manager: Platform, trainer: FakeTrainer, pool: Pool) -> None:
    task = await a_finished_task(manager, trainer)
    async with pool.connection() as connection:
        await connection.execute("UPDATE task_manager.event_head SET first_available_sequence = 4")
        await connection.execute("DELETE FROM task_manager.event_frame WHERE last_sequence < 4")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.watch(task.name, 2)

    assert caught.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert reason_and_fields(caught.value)[0] == "CURSOR_EXPIRED"
    check_stream(await manager.watch(task.name, 3), after=3)


async def test_an_event_missing_in_the_store_is_an_error_and_never_skipped(
    manager: Platform, trainer: FakeTrainer, pool: Pool
) -> None:
    task = await a_finished_task(manager, trainer)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM task_manager.event_frame WHERE first_sequence = 2")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.watch(task.name)

    assert caught.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("method", ["WatchTask", "StreamMetrics", "StreamLogs"])
async def test_streams_refuse_a_negative_cursor_and_an_unknown_task(manager: Platform, method: str) -> None:
    task = await manager.create()
    request = {"WatchTask": api.WatchTaskRequest, "StreamMetrics": api.StreamMetricsRequest, "StreamLogs": api.StreamLogsRequest}
    call = getattr(manager.stub, method)

    with pytest.raises(grpc.aio.AioRpcError) as negative:
        await call(request[method](name=task.name, after_sequence=-1)).read()
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await call(request[method](name="tasks/44444444-4444-4444-8444-444444444444")).read()
    with pytest.raises(grpc.aio.AioRpcError) as unnamed:
        await call(request[method](name="datasets/x")).read()

    assert reason_and_fields(negative.value) == ("INVALID_FIELD", ["after_sequence"])
    assert reason_and_fields(unknown.value)[0] == "TASK_NOT_FOUND"
    assert reason_and_fields(unnamed.value) == ("INVALID_NAME", ["name"])


async def test_an_idle_stream_sends_heartbeats_with_the_head(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()
    messages = []

    async for message in manager.stub.WatchTask(api.WatchTaskRequest(name=task.name)):
        messages.append(message)
        if [one.WhichOneof("control") for one in messages].count("heartbeat") == 2:
            break

    check_stream(messages, complete=False)
    assert messages[-1].heartbeat.head_sequence == 1
    assert messages[-1].heartbeat.HasField("time")


async def test_a_reader_of_a_filter_gets_heartbeats_while_only_other_events_come(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()

    async def chatter() -> None:
        for number in range(1, 10_000):
            await run.step(number)
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(chatter())
    kinds = [task_event_pb2.TaskEvent.ARTIFACT_CREATED]
    async for message in manager.stub.WatchTask(api.WatchTaskRequest(name=task.name, kinds=kinds)):
        assert not message.events
        if message.WhichOneof("control") == "heartbeat" and message.heartbeat.head_sequence > 5:
            break
    talking.cancel()


async def test_kinds_select_events(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)
    kinds = [task_event_pb2.TaskEvent.STATE_CHANGE, task_event_pb2.TaskEvent.TRAINING_STARTED]

    messages = await manager.watch(task.name, kinds=kinds)

    check_stream(messages, filtered=True)
    found = {event.WhichOneof("event") for message in messages for event in message.events}
    assert found == {"state_change", "training_started"}


async def test_metric_streams_carry_points_with_only_the_named_metrics(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)

    every = [message async for message in manager.stub.StreamMetrics(api.StreamMetricsRequest(name=task.name))]
    check_stream(every, filtered=True)
    request = api.StreamMetricsRequest(name=task.name, metrics=["eval_loss"])
    some = [message async for message in manager.stub.StreamMetrics(request)]
    check_stream(some, filtered=True)

    points = [point for message in every for point in message.points]
    assert [point.step for point in points] == [1, 2, 3]
    assert math.isnan(points[1].values["loss"])
    assert "eval_loss" not in points[0].values, "what was not measured is absent"
    assert [dict(point.values) for message in some for point in message.points] == [{"eval_loss": 2.5}]
    assert {point.attempt for point in points} == {1}


@pytest.mark.parametrize(
    ("selection", "texts"),
    [
        ({}, ["quiet", "bad"]),
        ({"min_severity": ERROR}, ["bad"]),
        ({"ranks": [0]}, ["quiet"]),
        ({"ranks": [1], "min_severity": DEBUG}, ["bad"]),
        ({"ranks": [-1]}, []),
        ({"contains": "BA"}, ["bad"]),
        ({"pattern": "^(qui|ba)", "min_severity": DEBUG}, ["quiet", "bad"]),
    ],
)
async def test_log_streams_select_by_severity_and_rank(
    manager: Platform, trainer: FakeTrainer, selection: dict[str, object], texts: list[str]
) -> None:
    task = await a_finished_task(manager, trainer)

    messages = [message async for message in manager.stub.StreamLogs(api.StreamLogsRequest(name=task.name, **selection))]

    check_stream(messages, filtered=True)
    assert [line.entry.text for message in messages for line in message.lines] == texts


async def test_a_long_history_is_sent_in_messages_of_bounded_size(manager: Platform, trainer: FakeTrainer) -> None:
    async def script(run: FakeRun) -> None:
        await run.start_training(1200)
        for number in range(1, 1201):
            await run.step(number)
        for _ in range(60):
            await run.line("x" * 16_000)
        await run.end(task_pb2.Task.SUCCEEDED)

    trainer.script = script
    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    messages = await manager.watch(task.name)

    check_stream(messages)
    assert max(len(message.events) for message in messages) <= 500
    assert max(message.ByteSize() for message in messages) <= 300 * 1024


async def test_a_deleted_task_ends_its_streams_with_not_found(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()
    stream = manager.stub.WatchTask(api.WatchTaskRequest(name=task.name, kinds=[task_event_pb2.TaskEvent.ANOMALY]))
    reader = aiter(stream)
    assert (await anext(reader)).HasField("header")

    await manager.stub.CancelTask(api.CancelTaskRequest(name=task.name))
    await manager.stub.DeleteTask(api.DeleteTaskRequest(name=task.name))

    async with asyncio.timeout(20):
        try:
            rest = [message async for message in reader]
            assert rest[-1].HasField("end"), "it was fast enough to see the end"
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise


async def test_a_stopping_server_ends_streams_as_unavailable_with_the_cursor(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()
    stream = manager.stub.WatchTask(api.WatchTaskRequest(name=task.name))
    assert (await stream.read()).HasField("header")
    assert items(await stream.read())

    stopping = asyncio.create_task(manager.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await stream.read() is not grpc.aio.EOF:
            pass
    await stopping

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert reason_and_fields(caught.value)[0] == "SERVER_STOPPING"
    assert "resume after sequence 1" in (caught.value.details() or "")


async def test_readers_at_different_paces_do_not_disturb_each_other(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    slow = aiter(manager.stub.WatchTask(api.WatchTaskRequest(name=task.name)))
    await anext(slow)
    readers = [asyncio.create_task(manager.watch(task.name)) for _ in range(5)]

    await run.succeed(300)
    streams = await asyncio.gather(*readers)

    for messages in streams:
        check_stream(messages)
    rest = [message async for message in slow]
    assert sum(len(message.events) for message in rest) == sum(len(message.events) for message in streams[0])


async def test_pages_of_events_join_to_the_whole(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)
    found, after = [], 0

    while True:
        page = await manager.stub.ListEvents(api.ListEventsRequest(name=task.name, after_sequence=after, page_size=2))
        assert len(page.events) <= 2
        assert page.head_sequence == task.head_sequence
        found += [event.sequence for event in page.events]
        after = page.next_after_sequence
        if not after:
            break

    assert found == list(range(1, task.head_sequence + 1))


async def test_pages_of_events_by_kind_end_with_the_last_of_the_kind(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)
    kinds = [task_event_pb2.TaskEvent.STEP_METRICS]

    first = await manager.stub.ListEvents(api.ListEventsRequest(name=task.name, page_size=2, kinds=kinds))
    request = api.ListEventsRequest(name=task.name, page_size=2, kinds=kinds, after_sequence=first.next_after_sequence)
    second = await manager.stub.ListEvents(request)

    assert [event.step_metrics.step for event in [*first.events, *second.events]] == [1, 2, 3]
    assert second.next_after_sequence == 0


async def test_metric_history_is_sorted_and_complete(manager: Platform, trainer: FakeTrainer) -> None:
    task = await a_finished_task(manager, trainer)

    answer = await manager.stub.ListMetrics(api.ListMetricsRequest(name=task.name))

    assert [series.metric for series in answer.series] == ["epoch", "eval_loss", "loss", "tokens", "tokens_per_second"]
    assert answer.head_sequence == task.head_sequence
    loss = answer.series[2]
    assert [sample.step for sample in loss.samples] == [1, 2, 3]
    assert loss.sample_count == 3
    assert math.isnan(loss.samples[1].value)


async def test_metric_history_is_thinned_out(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = lambda run: run.succeed(100)
    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    answer = await manager.stub.ListMetrics(api.ListMetricsRequest(name=task.name, metrics=["loss"], max_points=10))

    (loss,) = answer.series
    assert len(loss.samples) <= 10
    assert (loss.samples[0].step, loss.samples[-1].step, loss.sample_count) == (1, 100, 100)


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        ("ListEvents", api.ListEventsRequest(page_size=-1), "page_size"),
        ("ListEvents", api.ListEventsRequest(after_sequence=-1), "after_sequence"),
        ("ListMetrics", api.ListMetricsRequest(max_points=-1), "max_points"),
    ],
)
async def test_lists_refuse_negative_numbers(
    manager: Platform, method: str, request_message: api.ListEventsRequest | api.ListMetricsRequest, field: str
) -> None:
    request_message.name = (await manager.create()).name

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(manager.stub, method)(request_message)

    assert reason_and_fields(caught.value) == ("INVALID_FIELD", [field])
