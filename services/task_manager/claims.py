"""Claims and leases in Postgres: who owns which task; used by the dispatcher and the followers.

The invariant: at any moment at most one process can write for a task, the one whose (epoch, owner) stands in the event head.
A claim of a QUEUED task increments the epoch and starts a new run. An adoption, after the lease ran out or was released, only
replaces the owner: the run goes on under the same name and numbering, so its epoch stays. An owner's id is new for every
process and never used again, so (epoch, owner) never returns. Every write of an owner locks the head and compares both first;
whoever was replaced finds another pair and gets StaleClaim, however late it comes. The lease only says when adopting is polite;
nothing relies on a process noticing that its lease ran out. Only the database's clock is compared.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.failpoints import failpoint
from services.common.postgres import Pool, session, transaction
from services.task_manager import assignments, follow_ups, run_speeds, runner_contact, state_changes
from services.task_manager.domain.attempt import after_loss, moves
from services.task_manager.domain.backoff import rest
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.task import Change, State
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.hub import Hub

_ADOPT = """
WITH orphan AS (
    SELECT h.task_id
    FROM task_manager.task t
    JOIN task_manager.event_head h ON h.task_id = t.id
    WHERE t.state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING') AND (h.owner IS NULL OR h.lease_expire_time < now())
    FOR NO KEY UPDATE OF h SKIP LOCKED
)
UPDATE task_manager.event_head h
SET owner = %(owner)s, lease_expire_time = now() + %(lease)s
FROM orphan WHERE h.task_id = orphan.task_id
"""
_ACTIVE = "t.state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING')"


class ClaimRepository:
    """All methods are short transactions without any call to others inside; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub, *, owner: uuid.UUID, lease: datetime.timedelta) -> None:
        self._pool = pool
        self._hub = hub
        self._owner = owner
        self._lease = lease

    async def adopt(self) -> int:
        """Takes over every active task without a living owner; returns how many."""
        # One statement, several times a second: a transaction around it would be three.
        async with session(self._pool) as connection:
            failpoint("claims.adopt.commit")
            cursor = await connection.execute(_ADOPT, self._parameters())
            failpoint("claims.adopt.committed")
            return cursor.rowcount

    async def renew(self) -> None:
        """Extends the lease of everything this process owns, in one statement."""
        async with transaction(self._pool, "claims.renew") as connection:
            await connection.execute(
                "UPDATE task_manager.event_head SET lease_expire_time = now() + %(lease)s WHERE owner = %(owner)s",
                self._parameters(),
            )

    async def release(self) -> None:
        """Gives up everything this process owns, so that a successor adopts it at once."""
        async with transaction(self._pool, "claims.release") as connection:
            await connection.execute(
                "UPDATE task_manager.event_head SET owner = NULL, lease_expire_time = NULL WHERE owner = %(owner)s",
                self._parameters(),
            )

    async def owned(self) -> Sequence[Assignment]:
        """Every active task this process owns."""
        query = f"{assignments.SELECT} WHERE {_ACTIVE} AND h.owner = %(owner)s ORDER BY t.create_time, t.id"
        async with session(self._pool) as connection:
            rows = await (await connection.execute(query.encode(), self._parameters())).fetchall()
        return [assignments.from_row(row) for row in rows]

    async def refresh(self, claim: Claim) -> Assignment:
        """The task as it stands now; raises StaleClaim when it is not owned under this claim any more."""
        async with transaction(self._pool) as connection:
            await state_changes.lock_head(connection, claim)
            return await assignments.read_one(connection, claim.task_id)

    async def explain(self, claim: Claim, reason: str) -> None:
        """Says why an owned task is in its state; raises StaleClaim."""
        async with transaction(self._pool, "claims.explain") as connection:
            await state_changes.lock_owned(connection, claim)
            await connection.execute(
                "UPDATE task_manager.task SET state_reason = %(reason)s, update_time = now()"
                " WHERE id = %(id)s AND state_reason <> %(reason)s",
                {"id": claim.task_id, "reason": reason},
            )

    async def finish(self, claim: Claim, change: Change, speed: RunSpeed | None = None, checkpoints: Sequence[str] = ()) -> None:
        """Ends the attempt: a terminal state with its error or artifact, or QUEUED again; raises StaleClaim.

        `speed`: how fast the run was, kept for the plans of later tasks.

        A fine-tuning that succeeds gets the evaluation it asks for in the same transaction; `checkpoints` are asked there, too.

        While CANCELLING only SUCCEEDED is kept as it is: a crash, a loss or a failure then ends as CANCELLED, never again QUEUED.
        While PAUSING, what would be QUEUED again is PAUSED.
        """
        async with transaction(self._pool, "claims.finish") as connection:
            locked = await state_changes.lock_owned(connection, claim)
            for step in moves(locked.state, change):
                await state_changes.move(connection, locked, step)
                locked = dataclasses.replace(locked, state=step.to)
            if locked.state is State.SUCCEEDED:
                await follow_ups.create(connection, locked.id, checkpoints)
            if speed is not None:
                await run_speeds.record(connection, locked.id, locked.attempt, speed)
        self._announce(claim)

    async def lose_run(
        self, claim: Claim, *, max_lost_runs: int, failure: Change, retry: Change, first_rest: datetime.timedelta
    ) -> None:
        """The runner has lost the run: `retry` while fewer than `max_lost_runs` were lost, then `failure`; raises StaleClaim.

        Before another attempt the task rests, `first_rest` after its first loss and longer after each further one.
        """
        async with transaction(self._pool, "claims.lose") as connection:
            locked = await state_changes.lock_owned(connection, claim)
            loss = after_loss(locked.state, locked.lost_run_count, max_lost_runs, failure, retry)
            await connection.execute(
                "UPDATE task_manager.task SET lost_run_count = %(lost)s,"
                " not_before = CASE WHEN %(rests)s THEN greatest(not_before, now() + %(rest)s) ELSE not_before END"
                " WHERE id = %(id)s",
                {
                    "id": claim.task_id,
                    "lost": loss.lost_runs,
                    # A task that is paused or has ended so rests for nobody.
                    "rests": loss.change.to is State.QUEUED,
                    "rest": rest(max(1, loss.lost_runs), first_rest),
                },
            )
            await state_changes.move(connection, locked, loss.change)
        self._announce(claim)

    async def current_runs(self, task_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, str]:
        """The run each of these tasks has, empty where it should have none; tasks that do not exist are left out."""
        query = f"SELECT t.id, CASE WHEN {_ACTIVE} THEN t.run_name ELSE '' END AS run_name"
        query += " FROM task_manager.task t WHERE t.id = ANY(%(ids)s)"
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(query.encode(), {"ids": list(task_ids)})).fetchall()
        return {row["id"]: row["run_name"] for row in rows}

    async def heard(self, runners: Sequence[str]) -> None:
        """Writes down that these trainers have answered; raises Unavailable also when there is nothing to write."""
        async with transaction(self._pool, "claims.heard") as connection:
            await connection.execute(runner_contact.HEARD, {"runners": list(runners)})

    async def silence(self, runner: str) -> datetime.timedelta:
        """For how long no task manager has heard of a trainer; nothing when none has ever written that it did."""
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(runner_contact.SILENCE, {"runner": runner})).fetchone()
        return datetime.timedelta() if row is None else row["silence"]

    def _parameters(self) -> dict[str, Any]:
        return {"owner": self._owner, "lease": self._lease}

    def _announce(self, claim: Claim) -> None:
        self._hub.notify(claim.task_id)
        self._hub.work.set()
