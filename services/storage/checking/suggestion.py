"""What somebody with a bad row probably meant; used by the checks of rows for their messages."""

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.storage.checking.quoting import quoted

_OTHER_ROLES = {
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
}
_OTHER_KEYS = {"role": ("from", "speaker", "author"), "content": ("value", "text", "message", "parts")}
_LAYOUTS = (
    (("conversations",), "ShareGPT", "sharegpt"),
    (("conversation",), "ShareGPT", "sharegpt"),
    (("instruction", "output"), "Alpaca", "alpaca"),
    (("instruction", "response"), "Alpaca", "alpaca"),
    (("chosen", "rejected"), "chosen/rejected", "chosen-rejected"),
    (("prompt", "completion"), "prompt/completion", "prompt-completion"),
    (("prompt", "response"), "prompt/completion", "prompt-completion"),
    (("question", "answer"), "question/answer", "prompt-completion"),
    (("input", "output"), "input/output", "prompt-completion"),
    (("text", "label"), "text/label", "text-label"),
)
_WRAPPERS = ("data", "rows", "examples", "train", "items", "records")
_COMPARED = 60
"""Longer texts are not compared: it takes quadratic time."""


def for_role(role: str, roles: Sequence[str]) -> str:
    """Why a role is not taken, and which one was meant."""
    lowered = role.strip().lower()
    meant = _OTHER_ROLES.get(lowered) or closest(lowered, roles)
    return f"role {quoted(role)} is unknown" + (f"; did you mean '{meant}'?" if meant else "")


def for_missing_key(key: str, message: Iterable[str]) -> str:
    """Why a message without `key` is not taken, and which of its keys was probably meant as it."""
    keys = list(message)
    stands_in = [other for other in keys if other in _OTHER_KEYS[key]] or difflib.get_close_matches(key, _short(keys), n=1)
    return f'"{key}" is missing' + (f"; rename {quoted(stands_in[0])} to '{key}'" if stands_in else f"; {having(keys)}")


def for_unknown_key(key: str, known: Sequence[str]) -> str:
    """Why a key is not taken, and which one was meant."""
    meant = closest(key, known)
    return f"the key {quoted(key)} is unknown" + (f"; did you mean '{meant}'?" if meant else f"; known are {', '.join(known)}")


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` is a misspelling of; empty = none."""
    return _closest(word, tuple(known)) if len(word) <= _COMPARED else ""


@functools.lru_cache(4096)
def _closest(word: str, known: tuple[str, ...]) -> str:
    # Rows of one file have the same keys.
    return (difflib.get_close_matches(word, known, n=1, cutoff=0.75) or [""])[0]


def other_layout(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The layout of a row of another kind, as people call it and as `data convert --from` does."""
    return next(((name, option) for keys, name, option in _LAYOUTS if all(key in row for key in keys)), None)


def wrapper(row: Mapping[str, Any]) -> str:
    """The key under which one big object holds all the rows; empty = none."""
    return next((key for key in _WRAPPERS if isinstance(row.get(key), list)), "")


def having(keys: Sequence[str]) -> str:
    """The first keys of an object, quoted."""
    return f"there is {', '.join(quoted(key) for key in keys[:5])}" if keys else "the object is empty"


def _short(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if len(key) <= _COMPARED]
