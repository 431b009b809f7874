"""Mistakes that could be made in the task manager's own code, each as a change to it, with a scenario in which it shows.

A scenario is an order of events that is allowed to happen. Played with the code as it is, the verdict finds nothing; played
with the mistake, it finds what stands beside it. The same for the pure core: `tests/unit/task_manager/test_simulation.py`.
"""

import asyncio
import dataclasses
import functools
import inspect
import textwrap
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from stream_model import StreamModel

from services.common.errors import ServiceError
from services.common.postgres import transaction
from services.task_manager import event_log, orphans, repository, run_follower, state_changes, task_claiming, watch
from services.task_manager.domain import transitions
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.task import Change, State
from services.task_manager.run_follower import RunFollower
from services.task_manager.task_claiming import Taker
from services.task_manager.trainer_port import LiveRun, RunEnd
from tests.faults.lab import Lab, end_of, some, success

Patch = Callable[[Any, str, Any], None]
"""`setattr` that may be undone."""


@dataclasses.dataclass(frozen=True)
class Planted:
    """A mistake; `plant` makes it, `scenario` shows it, `caught_by` are checks one of which finds it."""

    plant: Callable[[Patch], None]
    scenario: Callable[[Lab], Awaitable[None]]
    caught_by: frozenset[str]


# ---- who may write


def _head_of(condition: str) -> Callable[[Any, Claim], Awaitable[state_changes.Head]]:
    async def lock_head(connection: Any, claim: Claim) -> state_changes.Head:
        query = f"SELECT head_sequence, run_sequence FROM task_manager.event_head WHERE task_id = %(task_id)s AND {condition}"
        cursor = await connection.execute(query.encode() + b" FOR NO KEY UPDATE", dataclasses.asdict(claim))
        row = await cursor.fetchone()
        if row is None:
            raise state_changes.StaleClaim(claim)
        return state_changes.Head(**row)

    return lock_head


def _fenced_by(patch: Patch, condition: str) -> None:
    """Both sinks, the transactions of the owner and the function that appends, compare no more than this."""
    append = event_log._append

    async def forged(connection: Any, parameters: Mapping[str, Any]) -> int | None:
        query = f"SELECT epoch AS claim_epoch, owner FROM task_manager.event_head WHERE task_id = %(task_id)s AND {condition}"
        row = await (await connection.execute(query.encode(), {**parameters, "epoch": parameters["claim_epoch"]})).fetchone()
        return await append(connection, {**parameters, **(row or {})})

    patch(state_changes, "lock_head", _head_of(condition))
    patch(event_log, "_append", forged)


def no_epoch(patch: Patch) -> None:
    """An owner's writes are compared by owner alone."""
    _fenced_by(patch, "owner = %(owner)s")


def no_owner(patch: Patch) -> None:
    """An owner's writes are compared by epoch alone."""
    _fenced_by(patch, "epoch = %(epoch)s")


def no_fence(patch: Patch) -> None:
    """Whoever writes, writes."""
    _fenced_by(patch, "true")


def trusted_lease(patch: Patch) -> None:
    """Whoever had the task writes as long as its own clock says that the lease lasts; this one's clock is slow."""
    _fenced_by(patch, f"{time.monotonic() + 3600} > {time.monotonic()}")


async def late_writes_of_an_attempt_before(lab: Lab) -> None:
    """One owner loses a run, claims the task again, and then an append of the first attempt arrives."""
    before = await lab.claimed()
    await lab.first.events.append(before.claim, 0, lab.run(before, 1, "CANCELLED"), None)
    await lab.first.lose(before.claim)
    after = await lab.claim(lab.first, str(before.claim.task_id))
    await lab.is_refused(lab.first.events.append(before.claim, 0, lab.run(before, 2, "CANCELLED"), None))
    lines = lab.run(after, 2, "SUCCEEDED")
    await lab.first.events.append(after.claim, await _stored(lab, after), lines[await _stored(lab, after) :], None)
    await lab.first.claims.finish(after.claim, success(after))


