"""pg_dump and pg_restore as child processes; used by saving and restoring."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.common.errors import ServiceError

SCHEMAS = ("task_manager", "storage")
_CHUNK_BYTES = 2**20


def connection_of(dsn: str) -> tuple[str, dict[str, str]]:
    """How a program is told the database: an argument, and its environment for the password, which an argument would show."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    password = parts.pop("password", "")
    return f"--dbname={make_conninfo(**parts)}", {"PGPASSWORD": password}


@contextlib.asynccontextmanager
async def output_of(command: Sequence[str], environment: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
    """What a program writes, in pieces; raises ServiceError (DATABASE_PROGRAM_FAILED) with its complaints at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.ensure_future(process.stderr.read())
    try:
        yield _chunks(process.stdout)
    finally:
        if process.returncode is None and not process.stdout.at_eof():
            process.kill()
        await process.wait()
    if process.returncode:
        said = " / ".join((await complaints).decode(errors="replace").strip().splitlines()[-3:])
        raise ServiceError("DATABASE_PROGRAM_FAILED", f"{command[0].rpartition('/')[2]} ended with {process.returncode}: {said}")
    await complaints


async def run(command: Sequence[str], environment: dict[str, str]) -> None:
    """A program whose output nobody needs; raises ServiceError (DATABASE_PROGRAM_FAILED)."""
    async with output_of(command, environment) as chunks:
        async for _ in chunks:
            pass


async def _chunks(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await stream.read(_CHUNK_BYTES):
        yield chunk
