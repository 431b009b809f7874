"""Streams that outlive connections: they reconnect with the cursor until the end message, without gap and without duplicate."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from tunesmith.errors import TunesmithError, Unreachable
from tunesmith.v1.task_event_pb2 import StreamEnd, StreamHeader

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
PATIENCE_SECONDS = 600.0


class Sequenced(Protocol):
    """What the streams carry: something with a place."""

    sequence: int


Item = TypeVar("Item", bound=Sequenced)


class ResumingStream(Iterator[Item], Generic[Item]):
    """Items of a task in order; reconnects by itself, and stops after the end message, which is then in `end`.

    A service that cannot be reached at first is an error at once. Later, only after `patience_seconds` without any answer.
    """

    def __init__(
        self,
        connect: Callable[[int], Iterator[Any]],
        items_of: Callable[[Any], Sequence[Item]],
        after_sequence: int = 0,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_interruption: Callable[[int], None] = lambda attempts: None,
    ) -> None:
        self.last_sequence = after_sequence
        self.header: StreamHeader | None = None
        self.end: StreamEnd | None = None
        self._connect = connect
        self._items_of = items_of
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        self._clock = clock
        self._on_interruption = on_interruption
        self._last_answer = clock()
        self._attempts = 0
        self._items = self._follow()

    def __next__(self) -> Item:
        return next(self._items)

    def close(self) -> None:
        """Stop following; the task goes on."""
        self._items.close()

    def __enter__(self) -> "ResumingStream[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> Generator[Item, None, None]:
        while self.end is None:
            try:
                yield from self._one_connection()
            except TunesmithError as interruption:
                if not self._may_resume(interruption):
                    raise
            if self.end is None:
                self._check_patience()
                self._attempts += 1
                self._on_interruption(self._attempts)
                self._sleep(min(FIRST_DELAY_SECONDS * 2 ** (self._attempts - 1), LONGEST_DELAY_SECONDS))

    def _one_connection(self) -> Generator[Item, None, None]:
        for response in self._connect(self.last_sequence):
            self._last_answer, self._attempts = self._clock(), 0
            control = response.WhichOneof("control")
            if control == "header":
                self.header = response.header
            elif control == "end":
                self.end = response.end
                return
            for item in self._items_of(response):
                if item.sequence > self.last_sequence:
                    self.last_sequence = item.sequence
                    yield item

    def _check_patience(self) -> None:
        # A proxy may close streams politely without passing a single message on.
        if self._clock() - self._last_answer >= self._patience_seconds:
            raise Unreachable(
                "the stream was closed again and again without a message",
                reason="STREAM_SILENT",
                hint="Look for a proxy between you and the service: tunesmith status.",
            )

    def _may_resume(self, error: TunesmithError) -> bool:
        interrupted = isinstance(error, Unreachable) or error.grpc_code == "CANCELLED"
        patient = self._clock() - self._last_answer < self._patience_seconds
        return interrupted and patient and self.header is not None
