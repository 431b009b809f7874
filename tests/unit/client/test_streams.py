"""Streams reconnect with the cursor: no gap, no duplicate, and they end only with the end message."""

from collections.abc import Iterator

import pytest

from tunesmith import Client
from tunesmith.errors import NotFound, OutOfRange, Unreachable
from tunesmith.streams import ResumingStream
from tunesmith.v1.task_event_pb2 import Heartbeat, StreamEnd, StreamHeader, TaskEvent
from tunesmith.v1.task_manager_service_pb2 import WatchTaskResponse
from tunesmith.v1.task_pb2 import Task


def header() -> WatchTaskResponse:
    return WatchTaskResponse(header=StreamHeader(head_sequence=9))


def events(*sequences: int) -> WatchTaskResponse:
    return WatchTaskResponse(events=[TaskEvent(sequence=sequence) for sequence in sequences])


def end() -> WatchTaskResponse:
    return WatchTaskResponse(end=StreamEnd(state=Task.SUCCEEDED))


class Script:
    """Connections in order; an exception in one is raised there. Remembers the cursors and the pauses."""

    def __init__(self, *connections):
        self.connections = list(connections)
        self.cursors: list[int] = []
        self.pauses: list[float] = []
        self.now = 0.0

    def connect(self, cursor: int) -> Iterator[WatchTaskResponse]:
        self.cursors.append(cursor)
        for message in self.connections.pop(0):
            if isinstance(message, Exception):
                raise message
            yield message

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def stream(self, after_sequence: int = 0, **options) -> ResumingStream[TaskEvent]:
        return ResumingStream(
            self.connect, lambda r: r.events, after_sequence, sleep=self.sleep, clock=lambda: self.now, **options
        )


def gone() -> Unreachable:
    return Unreachable("gone", grpc_code="UNAVAILABLE")


def sequences(stream: ResumingStream[TaskEvent]) -> list[int]:
    return [event.sequence for event in stream]


def test_it_stops_after_the_end_message_and_keeps_it():
    stream = Script([header(), events(1, 2), end()]).stream()
    assert sequences(stream) == [1, 2]
    assert stream.end.state == Task.SUCCEEDED
    assert stream.header.head_sequence == 9


def test_a_stream_that_closes_without_an_end_is_resumed_with_the_cursor():
    script = Script([header(), events(1, 2)], [header(), events(3)], [header(), end()])
    assert sequences(script.stream()) == [1, 2, 3]
    assert script.cursors == [0, 2, 3]


def test_an_interruption_in_the_middle_is_resumed():
    script = Script([header(), events(1), gone()], [gone()], [header(), events(2), end()])
    assert sequences(script.stream()) == [1, 2]
    assert script.cursors == [0, 1, 1]


def test_an_event_sent_twice_is_seen_once():
    script = Script([header(), events(1, 2), gone()], [header(), events(1, 2, 3), end()])
    assert sequences(script.stream()) == [1, 2, 3]


def test_it_starts_after_the_given_cursor():
    script = Script([header(), events(5, 6), end()])
    assert sequences(script.stream(after_sequence=4)) == [5, 6]
    assert script.cursors == [4]


def test_heartbeats_are_not_items():
    stream = Script([header(), WatchTaskResponse(heartbeat=Heartbeat(head_sequence=1)), events(1), end()]).stream()
    assert sequences(stream) == [1]


def test_pauses_grow_while_nothing_answers_and_start_anew_after_an_answer():
    script = Script([header()], *[[gone()]] * 7, [header(), gone()], [header(), end()])
    sequences(script.stream())
    assert script.pauses[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert script.pauses[8] == 0.2


def test_attempts_are_counted_for_those_who_want_to_say_so():
    attempts: list[int] = []
    script = Script([header()], [gone()], [header(), end()])
    sequences(script.stream(on_interruption=attempts.append))
    assert attempts == [1, 2]


def test_a_service_that_never_answered_is_an_error_at_once():
    with pytest.raises(Unreachable):
        sequences(Script([gone()]).stream())


def test_patience_ends():
    script = Script([header()], *[[gone()]] * 100)
    with pytest.raises(Unreachable):
        sequences(script.stream(patience_seconds=30.0))
    assert script.now < 60


@pytest.mark.parametrize("error", [OutOfRange("old", grpc_code="OUT_OF_RANGE"), NotFound("no", grpc_code="NOT_FOUND")])
def test_what_a_reconnect_does_not_mend_is_raised(error):
    with pytest.raises(type(error)):
        sequences(Script([header(), events(1), error]).stream())


def test_close_ends_the_connection():
    closed = []

    def connect(cursor):
        try:
            yield header()
            yield events(1)
        finally:
            closed.append(cursor)

    stream = ResumingStream(connect, lambda r: r.events)
    with stream:
        next(stream)
    assert closed == [0]


class TestOverTheWire:
    @pytest.fixture
    def task(self, platform):
        from fake_platform import a_run

        return platform.tasks.add(events=a_run(steps=20))

    def test_a_server_that_breaks_the_stream_costs_no_event_and_doubles_none(self, platform, task):
        platform.tasks.break_after = [3, 1, 7, 2]
        platform.tasks.resend = 2
        with Client() as client:
            stream = client.watch_task(task.name)
            assert sequences(stream) == list(range(1, 27))
        assert len(platform.tasks.cursors) == 5
        assert stream.end.artifact == "artifacts/made"

    def test_kinds_filter_on_the_server(self, task):
        with Client() as client:
            seen = list(client.watch_task(task.name, kinds=[TaskEvent.LOG_ENTRY]))
        assert [event.log_entry.text for event in seen] == ["all is well", "careful"]

    def test_metrics_and_logs_are_streams_of_the_same_kind(self, platform, task):
        platform.tasks.break_after = [4, 2]
        with Client() as client:
            assert [point.step for point in client.stream_metrics(task.name)] == list(range(1, 21))
            platform.tasks.break_after = [2]
            assert [line.entry.text for line in client.stream_logs(task.name)] == ["all is well", "careful"]

    def test_wait_returns_the_task_as_it_ended(self, platform, task):
        platform.tasks.break_after = [2]
        with Client() as client:
            assert client.wait(task).state == Task.SUCCEEDED

    def test_events_so_far_cross_pages(self, task):
        with Client() as client:
            assert [event.sequence for event in client.list_events(task.name)] == list(range(1, 27))

    def test_a_task_that_does_not_exist_is_not_waited_for(self, platform):
        with Client() as client, pytest.raises(NotFound):
            client.wait("missing")
