"""Tries an operation until it works, because what a run needs or has made must not be lost over a restart elsewhere; used by
preparation and delivery."""

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

from services.common.catalogue import ErrorClass
from services.common.errors import ServiceError

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_SECONDS_BETWEEN_NOTES = 60.0
_MOST_MISMATCHES = 5


class Note(Protocol):
    """Tells the run's readers what the trainer does for it."""

    def __call__(self, text: str, severity: str = "INFO") -> None:
        """One line; `severity` as the names of LogEntry.Severity."""


async def persist(
    operation: Callable[[], Awaitable[T]],
    *,
    is_final: Callable[[ServiceError], bool],
    note: Note,
    clock: Callable[[], float],
) -> T:
    """The operation's result, however long it takes; raises the first ServiceError that is final.

    `note` gets a line about the first failure and then one a minute. `clock` is monotonic.
    """
    pause, noted, mismatches = _FIRST_PAUSE, -_SECONDS_BETWEEN_NOTES, 0
    while True:
        try:
            return await operation()
        except ServiceError as error:
            mismatches += error.reason == "CHECKSUM_MISMATCH"
            if is_final(error) or mismatches >= _MOST_MISMATCHES:
                raise
            if clock() - noted >= _SECONDS_BETWEEN_NOTES:
                noted = clock()
                note(f"{error.message}; trying again until it works", "WARNING")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def is_not_transient(error: ServiceError) -> bool:
    """Trying again cannot help: before training starts, nothing is lost by saying so."""
    return error.error_class is not ErrorClass.TRANSIENT


def loses_the_result(error: ServiceError) -> bool:
    """The result can never be stored: only then is it given up. A wrong key is the operator's to mend."""
    return error.reason == "STALE_EPOCH" or (error.error_class is ErrorClass.USER and error.reason != "UNAUTHENTICATED")


@contextlib.contextmanager
def disk_trouble_named() -> Iterator[None]:
    """Trouble with files inside becomes DISK_FULL or RUN_PREPARATION_FAILED."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServiceError("DISK_FULL", f"the trainer's disk is full: {error}") from error
        hint = "Check the trainer's data and cache directories."
        raise ServiceError("RUN_PREPARATION_FAILED", f"a file could not be written: {error}", hint=hint) from error