async def late_writes_of_an_owner_before(lab: Lab) -> None:
    """A task manager sleeps, another adopts its task and stores events, the first wakes up and declares the run lost."""
    assignment = await lab.claimed()
    await lab.second.claims.adopt()
    adopted = Claim(assignment.claim.task_id, assignment.claim.epoch, lab.second.id)
    await lab.second.events.append(adopted, 0, lab.run(assignment, 2, "SUCCEEDED"), None)
    await lab.is_refused(lab.first.lose(assignment.claim))
    if not lab.found:
        await lab.second.claims.finish(adopted, success(assignment))


async def _stored(lab: Lab, assignment: Assignment) -> int:
    async with transaction(lab.pool) as connection:
        return (await state_changes.lock_head(connection, assignment.claim)).run_sequence


# ---- what is acknowledged


def acknowledged_before_the_commit(patch: Patch) -> None:
    """A task is answered before it is committed, and the process dies in between."""

    async def create(self: repository.TaskRepository, new: Any) -> Any:
        return dataclasses.replace(new)

    patch(repository.TaskRepository, "create", create)


def requests_are_not_remembered(patch: Patch) -> None:
    """A repeat of a request makes another task."""
    made = repository.TaskRepository.create

    async def create(self: repository.TaskRepository, new: Any) -> Any:
        return await made(self, dataclasses.replace(new, id=uuid.uuid4(), request_id=uuid.uuid4()))

    patch(repository.TaskRepository, "create", create)


async def a_request_is_repeated(lab: Lab) -> None:
    """The answer was lost, so the caller asks again; then the task is cancelled."""
    request = uuid.uuid4()
    first, second = await lab.task(request=request), await lab.task(lab.second, request=request)
    if first != second:
        lab.found.append("doubled")
    for task in {first, second}:
        try:
            await lab.first.tasks.cancel(uuid.UUID(task), "")
        except ServiceError:
            lab.found.append("lost")


def cancel_is_lost_while_starting(patch: Patch) -> None:
    """Cancelling a task that starts is acknowledged and forgotten."""
    rule = transitions.after_cancel
    patch(transitions, "after_cancel", lambda state: state if state is State.STARTING else rule(state))


async def cancelled_while_starting(lab: Lab) -> None:
    """The run is claimed, not yet started; the caller is told OK."""
    assignment = await lab.claimed()
    await lab.first.tasks.cancel(assignment.claim.task_id, "")
    lab.told.cancelled.add(str(assignment.claim.task_id))
    await lab.follow(lab.first, assignment)
    if lab.trainer.started:
        lab.found.append("two_trainers")


def loss_revives_what_was_cancelled(patch: Patch) -> None:
    """A run that is lost while its task is being cancelled is queued again, and the table of moves permits it."""
    patch(transitions, "ALLOWED", {state: frozenset(State) for state in State})
    patch(transitions, "as_asked", lambda state, change: change)


async def lost_while_cancelling(lab: Lab) -> None:
    """The trainer loses the run while it is being cancelled."""
    assignment = await lab.claimed()
    await lab.first.tasks.cancel(assignment.claim.task_id, "")
    try:
        await lab.first.lose(assignment.claim)
    except Exception:
        # The database keeps the same table and refuses.
        lab.found.append("transition")


# ---- claims and attempts


class _Meeting:
    """A connection that waits for another one before it takes what it has read."""

    def __init__(self, connection: Any, meeting: asyncio.Barrier) -> None:
        self._connection, self._meeting = connection, meeting

    async def execute(self, query: str, parameters: Mapping[str, Any]) -> Any:
        if query is task_claiming._TAKE:
            await self._meeting.wait()
        return await self._connection.execute(query, parameters)


