"""Lines of a stream of bytes; used by batches, their files and the files they are made of."""

from collections.abc import AsyncGenerator, AsyncIterable


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
