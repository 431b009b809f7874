"""A run's events after a cursor, then the new ones as they come; used by the servicer."""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.trainer.history import End, History
from services.trainer.journal import Record
from services.trainer.journal_reader import JournalReader
from services.trainer.run_directory import RunDirectory

_POLL_SECONDS = 0.1
_MOST_EVENTS = 500

Part = list[Record] | int | End
"""Events, or the head when there was nothing to send for a while, or the end."""


def check_cursor(run: RunDirectory, after_sequence: int) -> None:
    """Raises InvalidArgument, and CURSOR_AHEAD when the journal does not have the event yet."""
    if after_sequence < 0:
        raise InvalidArgument(Violation("after_sequence", f"{after_sequence} is negative"))
    head = run.history().head
    if after_sequence > head:
        message = f"{run.request.name} has {head} events, the cursor is {after_sequence}"
        raise ServiceError("CURSOR_AHEAD", message, metadata={"head_sequence": str(head)})


async def follow(
    run: RunDirectory, after_sequence: int, *, stopping: asyncio.Event, idle_seconds: float, clock: Callable[[], float]
) -> AsyncIterator[Part]:
    """Parts in order, the last one is the end; raises SERVER_STOPPING with the cursor when `stopping` is set before.

    Reads no further than its consumer has come, so a slow one costs 256 KiB. `clock` is monotonic.
    """
    history, sent, cursor = History(), clock(), after_sequence
    with JournalReader(run.journal, after_sequence=after_sequence) as reader:
        while history.end is None:
            records = await asyncio.to_thread(reader.read) if reader.has_more() else []
            history = history.after(records)
            events = [record for record in records if "sequence" in record]
            for first in range(0, len(events), _MOST_EVENTS):
                yield events[first : first + _MOST_EVENTS]
            cursor = events[-1]["sequence"] if events else cursor
            sent = clock() if events else sent
            if stopping.is_set():
                raise ServiceError(
                    "SERVER_STOPPING", "the trainer is stopping; resume later", metadata={"after_sequence": str(cursor)}
                )
            if not records:
                if clock() - sent >= idle_seconds:
                    sent = clock()
                    yield cursor
                await asyncio.sleep(_POLL_SECONDS)
    yield history.end
