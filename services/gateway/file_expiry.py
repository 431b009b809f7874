"""`expires_after` of files and uploads, as an object and as fields of a form; used by uploads and upload_form."""

from typing import Any

from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused

_LEAST, _MOST = 3600, 30 * 86_400
_ANCHOR = "created_at"
_FIELDS = ("anchor", "seconds")


def lifetime_of(body: Body) -> int | None:
    """Seconds from `expires_after`; None = the file is kept until it is deleted. Raises InvalidArgument."""
    given = optional(body, "expires_after", dict)
    if not given:
        return None
    if required(given, "anchor", str, "expires_after.") != _ANCHOR:
        raise refused("expires_after.anchor", f"is not {_ANCHOR}, which is the only anchor")
    return _checked(required(given, "seconds", int, "expires_after."))


def lifetime_of_form(fields: dict[str, str]) -> int | None:
    """The same from the fields `expires_after[anchor]` and `expires_after[seconds]` of a form."""
    given: dict[str, Any] = {name: fields[f"expires_after[{name}]"] for name in _FIELDS if f"expires_after[{name}]" in fields}
    if "seconds" in given:
        text = given["seconds"]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise refused("expires_after.seconds", f"{text[:40]!r} is not a whole number")
        given["seconds"] = int(text)
    return lifetime_of({"expires_after": given})


def _checked(seconds: int) -> int:
    if not _LEAST <= seconds <= _MOST:
        raise refused("expires_after.seconds", f"{seconds} is not from {_LEAST} to {_MOST}")
    return seconds
