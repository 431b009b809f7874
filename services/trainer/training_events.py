"""What the training process may write into its events pipe, checked; used by the supervisor, which trusts no byte of it."""

import json
from typing import Any

from services.common.catalogue import CATALOGUE
from services.trainer.journal import Event

LINE_LIMIT = 1024 * 1024
"""Longest line of the events pipe, in bytes."""
ALL_RANKS = -1
"""The rank of what concerns all of them alike."""

_MOST_ROWS = 64
_LONGEST_SECONDS = 1e9

_COUNTS = (
    "total_steps",
    "example_count",
    "token_count",
    "target_token_count",
    "trainable_parameter_count",
    "parameter_count",
    "num_processes",
    "resumed_step",
    "cut_example_count",
    "left_out_example_count",
)


class UnreadableEvent(ValueError):
    """The line is no event; the message says why."""


def parse(line: bytes, rank: int) -> Event:
    """An event, or an Event of kind `failure` or `beat`, which are none of the run's events; raises UnreadableEvent."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(f"not JSON: {error}") from error
    kind = value.get("kind") if isinstance(value, dict) else None
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise UnreadableEvent(f"unknown kind {kind!r}")
    return Event(str(kind), parser(value, rank))


def _metrics(value: dict[str, Any], rank: int) -> dict[str, Any]:
    numbers = value.get("values")
    if not isinstance(numbers, dict):
        raise UnreadableEvent("metrics without values")
    # What was not measured is absent, never 0.
    found = {"step": _count(value, "step"), "values": {name: float(n) for name, n in numbers.items() if _is_number(n)}}
    remaining: Any = value.get("remaining_seconds")
    is_known = _is_number(remaining) and 0 <= remaining < _LONGEST_SECONDS
    return found | ({"remaining_seconds": float(remaining)} if is_known else {})


def _training_started(value: dict[str, Any], rank: int) -> dict[str, Any]:
    counts = {name: _count(value, name) for name in _COUNTS}
    return counts | {name: _text(value, name) for name in ("device", "precision")}


def _anomaly(value: dict[str, Any], rank: int) -> dict[str, Any]:
    reason = _text(value, "reason")
    rows = value.get("rows") or []
    if not isinstance(rows, list) or not all(_is_number(row) and 0 < row < 2**63 for row in rows):
        raise UnreadableEvent(f"rows are {rows!r}, not numbers of rows")
    return {
        "reason": reason,
        "message": _text(value, "message"),
        "step": _count(value, "step"),
        "rank": rank if value.get("own") else ALL_RANKS,
        "rows": [int(row) for row in rows[:_MOST_ROWS]],
        "suggestion": _text(value, "suggestion") or suggestion(reason),
    }


def suggestion(reason: str) -> str:
    """What the catalogue advises."""
    return CATALOGUE[reason].hint if reason in CATALOGUE else ""


def _sample_generated(value: dict[str, Any], rank: int) -> dict[str, Any]:
    texts = {name: _text(value, name) for name in ("prompt", "text")}
    return texts | {name: _count(value, name) for name in ("step", "index")} | {"truncated": bool(value.get("truncated"))}


def _beat(value: dict[str, Any], rank: int) -> dict[str, Any]:
    return {"step": _count(value, "step"), "phase": _text(value, "phase"), "rank": rank}


def _checkpoint_saved(value: dict[str, Any], rank: int) -> dict[str, Any]:
    return _metrics(value, rank) | {"name": _text(value, "name"), "size_bytes": _count(value, "size_bytes")}


def _answering_started(value: dict[str, Any], rank: int) -> dict[str, Any]:
    models = value.get("models")
    if not isinstance(models, list):
        raise UnreadableEvent("answering_started without models")
    counts = {name: _count(value, name) for name in ("total_answers", "resumed_answers")}
    return counts | {"models": [str(model) for model in models]}


def _failure(value: dict[str, Any], rank: int) -> dict[str, Any]:
    metadata = value.get("metadata")
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    texts = {name: _text(value, name) for name in ("reason", "message", "error_class", "hint")}
    return texts | {"step": _count(value, "step"), "rank": rank, "metadata": {str(key): str(item) for key, item in pairs}}


_PARSERS = {
    "metrics": _metrics,
    "training_started": _training_started,
    "anomaly": _anomaly,
    "sample_generated": _sample_generated,
    "beat": _beat,
    "checkpoint_saved": _checkpoint_saved,
    "answering_started": _answering_started,
    "failure": _failure,
}


def _count(value: dict[str, Any], name: str) -> int:
    number = value.get(name, 0)
    if not _is_number(number) or not 0 <= number < 2**63:
        raise UnreadableEvent(f"{name} is {number!r}, not a count")
    return int(number)


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name) or ""
    return str(text).encode(errors="replace").decode().replace("\0", "\ufffd")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
