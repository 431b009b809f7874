"""Lines of a stream of bytes, as JSON; used by batches and evals and by the files of both."""

import json
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from services.gateway.failures import refused


async def lines_in(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Every line that says something, without its end; holds one line and one chunk."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def decoded(line: bytes, what: str) -> Any:
    """The JSON of a line, which is `what`; raises InvalidArgument."""
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeError, too: half of a surrogate pair
        raise refused(what, f"is not JSON: {error}") from None
    return value


def line_of(value: Any) -> bytes:
    """A JSON value as a line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
