"""Server-sent events: how they are written, and that a reader who leaves ends what feeds them."""

import asyncio
import dataclasses
import datetime
import json
import threading

import pytest
from starlette.requests import Request

from services.common.errors import ServiceError
from services.gateway import identifiers, sse
from tests.unit.gateway.conftest import serving
from tunesmith.v1.task_event_pb2 import Heartbeat, LogEntry, StepMetrics, StreamHeader, TaskEvent
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

SPEC = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny"))


@pytest.fixture
def endless(platform, monkeypatch) -> tuple[str, threading.Event]:
    """A job that runs for ever: the path of its events, and what is set once nobody listens."""
    left = threading.Event()

    def stream(request, context, matches):
        context.add_callback(left.set)
        yield StreamHeader(state=Task.RUNNING)
        sequence = 0
        while not left.wait(0.01):
            sequence += 1
            yield TaskEvent(sequence=sequence, step_metrics=StepMetrics(step=sequence, values={"loss": 1.0}))

    monkeypatch.setattr(platform.tasks, "_stream", stream)
    task = platform.tasks.add(state=Task.RUNNING, spec=SPEC)
    return f"/v1/fine_tuning/jobs/{identifiers.job_id(task.name)}", left


@pytest.mark.parametrize("part", ["events", "metrics"])
async def test_a_reader_that_leaves_ends_the_stream_behind_it(served, endless, part: str) -> None:
    path, left = endless
    numbers = []
    async with served.stream("GET", f"{path}/{part}?stream=true") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                numbers.append(int(line[4:]))
            if len(numbers) == 3:
                break
        assert not left.is_set()
    assert numbers == [1, 2, 3]
    assert await asyncio.to_thread(left.wait, 10)


async def test_silence_is_filled_with_comments_that_are_no_events(http, platform, monkeypatch) -> None:
    def quiet(request, context, matches):
        yield StreamHeader(state=Task.RUNNING)
        yield TaskEvent(sequence=1, log_entry=LogEntry(text="x"))

    monkeypatch.setattr(platform.tasks, "_stream", quiet)
    monkeypatch.setattr(platform.tasks, "_wrap", lambda kind, message, items: kind(heartbeat=Heartbeat(head_sequence=1)))
    task = platform.tasks.add(state=Task.RUNNING, spec=SPEC)
    text = (await http.get(f"/v1/fine_tuning/jobs/{identifiers.job_id(task.name)}/events?stream=true")).text
    assert text == sse.KEEP_ALIVE * 2


def test_an_event_is_one_line_of_json_whatever_it_holds() -> None:
    text = sse.event({"a": "one\ntwo\r\u2028 ü"}, 7)
    assert text.startswith('id: 7\ndata: {"a":"')
    assert text.endswith("\n\n")
    assert text.count("\n") == 3
    assert json.loads(text.split("data: ")[1]) == {"a": "one\ntwo\r\u2028 ü"}
    assert sse.event(1) == "data: 1\n\n"


def present() -> Request:
    """A request whose sender stays."""
    return Request({"type": "http", "method": "GET", "headers": []}, asyncio.Event().wait)


async def collected(events) -> list[str]:
    return [piece async for piece in (await sse.respond(present(), events)).body_iterator]


async def test_a_failure_before_the_first_event_is_raised_and_a_later_one_told() -> None:
    async def broken(after: int):
        for number in range(after):
            yield sse.event(number)
        raise ServiceError("GENERATION_FAILED", "it broke")

    with pytest.raises(ServiceError, match="it broke"):
        await sse.respond(present(), broken(0))
    first, last = await collected(broken(1))
    assert first == "data: 0\n\n"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "generation_failed"


async def test_a_stream_without_events_is_an_empty_one() -> None:
    async def nothing():
        return
        yield ""

    assert await collected(nothing()) == []


async def test_a_slow_start_is_no_reason_to_close(settings, endless) -> None:
    path, _ = endless
    patient = dataclasses.replace(settings, body_timeout=datetime.timedelta(milliseconds=50))
    async with serving(patient) as http, http.stream("GET", f"{path}/events?stream=true") as answer:
        count = 0
        async for line in answer.aiter_lines():
            count += line.startswith("id: ")
            if count == 20:
                break
    assert count == 20
