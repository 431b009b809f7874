"""Rows of an evaluation that a model has learned from."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from services.trainer.evaluating.values import Item


def fingerprint(row: Mapping[str, Any]) -> bytes | None:
    """Of what a row says, whatever its spaces and case; of a preference, the question. None for a row without words."""
    messages = _messages(row)
    if isinstance(messages, list):
        turns = [[_role(message), _said(message.get("content"))] for message in messages if isinstance(message, dict)]
        return hashlib.sha256(json.dumps(turns).encode()).digest()
    # Other rows may have something beside them that is called so.
    if messages is None and isinstance(row.get("text"), str) and "preferred_output" not in row:
        return hashlib.sha256(_said(row["text"]).encode()).digest()
    return None


def leaked(items: Iterable[Item], trained: Iterable[Mapping[str, Any]]) -> list[int]:
    """Numbers of the items that are also among the rows a model was trained on, ascending."""
    known: dict[bytes, list[int]] = {}
    for item in items:
        for mark in _fingerprints(item.row):
            known.setdefault(mark, []).append(item.number)
    found: set[int] = set()
    for row in trained:
        for mark in _fingerprints(row):
            found.update(known.get(mark, ()))
    return sorted(found)


def _fingerprints(row: Mapping[str, Any]) -> Iterator[bytes]:
    """Of the row, and of the conversation that a labeled one is when the assistant says the label."""
    rows = [row]
    if "label" in row and isinstance(row.get("messages"), list):
        rows.append({"messages": [*row["messages"], {"role": "assistant", "content": str(row["label"])}]})
    return (mark for each in rows if (mark := fingerprint(each)) is not None)


def _messages(row: Mapping[str, Any]) -> object:
    """Those of the row, or of the question of a preference; None where there are none."""
    asked = row.get("input")
    if "preferred_output" in row and "messages" not in row and isinstance(asked, dict):
        return asked.get("messages")
    return row.get("messages")


def _role(message: Mapping[str, Any]) -> str:
    role = str(message.get("role"))
    return "system" if role == "developer" else role


def _said(content: object) -> str:
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
