"""What a followed stream does at its edges: patience, closing, cursors that run ahead, messages that carry several things."""

import pytest

from tunesmith.errors import DataLoss, DeadlineExceeded, FailedPrecondition, PermissionDenied, TunesmithError, Unreachable
from tunesmith.streams import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, PATIENCE_SECONDS, ResumingStream
from tunesmith.v1.task_event_pb2 import Heartbeat, StreamEnd, StreamHeader, TaskEvent
from tunesmith.v1.task_manager_service_pb2 import WatchTaskResponse
from tunesmith.v1.task_pb2 import Task

HEADER = WatchTaskResponse(header=StreamHeader(head_sequence=9, state=Task.RUNNING))
BEAT = WatchTaskResponse(heartbeat=Heartbeat(head_sequence=1))
END = WatchTaskResponse(end=StreamEnd(state=Task.FAILED))
GONE = Unreachable("gone", grpc_code="UNAVAILABLE")


def events(*sequences: int) -> WatchTaskResponse:
    return WatchTaskResponse(events=[TaskEvent(sequence=sequence) for sequence in sequences])


class Line:
    """A scripted line to a service: connections in order, and a clock that only moves when somebody waits."""

    def __init__(self, *connections):
        self.connections = list(connections)
        self.cursors, self.pauses, self.closed = [], [], 0
        self.now = 0.0

    def connect(self, cursor):
        self.cursors.append(cursor)
        try:
            for message in self.connections.pop(0):
                if isinstance(message, Exception):
                    raise message
                if isinstance(message, float):
                    self.now += message
                    continue
                yield message
        finally:
            self.closed += 1

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def stream(self, after_sequence=0, **options) -> ResumingStream[TaskEvent]:
        return ResumingStream(
            self.connect, lambda r: r.events, after_sequence, sleep=self.pause, clock=lambda: self.now, **options
        )


def seen(stream) -> list[int]:
    return [event.sequence for event in stream]


def test_nothing_is_asked_before_the_first_item_is_wanted():
    line = Line([HEADER, END])
    stream = line.stream()
    assert (line.cursors, stream.header, stream.end) == ([], None, None)


def test_after_the_end_it_stays_ended_and_asks_no_more():
    line = Line([HEADER, events(1), END])
    stream = line.stream()
    assert seen(stream) == [1]
    assert seen(stream) == []
    assert line.cursors == [0]


def test_what_follows_the_end_message_is_not_read():
    assert seen(Line([HEADER, events(1), END, events(2)]).stream()) == [1]


def test_several_events_in_one_message_come_one_by_one_and_move_the_cursor_each():
    stream = Line([HEADER, events(1, 2, 3), END]).stream()
    cursors = [stream.last_sequence for _ in stream]
    assert cursors == [1, 2, 3]


def test_gaps_in_the_numbers_are_the_servers_filter_and_no_loss():
    line = Line([HEADER, events(3, 8), GONE], [HEADER, events(21), END])
    assert seen(line.stream()) == [3, 8, 21]
    assert line.cursors == [0, 8]


def test_a_message_cut_within_is_resumed_after_the_last_event_that_was_taken():
    line = Line([HEADER, events(1, 2, 3), END])
    stream = line.stream()
    next(stream)
    stream.close()
    assert stream.last_sequence == 1, "a caller comes back with what it has seen, not with what was sent"


def test_an_event_at_or_before_the_given_cursor_is_not_shown_again():
    assert seen(Line([HEADER, events(3, 4, 5), END]).stream(after_sequence=4)) == [5]


def test_a_newer_header_replaces_the_older():
    line = Line([HEADER, GONE], [WatchTaskResponse(header=StreamHeader(head_sequence=20)), END])
    stream = line.stream()
    assert seen(stream) == []
    assert stream.header.head_sequence == 20


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("key", grpc_code="UNAUTHENTICATED"),
        FailedPrecondition("no", grpc_code="FAILED_PRECONDITION"),
        DataLoss("bad", grpc_code="DATA_LOSS"),
        DeadlineExceeded("late", grpc_code="DEADLINE_EXCEEDED"),
        TunesmithError("bug", grpc_code="INTERNAL"),
    ],
    ids=lambda error: error.grpc_code,
)
def test_only_an_interruption_is_resumed(error):
    line = Line([HEADER, events(1), error])
    stream = line.stream()
    assert next(stream).sequence == 1
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error
    assert line.pauses == []


def test_a_call_that_the_server_cancelled_is_an_interruption():
    line = Line([HEADER, TunesmithError("cancelled", grpc_code="CANCELLED")], [HEADER, events(1), END])
    assert seen(line.stream()) == [1]


def test_errors_of_another_kind_are_bugs_and_pass_through():
    with pytest.raises(ZeroDivisionError):
        seen(Line([HEADER, ZeroDivisionError()]).stream())


def test_patience_is_counted_from_the_last_answer_and_not_from_the_start():
    line = Line([HEADER, 1000.0, BEAT, GONE], *[[GONE]] * 3, [HEADER, events(1), END])
    assert seen(line.stream(patience_seconds=30.0)) == [1]


def test_any_answer_gives_patience_back():
    once = [[GONE]] * 5
    line = Line([HEADER], *once, [BEAT, GONE], *once, [BEAT, GONE], *once, [HEADER, END])
    assert seen(line.stream(patience_seconds=12.0)) == []
    assert line.now > 12.0


def test_the_error_at_the_end_of_patience_is_the_last_one():
    first, last = Unreachable("first", grpc_code="UNAVAILABLE"), Unreachable("last", grpc_code="UNAVAILABLE")
    with pytest.raises(Unreachable, match="last"):
        seen(Line([HEADER], [first], [last]).stream(patience_seconds=FIRST_DELAY_SECONDS * 2))


def test_pauses_never_grow_beyond_the_longest():
    line = Line([HEADER], *[[GONE]] * 40, [HEADER, END])
    seen(line.stream())
    assert max(line.pauses) == LONGEST_DELAY_SECONDS
    assert sum(line.pauses) < PATIENCE_SECONDS


def test_interruptions_are_told_before_the_pause_and_counted_anew_after_an_answer():
    told = []
    line = Line([HEADER, GONE], [GONE], [HEADER, events(1), GONE], [HEADER, END])
    seen(line.stream(on_interruption=lambda attempts: told.append((attempts, len(line.pauses)))))
    assert told == [(1, 0), (2, 1), (1, 2)]


def test_an_uninterrupted_stream_tells_nothing():
    told = []
    seen(Line([HEADER, BEAT, events(1), BEAT, END]).stream(on_interruption=told.append))
    assert told == []


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_closed_stream_gives_nothing_more_and_releases_its_connection(taken):
    line = Line([HEADER, events(1, 2, 3), END])
    with line.stream() as stream:
        for _ in range(taken):
            next(stream)
    assert seen(stream) == []
    assert line.closed == min(taken, 1)


def test_an_error_in_the_callers_block_releases_the_connection():
    line = Line([HEADER, events(1, 2), END])
    with pytest.raises(KeyboardInterrupt), line.stream() as stream:
        next(stream)
        raise KeyboardInterrupt
    assert line.closed == 1


def test_every_connection_is_released_also_the_interrupted():
    line = Line([HEADER, GONE], [GONE], [HEADER], [HEADER, END])
    seen(line.stream())
    assert line.closed == len(line.cursors) == 4