def claimed_without_a_lock(patch: Patch) -> None:
    """Whether a task waits is read, and believed when it is claimed a moment later."""
    meeting, take = asyncio.Barrier(2), Taker.take

    async def take_later(self: Taker, connection: Any, task_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        return await take(self, _Meeting(connection, meeting), task_ids)  # type: ignore[arg-type]

    patch(task_claiming, "_LOCK", task_claiming._LOCK.replace(" FOR NO KEY UPDATE SKIP LOCKED", ""))
    patch(Taker, "take", take_later)


async def two_claim_at_once(lab: Lab) -> None:
    """Two task managers see the same waiting task, each for another trainer."""
    task = await lab.task()
    claims = (
        owner.queue.claim([uuid.UUID(task)], Machine(runner, 9, 9)) for owner, runner in ((lab.first, "a:1"), (lab.second, "b:1"))
    )
    claimed = [one for found in await asyncio.gather(*claims) for one in found]
    for assignment in claimed:
        owner = lab.first if assignment.claim.owner == lab.first.id else lab.second
        try:
            await owner.events.append(assignment.claim, 0, lab.run(assignment, 1, "SUCCEEDED"), None)
            await owner.claims.finish(assignment.claim, success(assignment))
        except ServiceError:
            lab.found.append("two_trainers")


def attempts_are_used_again(patch: Patch) -> None:
    """A retry has the number, and with it the run's name, of the attempt before."""
    fitting = Taker._fitting

    def again(self: Taker, rows: Any, held: Any) -> Iterator[Mapping[str, Any]]:
        return ({**row, "attempt": max(0, row["attempt"] - 1)} for row in fitting(self, rows, held))

    patch(Taker, "_fitting", again)


async def a_second_attempt(lab: Lab) -> None:
    """The first is lost, the second succeeds."""
    first = await lab.claimed()
    await lab.first.events.append(first.claim, 0, lab.run(first, 1, "CANCELLED"), None)
    await lab.first.lose(first.claim)
    second = await lab.claim(lab.first, str(first.claim.task_id))
    await lab.first.events.append(second.claim, 0, lab.run(second, 1, "SUCCEEDED"), None)
    await lab.first.claims.finish(second.claim, success(second))


def orphans_at_first_sight(patch: Patch) -> None:
    """What no task wants is ended at once, by what the database said before the trainer was asked."""

    async def find(self: orphans.OrphanSweep, address: str, trainer: Any) -> list[str]:
        current = await self._claims.current_runs([uuid.UUID(trainer.next_task)])
        live = await trainer.live_runs()
        names = [run.name for run in live if current.get(uuid.UUID(trainer.next_task)) != run.name]
        self._seen |= {("trainer:1", name) for name in names}
        return names

    patch(orphans.OrphanSweep, "_orphans", find)


async def claimed_during_a_sweep(lab: Lab) -> None:
    """A task is claimed and its run started while a sweep is between its two questions."""
    task = await lab.task()
    lab.trainer.next_task = task  # type: ignore[attr-defined]

    async def live_runs() -> list[LiveRun]:
        if not lab.runs:
            lab.assignment = await lab.claim(lab.first, task)  # type: ignore[attr-defined]
            lab.run(lab.assignment, 1, "SUCCEEDED")  # type: ignore[attr-defined]
        return [LiveRun(name, f"tasks/{task}") for name in lab.runs]

    lab.trainer.live_runs = live_runs  # type: ignore[method-assign]
    await lab.sweep(lab.first)
    if lab.trainer.cancelled:
        lab.found.append("lost")
    assignment: Assignment = lab.assignment  # type: ignore[attr-defined]
    await lab.first.events.append(assignment.claim, 0, lab.run(assignment, 1, "SUCCEEDED"), None)
    await lab.first.claims.finish(assignment.claim, success(assignment))


# ---- the end of a run


def end_before_the_last_events(patch: Patch) -> None:
    """The end of a run is recorded when it is told, whatever is stored."""
    stored = RunFollower._store

    async def store(self: RunFollower, group: Any) -> bool:
        early = [dataclasses.replace(one, head_sequence=0) if isinstance(one, RunEnd) else one for one in group]
        return await stored(self, early)

    patch(RunFollower, "_store", store)


async def an_end_that_comes_early(lab: Lab) -> None:
    """The stream brings the end behind the second of three events; asked again, it brings all."""
    assignment = await lab.claimed()
    lines = lab.run(assignment, 3, "SUCCEEDED")
    lab.trainer.messages[assignment.run_name] = [some(lines[:2]), end_of(assignment, 3)]
    await lab.follow(lab.first, assignment, 1)
    lab.trainer.messages[assignment.run_name] = [some(lines[2:]), end_of(assignment, 3)]
    await lab.follow(lab.first, dataclasses.replace(assignment, run_sequence=2))


def heartbeat_is_an_end(patch: Patch) -> None:
    """A sign of life without events is taken for the end of the run."""
    stored = RunFollower._store

    async def store(self: RunFollower, group: Any) -> bool:
        if any(not isinstance(one, RunEnd) and not one.events for one in group):
            await self._finish(Change(State.FAILED, "nothing comes any more", error=b""))
            return True
        return await stored(self, group)

    patch(RunFollower, "_store", store)


async def a_quiet_run(lab: Lab) -> None:
    """It is silent for a while before its last line."""
    assignment = await lab.claimed()
    lines = lab.run(assignment, 2, "SUCCEEDED")
    lab.trainer.messages[assignment.run_name] = [some(lines[:1]), some([]), some(lines[1:]), end_of(assignment, 2)]
    await lab.follow(lab.first, assignment)
    if (await lab.state_of(assignment)) is not State.SUCCEEDED:
        lab.found.append("incomplete")


def silence_is_death(patch: Patch) -> None:
    """A trainer that does not answer has lost its run."""
    patch(run_follower, "_LOST", ("RUN_NOT_FOUND", "CURSOR_AHEAD", "TRAINER_UNAVAILABLE"))
    patch(run_follower, "Unavailable", type("Nothing", (Exception,), {}))


async def a_silent_trainer(lab: Lab) -> None:
    """It is away for some rounds and trains meanwhile."""
    assignment = await lab.claimed()
    lines = lab.run(assignment, 2, "SUCCEEDED")
    lab.trainer.is_away = True
    await lab.follow(lab.first, assignment, 3)
    lab.trainer.is_away = False
    lab.trainer.messages[assignment.run_name] = [some(lines), end_of(assignment, 2)]
    await lab.follow(lab.first, assignment)
    if (await lab.state_of(assignment)) is State.QUEUED:
        # The next attempt would begin beside the first.
        lab.found.append("two_trainers")


# ---- streams


def numbers_of_a_sequence(patch: Patch) -> None:
    """Numbers come from a database sequence, which is drawn before the commit; readers go on from what they saw."""

    async def record(connection: Any, task: uuid.UUID, attempt: int, before: State | None, change: Change) -> None:
        await connection.execute("CREATE SEQUENCE IF NOT EXISTS task_manager.planted")
        row = await (await connection.execute("SELECT nextval('task_manager.planted') AS number, now() AS time")).fetchone()
        event = state_changes.state_change_event(row["number"], row["time"], attempt, before, change)
        await state_changes.insert_frame(connection, task, 0, [event])
        query = "UPDATE task_manager.event_head SET head_sequence = greatest(head_sequence, %(number)s) WHERE task_id = %(id)s"
        await connection.execute(query, {"id": task, "number": row["number"]})

    patch(state_changes, "record", record)


async def numbers_that_are_never_stored(lab: Lab) -> None:
    """A transaction that has drawn a number is rolled back; then another one commits."""
    task = uuid.UUID(await lab.task())
    async with lab.pool.connection() as connection, connection.transaction(force_rollback=True):
        await state_changes.record(connection, task, 0, State.QUEUED, Change(State.CANCELLED, "rolled back"))
    await lab.first.tasks.cancel(task, "")
    model = StreamModel()
    await lab.read(lab.first, str(task), model)
    lab.found += sorted({violation.promise for violation in model.violations})


def hints_without_polling(patch: Patch) -> None:
    """A reader waits for a hint, and no hint crosses the border of a process."""

    async def wait_for(event: asyncio.Event, seconds: float) -> None:
        await event.wait()

    patch(watch, "wait_for", wait_for)


async def written_by_another_process(lab: Lab) -> None:
    """Who reads at one task manager follows a task that another one ends."""
    task = await lab.task()
    model, ending = StreamModel(), functools.partial(lab.second.tasks.cancel, uuid.UUID(task), "")
    reading = asyncio.create_task(lab.read(lab.first, task, model))
    await asyncio.sleep(0.1)
    await ending()
    await reading
    lab.found += [violation.promise for violation in model.violations]


def end_before_the_rest(patch: Patch) -> None:
    """A stream ends as soon as the task has, with whatever was sent by then."""
    ends, more = "snapshot.state.is_terminal", "if snapshot.head_sequence > cursor"
    is_all = "if cursor == snapshot.head_sequence"
    _rewrite_follow(patch, (f"{more}:", f"{more} and not {ends}:"), (f"{is_all}:", f"{is_all} or {ends}:"))


def bookmark_of_the_head(patch: Patch) -> None:
    """A heartbeat tells the head of the store instead of what was sent."""
    _rewrite_follow(patch, ("yield Idle(cursor, self._now())", "yield Idle(snapshot.head_sequence + 1, self._now())"))


def cursor_is_ignored(patch: Patch) -> None:
    """Whoever comes back is sent everything again."""
    _rewrite_follow(patch, ("cursor, sent_at = after, time.monotonic()", "cursor, sent_at = 0, time.monotonic()"))


def _rewrite_follow(patch: Patch, *changes: tuple[str, str]) -> None:
    source = textwrap.dedent(inspect.getsource(watch.Watch.follow))
    for before, after in changes:
        assert source.count(before) == 1, f"the code has changed: {before}"
        source = source.replace(before, after)
    names: dict[str, Any] = {}
    exec(source, watch.__dict__, names)
    patch(watch.Watch, "follow", names["follow"])


async def a_reader_that_comes_back(lab: Lab) -> None:
    """It reads from the beginning and waits, the task ends, and it reads again from the middle."""
    task, model = await lab.task(), StreamModel()
    ending = functools.partial(lab.first.tasks.cancel, uuid.UUID(task), "")
    await lab.read(lab.first, task, model, during=ending)
    await lab.read(lab.first, task, model, after=1)
    lab.found += [violation.promise for violation in model.violations]


BUGS: Mapping[str, Planted] = {
    "no_epoch": Planted(no_epoch, late_writes_of_an_attempt_before, frozenset({"stale_write"})),
    "no_owner": Planted(no_owner, late_writes_of_an_owner_before, frozenset({"stale_write"})),
    "no_fence": Planted(no_fence, late_writes_of_an_owner_before, frozenset({"stale_write"})),
    "trusted_lease": Planted(trusted_lease, late_writes_of_an_owner_before, frozenset({"stale_write"})),
    "acknowledged_before_the_commit": Planted(acknowledged_before_the_commit, a_request_is_repeated, frozenset({"lost"})),
    "requests_are_not_remembered": Planted(requests_are_not_remembered, a_request_is_repeated, frozenset({"doubled"})),
    "cancel_is_lost_while_starting": Planted(
        cancel_is_lost_while_starting, cancelled_while_starting, frozenset({"lost", "two_trainers"})
    ),
    "loss_revives_what_was_cancelled": Planted(
        loss_revives_what_was_cancelled, lost_while_cancelling, frozenset({"transition"})
    ),
    "claimed_without_a_lock": Planted(claimed_without_a_lock, two_claim_at_once, frozenset({"two_trainers", "numbering"})),
    "attempts_are_used_again": Planted(attempts_are_used_again, a_second_attempt, frozenset({"transition", "stale_write"})),
    "orphans_at_first_sight": Planted(orphans_at_first_sight, claimed_during_a_sweep, frozenset({"lost"})),
    "end_before_the_last_events": Planted(end_before_the_last_events, an_end_that_comes_early, frozenset({"incomplete"})),
    "heartbeat_is_an_end": Planted(heartbeat_is_an_end, a_quiet_run, frozenset({"incomplete"})),
    "silence_is_death": Planted(silence_is_death, a_silent_trainer, frozenset({"two_trainers"})),
    "numbers_of_a_sequence": Planted(numbers_of_a_sequence, numbers_that_are_never_stored, frozenset({"numbering", "stuck"})),
    "hints_without_polling": Planted(hints_without_polling, written_by_another_process, frozenset({"stuck"})),
    "end_before_the_rest": Planted(end_before_the_rest, a_reader_that_comes_back, frozenset({"reliable", "atomic"})),
    "bookmark_of_the_head": Planted(bookmark_of_the_head, a_reader_that_comes_back, frozenset({"bookmarkable"})),
    "cursor_is_ignored": Planted(cursor_is_ignored, a_reader_that_comes_back, frozenset({"unique", "ordered"})),
}  # fmt: skip
