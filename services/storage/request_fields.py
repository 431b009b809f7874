"""Checks of request fields that several servicers share; used at the edge only."""

from collections.abc import Iterator, Sequence

from services.common.errors import InvalidArgument, ServiceError, Violation

MAX_TEXT = 128


def text_violations(text: str, field: str, *, required: bool = True) -> Iterator[Violation]:
    """What is wrong with a text of 1 to 128 characters (0 to 128 when not required)."""
    if required and not text.strip():
        yield Violation(field, f"is required; 1 to {MAX_TEXT} characters")
    elif len(text) > MAX_TEXT:
        yield Violation(field, f"has {len(text)} characters; at most {MAX_TEXT}")
    # Postgres takes no NUL, and people see control characters as nothing.
    elif any(character < " " or character == "\x7f" for character in text):
        yield Violation(field, "holds a control character")


def checked_text(text: str, field: str, *, required: bool = True) -> str:
    """The text; raises InvalidArgument as `text_violations` says."""
    refuse([*text_violations(text, field, required=required)])
    return text


def refuse(violations: Sequence[Violation]) -> None:
    """Raises InvalidArgument when there are violations."""
    if violations:
        raise InvalidArgument(*violations)


def checked_offset(offset: int, size_bytes: int) -> int:
    """The offset; raises ServiceError (OFFSET_OUT_OF_RANGE) when it is not within 0 and the size."""
    if not 0 <= offset <= size_bytes:
        metadata = {"offset": str(offset), "size_bytes": str(size_bytes)}
        raise ServiceError("OFFSET_OUT_OF_RANGE", f"offset {offset} is not within 0 and {size_bytes}", metadata=metadata)
    return offset
