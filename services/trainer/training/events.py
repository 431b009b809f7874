"""What a run reports while it runs: one JSON object a line on an inherited pipe; the trainer's supervisor reads it."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.common.errors import ServiceError
from services.trainer.training.answer import Answer

# A write of at most PIPE_BUF (4,096 on Linux) bytes is atomic: lines of several ranks in the same pipe never mix.
LINE_LIMIT = 4096
_LONGEST_TEXT = 1500


class EventSink(Protocol):
    """Where facts of the run go. Ranks other than the first have one that drops them, so nobody else asks for the rank."""

    def started(self, values: Mapping[str, Any]) -> None:
        """The loop begins; `values` say how long it will be."""

    def metrics(self, step: int, values: Mapping[str, float], remaining: float | None = None) -> None:
        """Numbers measured at optimizer step `step`; NaN and Infinity are sent as they are. `remaining` seconds to the end."""

    def anomaly(self, reason: str, message: str, step: int, *, rows: Sequence[int] = (), suggestion: str = "") -> None:
        """Something that should worry the user; without a suggestion it gets the catalogue's."""

    def sample(self, step: int, answer: Answer) -> None:
        """What the model answers after this step."""

    def checkpoint_saved(self, step: int, name: str, size_bytes: int, metrics: Mapping[str, float]) -> None:
        """A checkpoint is durable; `name` is its directory's, `metrics` are the last values of all metrics."""

    def beat(self, step: int, phase: str = "") -> None:
        """This rank moves: a step is done, or with phase `busy` a part of something else. Phase `end`: there are no more.

        Between `saving` and `saved` its part of a checkpoint is being written; both may come from another thread.
        """


class FdSink:
    """Writes to a file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def started(self, values: Mapping[str, Any]) -> None:
        self._write({"kind": "training_started", **values})

    def metrics(self, step: int, values: Mapping[str, float], remaining: float | None = None) -> None:
        outlook = {} if remaining is None else {"remaining_seconds": remaining}
        self._write({"kind": "metrics", "step": step, "values": dict(values)} | outlook)

    def anomaly(self, reason: str, message: str, step: int, *, rows: Sequence[int] = (), suggestion: str = "") -> None:
        told = {"reason": reason, "message": _shortened(message), "step": step}
        self._write({"kind": "anomaly", **told, "rows": list(rows), "suggestion": _shortened(suggestion, 500)})

    def sample(self, step: int, answer: Answer) -> None:
        texts = {"prompt": _shortened(answer.prompt, 1000), "text": _shortened(answer.text)}
        place = {"step": step, "index": answer.index, "truncated": answer.truncated}
        self._write({"kind": "sample_generated", **place, **texts})

    def checkpoint_saved(self, step: int, name: str, size_bytes: int, metrics: Mapping[str, float]) -> None:
        record = {"kind": "checkpoint_saved", "step": step, "name": name, "size_bytes": size_bytes, "values": dict(metrics)}
        self._write(record)

    def beat(self, step: int, phase: str = "") -> None:
        self._write({"kind": "beat", "step": step, "phase": phase})

    def failure(self, error: ServiceError, step: int) -> None:
        """The run ends here. Every rank may write one; the first that arrives counts."""
        self._write(
            {
                "kind": "failure",
                "reason": error.reason,
                "message": _shortened(error.message),
                "error_class": error.error_class.value,
                "hint": error.hint,
                "step": step,
                "metadata": {name: _shortened(value, 200) for name, value in error.metadata.items()},
            }
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            raise ValueError(f"an event of {len(line)} bytes is longer than a pipe writes at once ({LINE_LIMIT})")
        os.write(self._fd, line)


class NullSink:
    """Drops everything."""

    def started(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, step: int, values: Mapping[str, float], remaining: float | None = None) -> None:
        pass

    def anomaly(self, reason: str, message: str, step: int, *, rows: Sequence[int] = (), suggestion: str = "") -> None:
        pass

    def sample(self, step: int, answer: Answer) -> None:
        pass

    def checkpoint_saved(self, step: int, name: str, size_bytes: int, metrics: Mapping[str, float]) -> None:
        pass

    def beat(self, step: int, phase: str = "") -> None:
        pass


class BeatSink(NullSink):
    """Only says that its rank moves; for the ranks that tell nothing else."""

    def __init__(self, told: EventSink) -> None:
        self._told = told

    def beat(self, step: int, phase: str = "") -> None:
        self._told.beat(step, phase)


def _shortened(text: str, limit: int = _LONGEST_TEXT) -> str:
    """At most `limit` bytes as JSON: control characters and non-ASCII letters take up to 12 each there."""
    while len(json.dumps(text)) - 2 > limit:
        text = text[: max(1, len(text) * 9 // 10 - 1)].rstrip("…") + "…"
    return text
