"""The trainers as callers see them; used by ListRunners."""

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from services.common.postgres import Pool, transaction
from services.task_manager.domain.waiting import Trainers
from services.task_manager.roster import VERSION, Heard, Roster, takes_runs
from services.task_manager.times import to_timestamp
from tunesmith.v1 import task_manager_service_pb2 as api

_MOST_TASKS = 1000
_HELD = """
SELECT runner, id FROM (
    SELECT runner, id, create_time, row_number() OVER (PARTITION BY runner ORDER BY create_time, id) AS number
    FROM task_manager.task WHERE state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING')
) AS held WHERE number <= %(most)s ORDER BY create_time, id
"""


class HeldTasks(Protocol):
    """TasksOfRunners is one."""

    async def by_runner(self) -> Mapping[str, Sequence[str]]:
        """See TasksOfRunners."""


class TasksOfRunners:
    """Raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_runner(self) -> Mapping[str, Sequence[str]]:
        """Names of the tasks that hold processes, oldest first, by the address of their trainer; at most 1,000 of each."""
        found = defaultdict[str, list[str]](list)
        async with transaction(self._pool) as connection:
            for row in await (await connection.execute(_HELD, {"most": _MOST_TASKS})).fetchall():
                found[row["runner"]].append(f"tasks/{row['id']}")
        return found


class Runners:
    """Asks every trainer when it is asked."""

    def __init__(self, roster: Roster, tasks: HeldTasks) -> None:
        self._roster = roster
        self._tasks = tasks

    async def list(self) -> api.ListRunnersResponse:
        """Sorted by name; raises Unavailable."""
        # In this order: who cannot reach the database keeps no strict trainer going (`runner_contact`).
        tasks = await self._tasks.by_runner()
        trainers = await self._roster.ask()
        # One that this task manager is not set to know may still have runs.
        addresses = sorted(self._roster.trainers.keys() | tasks.keys())
        return api.ListRunnersResponse(
            runners=[_runner(address, self._roster.heard.get(address), trainers, tasks.get(address, ())) for address in addresses]
        )


def _runner(address: str, heard: Heard | None, trainers: Trainers, tasks: Sequence[str]) -> api.Runner:
    state, reason = _state(address, heard, trainers)
    runner = api.Runner(name=f"runners/{address}", address=address, state=state, state_reason=reason, tasks=tasks)
    if heard is not None:
        runner.MergeFrom(_told(heard))
    return runner


def _told(heard: Heard) -> api.Runner:
    said = heard.capacity
    return api.Runner(
        version=said.version,
        labels=said.labels,
        total_processes=said.total_processes,
        free_processes=said.free_processes,
        device=said.device,
        total_memory_bytes=said.total_memory_bytes,
        free_memory_bytes=said.free_memory_bytes,
        last_heard_time=to_timestamp(heard.time),
        fenced_after_seconds=said.fenced_after.total_seconds() if said.fenced_after else 0,
    )


def _state(address: str, heard: Heard | None, trainers: Trainers) -> tuple[api.Runner.State.ValueType, str]:
    if address in trainers.silent:
        since = "since this task manager was started" if heard is None else f"since {_text(heard.time)}"
        return api.Runner.SILENT, f"it has not answered {since}"
    if heard is None:
        return api.Runner.SILENT, "this task manager is not set to ask it; it has runs of another one, or of earlier settings"
    if not takes_runs(heard.capacity):
        return api.Runner.INCOMPATIBLE, f"its version {heard.capacity.version} does not fit {VERSION} of the task manager"
    return api.Runner.READY, ""


def _text(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
