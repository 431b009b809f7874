"""Short ways to check bytes; used by the tests of the dataset checker."""

import io
import json
from typing import Any

from services.storage.checking.budget import Budget
from services.storage.checking.checker import DatasetChecker
from services.storage.checking.outputs import DroppedOutput, RowsOutput

USER = '{"role": "user", "content": "hi"}'
ANSWER = '{"role": "assistant", "content": "yo"}'


def of(*messages: str, more: str = "") -> str:
    """A chat row of these messages."""
    return '{"messages": [' + ", ".join(messages) + "]" + more + "}"


GOOD = of(USER, ANSWER)


class Checked:
    """The outcome of a check with the files it wrote."""

    def __init__(self, content: bytes, *, cut: int = 0, budget: Budget | None = None, **options: Any) -> None:
        rows, dropped = io.BytesIO(), io.BytesIO()
        checker = DatasetChecker(RowsOutput(rows), DroppedOutput(dropped), budget or Budget(), **options)
        size = cut or max(len(content), 1)
        for start in range(0, len(content), size):
            checker.feed(content[start : start + size])
        self.outcome = checker.finish()
        self.rows = rows.getvalue()
        self.dropped = [json.loads(line) for line in dropped.getvalue().splitlines()]
        self.report: dict[str, Any] = self.outcome["report"]
        self.statistics: dict[str, Any] = self.report["statistics"]

    @property
    def places(self) -> list[tuple[int, str, str]]:
        return [(found["line"], found["path"], found["reason"]) for found in self.report["violations"]]

    @property
    def warnings(self) -> dict[str, dict[str, Any]]:
        return {warning["reason"]: warning for warning in self.report["warnings"]}
