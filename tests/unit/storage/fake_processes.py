"""The processes beside the service, played in this one: a checker that knows few rules, and a tokenizer of one token a word."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import pathlib
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from typing import BinaryIO

from google.protobuf import json_format

from services.common.errors import ServiceError
from services.storage.check_outcome import CheckOutcome
from services.storage.checking.budget import Budget
from services.storage.checking.refusal import refusal
from services.storage.dataset import Json, RowIndex
from tunesmith.v1 import dataset_pb2

EVERY = 2
ROLES = ("system", "user", "assistant")


class FakeChecker:
    """Takes rows whose messages have known roles; writes what the real one writes."""

    def __init__(self, rows: BinaryIO | None, dropped: BinaryIO | None, budget: Budget) -> None:
        self._rows, self._dropped, self._budget = rows, dropped, budget
        self._content = bytearray()
        self.broken = False

    async def feed(self, chunk: bytes) -> None:
        if self.broken:
            raise ServiceError("CHECKER_FAILED", "the checker died")
        self._content += chunk

    async def finish(self) -> CheckOutcome:
        good, bad = [], []
        for number, line in enumerate(bytes(self._content).removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            if line.strip():
                violation = self._violation(number, line)
                bad.append((violation, line)) if violation else good.append(line.strip() + b"\n")
        return self._outcome(good, bad)

    def _violation(self, number: int, line: bytes) -> Json | None:
        path, reason, message = "", "DATASET_NOT_JSON", "it is not JSON"
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if row.get("text"):
                return None
            path, reason, message = "messages", "DATASET_MESSAGES_MISSING", '"messages" is missing'
            unknown = [index for index, each in enumerate(row.get("messages") or ()) if each["role"] not in ROLES]
            if row.get("messages") and not unknown:
                return None
            if unknown:
                path, reason, message = f"messages[{unknown[0]}].role", "DATASET_ROLE_UNKNOWN", "the role is unknown"
        return {"line": str(number), "path": path, "reason": reason, "message": message, "hint": "Mend it."}

    def _outcome(self, good: list[bytes], bad: list[tuple[Json, bytes]]) -> CheckOutcome:
        violations = [violation for violation, _ in bad]
        if not good and not bad:
            violations = [{"reason": "DATASET_EMPTY", "message": "the file has no rows", "hint": "Upload rows."}]
        content = b"".join(good)
        offsets = list(itertools.accumulate(map(len, good), initial=0))[: len(good) : EVERY]
        reasons: dict[str, int] = {}
        for violation in violations:
            reasons[violation["reason"]] = reasons.get(violation["reason"], 0) + 1
        accepted = bool(good) and self._covered(len(bad), len(good) + len(bad))
        if accepted:
            self._write(self._rows, content)
            dropped = [{**violation, "row": line.decode()} for violation, line in bad]
            self._write(self._dropped, "".join(json.dumps(row) + "\n" for row in dropped).encode())
        report = {
            "valid": accepted,
            "violations": violations[:100],
            "violationCount": str(len(violations)),
            "violationsByReason": {reason: str(count) for reason, count in reasons.items()},
            "statistics": {"exampleCount": str(len(good)), "duplicateCount": str(len(good) - len(set(good)))},
            "format": "TEXT" if b'"text"' in content else "CHAT",
            "warnings": [{"reason": "DATASET_SMALL", "message": "few rows", "lines": ["1"]}] if len(good) == 1 else [],
            "sizeBytes": str(len(self._content)),
        }
        return CheckOutcome(
            report=report,
            refusal=None if accepted else refusal(json_format.ParseDict(report, dataset_pb2.DatasetReport()), self._budget),
            dropped_rows_by_reason=reasons if bad and accepted else {},
            row_count=len(good),
            rows_size_bytes=len(content),
            rows_sha256=hashlib.sha256(content).hexdigest(),
            rows_equal_file=content == bytes(self._content),
            index=RowIndex(EVERY, offsets),
        )

    def _covered(self, bad: int, all_rows: int) -> bool:
        return self._budget.covers(bad, all_rows)

    def _write(self, target: BinaryIO | None, content: bytes) -> None:
        if target is not None:
            target.write(content)
            target.flush()


class FakeCheckers:
    """Starts fake checkers; `broken` makes them die at the next chunk, `started` counts them."""

    def __init__(self) -> None:
        self.broken = False
        self.started = 0

    @contextlib.asynccontextmanager
    async def start(self, rows: BinaryIO | None, dropped: BinaryIO | None, budget: Budget) -> AsyncIterator[FakeChecker]:
        self.started += 1
        checker = FakeChecker(rows, dropped, budget)
        checker.broken = self.broken
        yield checker


class FakeTokens:
    """One token a word. `counted` counts analyses, `gate_open` holds them up while it is clear."""

    def __init__(self) -> None:
        self.counted = 0
        self.running = 0
        self.most_running = 0
        self.gate_open = asyncio.Event()
        self.gate_open.set()

    async def gate(self, directory: pathlib.Path) -> str:
        template = directory / "chat_template.jinja"
        return template.read_text().removeprefix("broken: ") if template.exists() and "broken" in template.read_text() else ""

    async def preview(
        self, directory: pathlib.Path, rows: Sequence[bytes], first_row: int, max_seq_length: int
    ) -> Sequence[Json]:
        assert (directory / "tokenizer.json").exists()
        return [
            {"row": str(first_row + index), "renderings": [{"text": row.decode(), "trainable_token_count": str(max_seq_length)}]}
            for index, row in enumerate(rows)
        ]

    async def analyze(self, directory: pathlib.Path, chunks: AsyncIterator[bytes], max_seq_length: int, size_bytes: int) -> Json:
        assert (directory / "tokenizer.json").exists()
        self.counted += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate_open.wait()
            content = b"".join([chunk async for chunk in chunks])
            assert len(content) == size_bytes
        finally:
            self.running -= 1
        return {
            "example_count": str(len(content.splitlines())),
            "token_count": str(len(content.split())),
            "max_seq_length": max_seq_length,
        }

    async def overlap(self, chunks: AsyncIterator[bytes], against: AsyncIterator[bytes], size_bytes: int) -> Json:
        rows = b"".join([chunk async for chunk in chunks]).splitlines()
        others = set(b"".join([chunk async for chunk in against]).splitlines())
        same = [str(number) for number, row in enumerate(rows, 1) if row in others]
        return {"same_input_count": str(len(same)), "same_row_count": str(len(same)), "rows": same}


class FakeTasks:
    """Live tasks by dataset or version; `error` is raised instead of an answer, `asked` runs while the question is open."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[str]] = {}
        self.living: set[uuid.UUID] = set()
        self.origins: set[uuid.UUID] = set()
        self.error: Exception | None = None
        self.asked = None

    async def needing(self, dataset: str, limit: int) -> Sequence[str]:
        if self.asked is not None:
            await self.asked()
        if self.error is not None:
            raise self.error
        return self.tasks.get(dataset, [])[:limit]

    async def starting_from_version(self, version: str, limit: int) -> Sequence[str]:
        return await self.needing(version, limit)

    async def alive(self, tasks: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        if self.error is not None:
            raise self.error
        return [task for task in tasks if task in self.living]

    async def starting_from(self, artifacts: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        if self.error is not None:
            raise self.error
        return [artifact for artifact in artifacts if artifact in self.origins]
