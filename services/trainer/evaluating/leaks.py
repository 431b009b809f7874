"""Rows of an evaluation that a model has learned from."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from services.trainer.evaluating.values import Item


def fingerprint(row: Mapping[str, Any]) -> bytes | None:
    """Of what a row says, whatever its spaces and case; of a preference, the question. None for a row without words."""
    if isinstance(row.get("text"), str):
        return hashlib.sha256(_said(row["text"]).encode()).digest()
    asked = row.get("input")
    messages = asked.get("messages") if "messages" not in row and isinstance(asked, dict) else row.get("messages")
    if not isinstance(messages, list):
        return None
    turns = [[str(message.get("role")), _said(message.get("content"))] for message in messages if isinstance(message, dict)]
    return hashlib.sha256(json.dumps(turns).encode()).digest()


def leaked(items: Iterable[Item], trained: Iterable[Mapping[str, Any]]) -> list[int]:
    """Numbers of the items that are also among the rows a model was trained on, ascending."""
    known: dict[bytes, list[int]] = {}
    for item in items:
        if (mark := fingerprint(item.row)) is not None:
            known.setdefault(mark, []).append(item.number)
    found: set[int] = set()
    for row in trained:
        if (mark := fingerprint(row)) in known:
            found.update(known[mark])
    return sorted(found)


def _said(content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
