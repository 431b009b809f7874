"""Processor time of this process and of its Postgres backends: what a measurement costs, however busy the machine is (Linux)."""

import os
import time
from pathlib import Path

from services.common.postgres import Pool

_TICKS = os.sysconf("SC_CLK_TCK")


async def spent(pool: Pool) -> float:
    """Seconds so far, in user and in system mode; backends count in steps of 10 ms."""
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")).fetchall()
    return time.process_time() + sum(_backend(row["pid"]) for row in rows)


def _backend(pid: int) -> float:
    # The name of the process, in parentheses, may hold spaces; behind it utime and stime are the 12th and 13th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
