"""Starts the worker process, feeds it rows and reads its answers; used by storage's servicers."""

import asyncio
import json
import math
import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.common.errors import ServiceError
from services.storage.tokens.child import Child, Ended, WorkerFailed

Json = dict[str, Any]

QUICK_SECONDS = 60.0
LONG_SECONDS = 3600.0
SLOWEST_BYTES_PER_SECOND = 50_000
"""A long work is given so many seconds more as its rows need at this speed; a core counts five times as fast."""
_REFUSED = 3


class TokenWorker:
    """At most `processes` long works (analyze, overlap) and as many quick ones (gate, preview) run at once; others wait.

    A process that is cancelled or overdue is killed; a long work may take longer the bigger its input is. Answers are proto JSON
    with the contract's field names. Every method raises ServiceError: what the worker refuses by its own reason,
    TOKEN_WORKER_FAILED when the process fails.
    """

    def __init__(self, *, processes: int = 1, quick_seconds: float = QUICK_SECONDS, long_seconds: float = LONG_SECONDS) -> None:
        self._quick, self._long = asyncio.Semaphore(processes), asyncio.Semaphore(processes)
        self._quick_seconds, self._long_seconds = quick_seconds, long_seconds

    async def gate(self, directory: pathlib.Path) -> str:
        """Why the chat template cannot train, in a sentence; empty when it can. A template that kills the process cannot."""
        try:
            (answer,) = await self._ask_quickly(["gate", "--model", str(directory)], b"", 1)
        except ServiceError as failure:
            if failure.reason == "BASE_MODEL_UNUSABLE" or (isinstance(failure, WorkerFailed) and failure.killed):
                return f"the chat template or the tokenizer cannot be tried: {failure.message}"
            raise
        return str(answer["problem"])

    async def preview(
        self, directory: pathlib.Path, rows: Sequence[bytes], first_row: int, max_seq_length: int
    ) -> Sequence[Json]:
        """Per row a RowPreview; a row is one JSON object, `first_row` the number of the first."""
        arguments = ["preview", "--model", str(directory), "--max-seq-length", str(max_seq_length), "--first-row", str(first_row)]
        return await self._ask_quickly(arguments, b"".join(row.strip() + b"\n" for row in rows), len(rows))

    async def analyze(self, directory: pathlib.Path, chunks: AsyncIterator[bytes], max_seq_length: int, size_bytes: int) -> Json:
        """TokenStatistics without the base model's names; `chunks` are JSON lines of `size_bytes`, cut anywhere."""
        arguments = ["analyze", "--model", str(directory), "--max-seq-length", str(max_seq_length)]
        return await self._ask_patiently(arguments, [chunks], size_bytes)

    async def overlap(self, chunks: AsyncIterator[bytes], against: AsyncIterator[bytes], size_bytes: int) -> Json:
        """DatasetOverlap without the other dataset's name; both are JSON lines, cut anywhere, together of `size_bytes`."""
        return await self._ask_patiently(["overlap"], [chunks, against], size_bytes, second_input="--against-fd")

    async def _ask_patiently(
        self, arguments: Sequence[str], inputs: Sequence[AsyncIterator[bytes]], size_bytes: int, *, second_input: str = ""
    ) -> Json:
        seconds = self._long_seconds + size_bytes / SLOWEST_BYTES_PER_SECOND
        child = Child([*arguments, "--cpu-seconds", str(math.ceil(seconds))], second_input=second_input)
        (answer,) = await self._ask(self._long, child, inputs, seconds)
        return answer

    async def _ask_quickly(self, arguments: Sequence[str], rows: bytes, count: int) -> list[Json]:
        return await self._ask(self._quick, Child(arguments), [_one(rows)], self._quick_seconds, count)

    async def _ask(
        self, slots: asyncio.Semaphore, child: Child, inputs: Sequence[AsyncIterator[bytes]], seconds: float, count: int = 1
    ) -> list[Json]:
        async with slots:
            ended = await child.run(inputs, seconds)
        return _answers(ended, count)


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def _answers(ended: Ended, count: int) -> list[Json]:
    if ended.exit_code not in (0, _REFUSED):
        raise WorkerFailed.of(ended)
    try:
        answers = [json.loads(line) for line in ended.output.splitlines()]
        refused = answers[-1]["error"] if ended.exit_code == _REFUSED else None
        error = ServiceError(refused["reason"], refused["message"], hint=refused["hint"]) if refused else None
    except (ValueError, LookupError, TypeError) as broken:
        raise WorkerFailed(f"the process wrote what is no answer: {ended.output[-200:]!r}") from broken
    if error is not None:
        raise error
    if len(answers) != count:
        raise WorkerFailed(f"the process gave {len(answers)} answers, not {count}")
    return answers
