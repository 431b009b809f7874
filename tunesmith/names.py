"""Names: people give bare ids and words in any case, services want whole resource names and enum values."""

import uuid
from typing import Any

from tunesmith.errors import InvalidArgument

COLLECTIONS = ("tasks", "datasets", "artifacts", "baseModels", "models")


def resource_name(collection: str, given: str) -> str:
    """`given` as `collection/id`.

    Raises:
        InvalidArgument: NAME_INVALID when it is empty or names something of another collection.
    """
    prefix, slash, rest = given.strip().partition("/")
    if not slash and prefix:
        return f"{collection}/{prefix}"
    if prefix == collection and rest:
        return given.strip()
    hint = f"Give {collection}/ID or the bare ID."
    raise InvalidArgument(f"{given!r} is not the name of something in {collection}", reason="NAME_INVALID", hint=hint)


def model_name(given: str) -> str:
    """A model to chat with: whole names stay, a bare UUID is a task's result and `UUID@step-N` its checkpoint, `MODEL@…` is
    registered, all else is a base model.
    """
    if "/" in given:
        return given
    before, at, selector = given.partition("@")
    try:
        return f"tasks/{uuid.UUID(before)}{at}{selector}"
    except ValueError:
        return f"models/{given}" if at else f"baseModels/{given}"


def bare_id(name: str) -> str:
    """The last part of a name."""
    return name.rsplit("/", 1)[-1]


def enum_value(enum: Any, word: str, reason: str) -> Any:
    """The value of an enum by its name in any case.

    Raises:
        InvalidArgument: `reason`, with the words that are known.
    """
    known = {name.lower(): number for name, number in enum.items() if number}
    if word.lower() not in known:
        raise InvalidArgument(f"{word!r} is not known", reason=reason, hint=f"Known: {', '.join(known)}.")
    return known[word.lower()]
