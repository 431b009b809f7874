"""What the database and the trainers' disks say when everything has come to rest, for the verdict."""

import dataclasses
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.postgres import Pool
from services.task_manager.domain.task import State
from services.task_manager.frames import decode
from services.trainer import processes
from tests.faults.fake_run import FakeRun
from tunesmith.v1 import task_event_pb2


@dataclasses.dataclass(frozen=True)
class Move:
    """A row of the history; `before` is None for the first."""

    before: State | None
    after: State
    attempt: int


@dataclasses.dataclass(frozen=True)
class Frame:
    """Events that were stored together."""

    epoch: int
    events: Sequence[task_event_pb2.TaskEvent]


@dataclasses.dataclass(frozen=True)
class TaskEvidence:
    """One task of the database."""

    id: str
    request_id: str
    state: State
    attempt: int
    artifact: str
    head: int
    moves: Sequence[Move]
    frames: Sequence[Frame]

    def events(self) -> list[task_event_pb2.TaskEvent]:
        """All that is stored, as stored."""
        return [event for frame in self.frames for event in frame.events]


@dataclasses.dataclass(frozen=True)
class RunEvidence:
    """One run of a trainer's disk."""

    events: Sequence[task_event_pb2.TaskEvent]
    end: str
    """A state's name; empty = it has none."""
    processes: int = 0
    """That still live."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything."""

    tasks: Sequence[TaskEvidence]
    runs: Mapping[str, Sequence[RunEvidence]]
    """By name; more than one when several trainers have had it."""


async def gather(pool: Pool, roots: Sequence[pathlib.Path]) -> Evidence:
    """Of a database and the directories of trainers."""
    async with pool.connection() as connection:
        query = "SELECT t.*, h.head_sequence FROM task_manager.task t JOIN task_manager.event_head h ON h.task_id = t.id"
        tasks = await (await connection.execute(query)).fetchall()
        moves = await (await connection.execute("SELECT * FROM task_manager.task_transition ORDER BY number")).fetchall()
        frames = await (await connection.execute("SELECT * FROM task_manager.event_frame ORDER BY first_sequence")).fetchall()
    found = [
        TaskEvidence(
            id=str(row["id"]),
            request_id=str(row["request_id"] or ""),
            state=State(row["state"]),
            attempt=row["attempt"],
            artifact=row["artifact"],
            head=row["head_sequence"],
            moves=[_move(move) for move in moves if move["task_id"] == row["id"]],
            frames=[_frame(frame) for frame in frames if frame["task_id"] == row["id"]],
        )
        for row in tasks
    ]
    return Evidence(found, _runs(roots))


def _frame(row: Mapping[str, Any]) -> Frame:
    return Frame(row["epoch"], decode(row["first_sequence"], row["attempt"], row["payload"]))


def _move(row: Mapping[str, object]) -> Move:
    before = State(row["from_state"]) if row["from_state"] else None
    return Move(before, State(row["to_state"]), int(str(row["attempt"])))


def _runs(roots: Sequence[pathlib.Path]) -> dict[str, list[RunEvidence]]:
    runs: dict[str, list[RunEvidence]] = {}
    for root in roots:
        for path in root.iterdir() if root.exists() else ():
            if not path.name.startswith("."):
                runs.setdefault(f"runs/{path.name}", []).append(_run(path))
    return runs


def _run(path: pathlib.Path) -> RunEvidence:
    run, living = FakeRun(path), processes.of_run(path, None)
    end = run.end()
    return RunEvidence(run.events(run.lines()), end["end"] if end else "", len(living))


def new_request() -> str:
    """An id nobody has used."""
    return str(uuid.uuid4())
