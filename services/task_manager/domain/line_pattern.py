"""Regular expressions that match in a time proportional to the line, whatever they are; used to filter logs.

RE2 never tries anything twice. Python's own expressions can take for ever, and a reader must not stop the service.
"""

import re2

MAX_LENGTH = 200
_MAX_MEMORY = 1 << 20


class PatternError(Exception):
    """What is wrong with a pattern, as the rest of a sentence that begins with the field."""


class LinePattern:
    """`matches` tells whether the pattern is found anywhere in a line."""

    def __init__(self, text: str) -> None:
        """Raises PatternError for bad syntax and for a pattern that would need more than 1 MiB."""
        if len(text) > MAX_LENGTH:
            raise PatternError(f"has {len(text)} characters; at most {MAX_LENGTH} are permitted")
        options = re2.Options()
        options.max_mem = _MAX_MEMORY
        options.log_errors = False
        try:
            self._pattern = re2.compile(text, options)
        except re2.error as error:
            raise PatternError(f"is no regular expression of RE2: {_text(error)}") from None

    def matches(self, line: str) -> bool:
        """Whether the line, which may have several lines itself, has a part that matches."""
        return self._pattern.search(line) is not None


def _text(error: Exception) -> str:
    cause = error.args[0] if error.args else "it cannot be used"
    return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
