"""What somebody with a bad row probably meant; used by `dataset_row` for its messages."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

_OTHER_ROLES = {
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "developer": "system",
}
_OTHER_KEYS = {"role": ("from", "speaker", "author"), "content": ("value", "text", "message", "parts")}
_QUOTED = 60


def quoted(value: Any) -> str:
    """The value in quotes, cut to 60 characters."""
    text = repr(value) if not isinstance(value, str) else value
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")


def for_role(role: Any, roles: Sequence[str]) -> str:
    """Why a role is not taken, and which one was meant."""
    if not isinstance(role, str):
        return f"role {quoted(role)} is not a text"
    lowered = role.strip().lower()
    close = difflib.get_close_matches(lowered[:_QUOTED], roles, n=1)
    meant = _OTHER_ROLES.get(lowered) or (close[0] if close else "")
    return f"role {quoted(role)} is unknown" + (f"; did you mean '{meant}'?" if meant else "")


def for_missing_key(key: str, message: Iterable[str]) -> str:
    """Why a message without `key` is not taken, and which of its keys was probably meant as it."""
    keys = list(message)
    stands_in = [other for other in keys if other in _OTHER_KEYS[key]] or difflib.get_close_matches(key, _short(keys), n=1)
    return f'"{key}" is missing' + (f"; rename {quoted(stands_in[0])} to '{key}'" if stands_in else f"; {_having(keys)}")


def for_missing_messages(row: Iterable[str]) -> str:
    """Why a row without messages is not taken, and how other common layouts become one."""
    keys = list(row)
    if "conversations" in keys:
        return (
            '"messages" is missing; the row is of the "conversations" layout: rename it, "from" to "role", "value" to "content"'
        )
    for question, answer in (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("input", "output")):
        if question in keys and answer in keys:
            return f'"messages" is missing; make "{question}" the content of a user message and "{answer}" the assistant\'s'
    close = difflib.get_close_matches("messages", _short(keys), n=1)
    return '"messages" is missing; ' + (f"did you mean it by {quoted(close[0])}?" if close else _having(keys))


def _having(keys: Sequence[str]) -> str:
    return f"there is {', '.join(quoted(key) for key in keys[:5])}" if keys else "the object is empty"


def _short(keys: Iterable[str]) -> list[str]:
    # Comparing long texts takes quadratic time.
    return [key for key in keys if len(key) <= _QUOTED]
