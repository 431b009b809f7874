"""The repositories on one database: claims, fencing, appending, and what the database itself refuses."""

import asyncio
import dataclasses
import datetime
import uuid
from pathlib import Path

import psycopg
import pytest

from services import task_manager
from services.common.errors import ServiceError
from services.common.postgres import Pool, migrate, transaction
from services.task_manager import follow_ups, state_changes
from services.task_manager.claims import ClaimRepository
from services.task_manager.conversion import make_error
from services.task_manager.domain.claim import Assignment, SequenceGap, StaleClaim
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, NewTask, State, TaskUpdate
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.domain.transitions import ALLOWED, IllegalTransition
from services.task_manager.event_log import EventLog
from services.task_manager.follow_ups import evaluation_id
from services.task_manager.hub import Hub
from services.task_manager.repository import TaskRepository
from services.task_manager.results import Results
from services.task_manager.task_listing import TaskListing
from services.task_manager.task_queue import TaskQueue
from services.task_manager.totals import TaskTotals
from tunesmith.v1 import evaluation_pb2, task_event_pb2, task_pb2, task_spec_pb2

pytestmark = pytest.mark.integration

LEASE = datetime.timedelta(seconds=60)
NO_REST = datetime.timedelta()
EXPIRED = datetime.timedelta(seconds=-1)


class Owner:
    """The repositories of one task manager process."""

    def __init__(self, pool: Pool, lease: datetime.timedelta = LEASE) -> None:
        hub, self.id = Hub(), uuid.uuid4()
        self.tasks = TaskRepository(pool, hub)
        self.queue = TaskQueue(pool, hub, owner=self.id, lease=lease)
        self.claims = ClaimRepository(pool, hub, owner=self.id, lease=lease)
        self.events = EventLog(pool, hub)

    async def claim(self, runner: str, free_processes: int) -> Assignment | None:
        """The first waiting task that fits, claimed."""
        while waiting := (await self.queue.look([Machine("m", free_processes, free_processes)])).waiting:
            if claimed := await self.queue.claim([waiting[0].id], Machine(runner, 1_000_000, 1_000_000)):
                return claimed[0]
        return None

    async def claimed(self) -> Assignment:
        """A new task, claimed."""
        await self.tasks.create(a_new_task())
        assignment = await self.claim("t:1", 1)
        assert assignment
        return assignment


@pytest.fixture
def owner(pool: Pool) -> Owner:
    return Owner(pool)


def a_new_task(
    request_id: uuid.UUID | None = None, digest: bytes = b"d", processes: int = 1, datasets: tuple[uuid.UUID, ...] = ()
) -> NewTask:
    return NewTask(
        id=uuid.uuid4(),
        display_name="n",
        description="",
        labels={},
        spec=b"",
        effective_hyperparameters=b"",
        processes=processes,
        datasets=datasets,
        base_model="baseModels/tiny",
        method="SFT",
        tuning="LORA",
        note="",
        request_id=request_id,
        request_digest=digest,
    )


def lines(first: int, last: int) -> list[task_event_pb2.TaskEvent]:
    return [
        task_event_pb2.TaskEvent(sequence=n, log_entry=task_event_pb2.LogEntry(text=f"line {n}")) for n in range(first, last + 1)
    ]


async def sequences(owner: Owner, task_id: uuid.UUID) -> list[int]:
    found: list[int] = []
    while page := await owner.events.page(task_id, found[-1] if found else 0):
        found += [event.sequence for event in page]
    return found


def started(sequence: int) -> task_event_pb2.TaskEvent:
    return task_event_pb2.TaskEvent(sequence=sequence, training_started=task_event_pb2.TrainingStarted(total_steps=3))


# ---- claims


async def test_two_owners_claiming_at_once_never_get_the_same_task(pool: Pool, owner: Owner) -> None:
    other, count = Owner(pool), 200
    for _ in range(count):
        await owner.tasks.create(a_new_task())

    begun = asyncio.Barrier(2)

    async def drain(one: Owner) -> list[uuid.UUID]:
        assignment, found = await one.claim("t:1", 1), []
        # Both have one before either goes on: on a busy machine one of them might be done before the other begins.
        await begun.wait()
        while assignment:
            found.append(assignment.claim.task_id)
            assignment = await one.claim("t:1", 1)
        return found

    first, second = await asyncio.gather(drain(owner), drain(other))

    assert len(first) + len(second) == count
    assert len({*first, *second}) == count
    assert first
    assert second


async def test_the_oldest_task_that_fits_is_claimed(owner: Owner) -> None:
    large, old, new = [a_new_task(processes=processes) for processes in (2, 1, 1)]
    for one in (large, old, new):
        await owner.tasks.create(one)

    claimed = [await owner.claim("t:1", 1) for _ in range(3)]

    assert [one and one.claim.task_id for one in claimed] == [old.id, new.id, None]
    assert (await owner.claim("t:1", 2)).claim.task_id == large.id  # type: ignore[union-attr]


async def test_a_claim_starts_a_new_epoch_attempt_and_run(owner: Owner) -> None:
    assignment = await owner.claimed()

    assert (assignment.claim.epoch, assignment.attempt, assignment.run_sequence) == (1, 1, 0)
    assert assignment.run_name == f"runs/{assignment.claim.task_id}-1"
    assert assignment.claim.owner == owner.id

    await owner.events.append(assignment.claim, 0, lines(1, 3), Progress(step=1))
    await owner.claims.finish(assignment.claim, Change(State.QUEUED, "again"))
    again = await owner.claim("t:2", 1)

    assert again
    assert (again.claim.epoch, again.attempt, again.run_sequence, again.progress) == (2, 2, 0, None)
    assert again.run_name.endswith("-2")


async def test_a_living_lease_is_not_adopted_and_an_expired_one_is(pool: Pool, owner: Owner) -> None:
    living = await owner.claimed()
    dying = await Owner(pool, EXPIRED).claimed()
    successor = Owner(pool)

    assert await successor.claims.adopt() == 1

    (adopted,) = await successor.claims.owned()
    assert adopted.claim.task_id == dying.claim.task_id
    assert (adopted.claim.epoch, adopted.run_name) == (dying.claim.epoch, dying.run_name), "the run goes on"
    assert [one.claim.task_id for one in await owner.claims.owned()] == [living.claim.task_id]


async def test_renewing_keeps_a_lease_alive(pool: Pool, owner: Owner) -> None:
    await owner.claimed()
    async with pool.connection() as connection:
        await connection.execute("UPDATE task_manager.event_head SET lease_expire_time = now() - interval '1 s'")

    await owner.claims.renew()

    assert await Owner(pool).claims.adopt() == 0


async def test_a_released_task_is_adopted_at_once(pool: Pool, owner: Owner) -> None:
    await owner.claimed()

    await owner.claims.release()

    assert await owner.claims.owned() == []
    assert await Owner(pool).claims.adopt() == 1


async def test_many_successors_adopt_each_task_once(pool: Pool) -> None:
    dead = Owner(pool, EXPIRED)
    for _ in range(20):
        await dead.claimed()

    counts = await asyncio.gather(*(Owner(pool).claims.adopt() for _ in range(5)))

    assert sum(counts) == 20


async def test_queued_and_terminal_tasks_are_never_adopted(pool: Pool, owner: Owner) -> None:
    await owner.tasks.create(a_new_task())
    ended = await owner.claim("t:1", 1)
    assert ended
    await owner.claims.finish(ended.claim, Change(State.FAILED, "f", error=make_error("RUN_LOST", "m")))
    await owner.tasks.create(a_new_task())

    assert await Owner(pool).claims.adopt() == 0


# ---- fencing


async def test_an_owner_that_was_replaced_can_write_nothing(pool: Pool) -> None:
    old = Owner(pool, EXPIRED)
    claim = (await old.claimed()).claim
    new = Owner(pool)
    await new.claims.adopt()
    before = await sequences(new, claim.task_id)

    writes = (
        old.events.append(claim, 0, lines(1, 1), None),
        old.events.append(claim, 0, [started(1)], None),
        old.claims.finish(claim, Change(State.FAILED, "f", error=b"")),
        old.claims.lose_run(
            claim,
            max_lost_runs=3,
            failure=Change(State.FAILED, "f", error=b""),
            retry=Change(State.QUEUED, "r"),
            first_rest=NO_REST,
        ),
        old.claims.explain(claim, "x"),
        old.claims.refresh(claim),
    )
    for write in writes:
        with pytest.raises(StaleClaim):
            await write

    await old.claims.renew()
    assert await sequences(new, claim.task_id) == before
    assert (await new.tasks.get(claim.task_id)).state is State.STARTING
    assert [one.claim.owner for one in await new.claims.owned()] == [new.id]


async def test_an_owner_of_an_older_epoch_can_write_nothing(owner: Owner) -> None:
    first = await owner.claimed()
    await owner.claims.finish(first.claim, Change(State.QUEUED, "again"))
    second = await owner.claim("t:1", 1)
    assert second

    with pytest.raises(StaleClaim) as caught:
        await owner.events.append(first.claim, 0, lines(1, 1), None)

    assert caught.value.reason == "STALE_EPOCH"
    assert await owner.events.append(second.claim, 0, lines(1, 1), None) == 1


async def test_nothing_is_appended_after_the_end(owner: Owner) -> None:
    claim = (await owner.claimed()).claim
    await owner.claims.finish(claim, Change(State.SUCCEEDED, "done", artifact="artifacts/a"))

    with pytest.raises(StaleClaim):
        await owner.events.append(claim, 0, lines(1, 1), None)
    with pytest.raises(StaleClaim):
        await owner.claims.finish(claim, Change(State.FAILED, "f", error=b""))


async def write_while_owned(owner: Owner, task_id: uuid.UUID, label: str) -> int:
    """Twenty tries to append one event; how many were stored."""
    stored = 0
    for _ in range(20):
        assignment = next((one for one in await owner.claims.owned() if one.claim.task_id == task_id), None)
        if assignment is None:
            continue
        event = task_event_pb2.TaskEvent(sequence=assignment.run_sequence + 1, log_entry=task_event_pb2.LogEntry(text=label))
        try:
            await owner.events.append(assignment.claim, assignment.run_sequence, [event], None)
            stored += 1
        except StaleClaim:
            continue
    return stored


async def adopt_and_write(owner: Owner, task_id: uuid.UUID) -> int:
    await owner.claims.adopt()
    return await write_while_owned(owner, task_id, "new")


@pytest.mark.parametrize("round_number", range(5))
async def test_appending_and_adopting_at_once_never_lets_both_write(pool: Pool, round_number: int) -> None:
    old, new = Owner(pool, EXPIRED), Owner(pool)
    task_id = (await old.claimed()).claim.task_id

    stored = sum(await asyncio.gather(write_while_owned(old, task_id, "old"), adopt_and_write(new, task_id)))

    events = await new.events.page(task_id, 0)
    labels = [event.log_entry.text for event in events if event.HasField("log_entry")]
    assert len(labels) == stored
    assert labels == sorted(labels, reverse=True), "once the successor has written, the old owner never does"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


# ---- events


async def test_an_append_is_numbered_after_what_the_task_has(owner: Owner) -> None:
    claim = (await owner.claimed()).claim

    assert await owner.events.append(claim, 0, lines(1, 3), None) == 3
    assert await owner.events.append(claim, 3, lines(4, 4), None) == 4

    page = await owner.events.page(claim.task_id, 2)
    assert [(event.sequence, event.log_entry.text, event.attempt) for event in page] == [
        (3, "line 1", 1),
        (4, "line 2", 1),
        (5, "line 3", 1),
        (6, "line 4", 1),
    ]


async def test_many_events_are_stored_together_or_not_at_all(owner: Owner, pool: Pool) -> None:
    claim = (await owner.claimed()).claim

    assert await owner.events.append(claim, 0, lines(1, 1700), Progress(step=3)) == 1700
    with pytest.raises(SequenceGap):
        await owner.events.append(claim, 1701, lines(1702, 3000), Progress(step=9))

    assert await sequences(owner, claim.task_id) == list(range(1, 1703))
    progress = (await owner.tasks.get(claim.task_id)).progress
    assert progress
    assert progress.step == 3


async def test_what_a_run_says_about_its_state_is_counted_and_not_stored(owner: Owner) -> None:
    claim = (await owner.claimed()).claim
    said = task_event_pb2.TaskEvent(sequence=1, state_change=task_event_pb2.StateChange(reason="of the run"))

    assert await owner.events.append(claim, 0, [said], None) == 1
    assert await owner.events.append(claim, 1, lines(2, 2), None) == 2

    assert [event.log_entry.text for event in await owner.events.page(claim.task_id, 2)] == ["line 2"]


async def test_a_repeat_stores_nothing_and_is_acknowledged_with_what_is_stored(owner: Owner) -> None:
    claim = (await owner.claimed()).claim
    await owner.events.append(claim, 0, lines(1, 3), None)

    assert await owner.events.append(claim, 0, lines(1, 2), None) == 3
    assert await owner.events.append(claim, 2, lines(3, 5), None) == 3
    assert await sequences(owner, claim.task_id) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("given", [lines(2, 3), [*lines(1, 1), *lines(3, 3)], lines(0, 1)])
async def test_a_gap_is_refused_with_the_number_expected(owner: Owner, given: list[task_event_pb2.TaskEvent]) -> None:
    claim = (await owner.claimed()).claim

    with pytest.raises(SequenceGap) as caught:
        await owner.events.append(claim, 0, given, None)

    assert caught.value.reason == "SEQUENCE_GAP"
    assert caught.value.metadata["expected_sequence"] in ("1", "2")
    assert await sequences(owner, claim.task_id) == [1, 2]


async def test_the_cursor_ahead_of_what_is_stored_is_a_gap(owner: Owner) -> None:
    claim = (await owner.claimed()).claim

    with pytest.raises(SequenceGap) as caught:
        await owner.events.append(claim, 5, lines(6, 6), None)

    assert caught.value.expected == 1


async def test_the_beginning_of_the_training_makes_the_task_running_once(owner: Owner) -> None:
    claim = (await owner.claimed()).claim

    await owner.events.append(claim, 0, [started(1)], Progress(total_steps=3))
    await owner.events.append(claim, 0, [started(1)], Progress(total_steps=3))
    await owner.events.append(claim, 1, [started(2)], Progress(total_steps=3))

    events = await owner.events.page(claim.task_id, 0)
    assert [event.WhichOneof("event") for event in events] == [
        *["state_change"] * 3,
        "training_started",
        "training_started",
    ]
    task = await owner.tasks.get(claim.task_id)
    assert (task.state, task.progress) == (State.RUNNING, Progress(total_steps=3))


async def test_the_same_append_many_times_at_once_stores_once(owner: Owner) -> None:
    claim = (await owner.claimed()).claim

    answers = await asyncio.gather(*(owner.events.append(claim, 0, lines(1, 50), None) for _ in range(6)))

    assert answers == [50] * 6
    assert await sequences(owner, claim.task_id) == list(range(1, 53))


async def test_appends_of_the_owner_and_cancels_of_callers_share_one_numbering(owner: Owner) -> None:
    claim = (await owner.claimed()).claim

    async def append_all() -> None:
        for number in range(1, 41):
            await owner.events.append(claim, number - 1, lines(number, number), None)

    await asyncio.gather(append_all(), *(owner.tasks.cancel(claim.task_id, "") for _ in range(4)))

    assert await sequences(owner, claim.task_id) == list(range(1, 44))


async def test_progress_keeps_values_that_are_not_numbers(owner: Owner) -> None:
    claim = (await owner.claimed()).claim
    remaining = datetime.timedelta(seconds=1.5)
    progress = Progress(2, 9, 0.5, remaining, {"loss": float("inf"), "grad_norm": float("-inf")})

    await owner.events.append(claim, 0, lines(1, 1), progress)

    assert (await owner.tasks.get(claim.task_id)).progress == progress


# ---- states


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_runs_may_be_lost_so_often_and_no_oftener(owner: Owner, lost: int) -> None:
    claim = (await owner.claimed()).claim
    for _ in range(lost):
        failure = Change(State.FAILED, "lost", error=make_error("RUN_LOST", "m"))
        await owner.claims.lose_run(
            claim, max_lost_runs=3, failure=failure, retry=Change(State.QUEUED, "again"), first_rest=NO_REST
        )
        if assignment := await owner.claim("t:1", 1):
            claim = assignment.claim

    assert (await owner.tasks.get(claim.task_id)).state is (State.FAILED if lost == 3 else State.STARTING)


@pytest.mark.parametrize(
    "change", [Change(State.FAILED, "f", error=b""), Change(State.QUEUED, "q"), Change(State.CANCELLED, "c")]
)
async def test_whatever_goes_wrong_while_cancelling_ends_cancelled(owner: Owner, change: Change) -> None:
    claim = (await owner.claimed()).claim
    await owner.tasks.cancel(claim.task_id, "")

    await owner.claims.finish(claim, change)

    assert (await owner.tasks.get(claim.task_id)).state is State.CANCELLED


async def test_the_database_holds_the_same_transitions_as_the_domain(pool: Pool) -> None:
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT from_state, to_state FROM task_manager.allowed_transition")).fetchall()

    assert {(row["from_state"], row["to_state"]) for row in rows} == {
        (before.value, after.value) for before, allowed in ALLOWED.items() for after in allowed
    }


async def set_state(pool: Pool, task_id: uuid.UUID, state: State) -> None:
    """What no code of the service does: writes a state past the domain's table."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE task_manager.task SET state = %(state)s::task_manager.task_state,"
            " end_time = CASE WHEN %(ended)s THEN now() END,"
            " error = CASE WHEN %(state)s::text = 'FAILED' THEN ''::bytea END,"
            " artifact = CASE WHEN %(state)s::text = 'SUCCEEDED' THEN 'a' ELSE '' END WHERE id = %(id)s",
            {"state": state.value, "ended": state.is_terminal, "id": task_id},
        )


PATHS = {
    State.QUEUED: (),
    State.STARTING: (State.STARTING,),
    State.RUNNING: (State.STARTING, State.RUNNING),
    State.PAUSING: (State.STARTING, State.PAUSING),
    State.PAUSED: (State.STARTING, State.PAUSING, State.PAUSED),
    State.CANCELLING: (State.STARTING, State.CANCELLING),
    State.SUCCEEDED: (State.STARTING, State.RUNNING, State.SUCCEEDED),
    State.FAILED: (State.STARTING, State.FAILED),
    State.CANCELLED: (State.CANCELLED,),
}


async def test_the_database_permits_what_the_table_permits_and_refuses_everything_else(pool: Pool, owner: Owner) -> None:
    for before, path in PATHS.items():
        for after in State:
            if after is before:
                continue
            task = await owner.tasks.create(a_new_task())
            for state in path:
                await set_state(pool, task.id, state)
            if after in ALLOWED[before]:
                await set_state(pool, task.id, after)
            else:
                with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                    await set_state(pool, task.id, after)


async def test_the_service_refuses_an_illegal_move_before_the_database_has_to(pool: Pool, owner: Owner) -> None:
    task = await owner.tasks.create(a_new_task())

    async with pool.connection() as connection, connection.transaction():
        locked = await state_changes.lock(connection, task.id)
        assert locked
        with pytest.raises(IllegalTransition):
            await state_changes.move(connection, locked, Change(State.RUNNING, "no"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task_manager.task SET spec = 'x'::bytea",
        "UPDATE task_manager.task SET attempt = -1",
        "UPDATE task_manager.task_transition SET reason = 'rewritten'",
        "UPDATE task_manager.event_frame SET epoch = 9",
        "UPDATE task_manager.task SET artifact = 'artifacts/a'",
        "UPDATE task_manager.event_head SET owner = gen_random_uuid()",
        "INSERT INTO task_manager.task (id, display_name, description, labels, spec, effective_hyperparameters, processes,"
        " request_digest, state) VALUES (gen_random_uuid(), 'n', '', '{}', '', '', 1, '', 'RUNNING')",
    ],
)
async def test_the_database_keeps_the_invariants_itself(pool: Pool, owner: Owner, statement: str) -> None:
    await owner.tasks.create(a_new_task())

    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.IntegrityError):
            await connection.execute(statement.encode())


async def test_the_history_of_transitions_is_written_by_the_database(pool: Pool, owner: Owner) -> None:
    claim = (await owner.claimed()).claim
    await owner.claims.finish(claim, Change(State.FAILED, "broke", error=make_error("RUN_LOST", "m")))

    async with pool.connection() as connection:
        query = "SELECT from_state, to_state, reason, attempt FROM task_manager.task_transition ORDER BY number"
        rows = await (await connection.execute(query)).fetchall()

    assert [tuple(row.values()) for row in rows] == [
        (None, "QUEUED", "waits for a trainer", 0),
        ("QUEUED", "STARTING", "attempt 1 starts on t:1", 1),
        ("STARTING", "FAILED", "broke", 1),
    ]


# ---- requests


async def test_many_creates_with_one_request_id_at_once_make_one_task(pool: Pool, owner: Owner) -> None:
    request_id = uuid.uuid4()

    tasks = await asyncio.gather(*(owner.tasks.create(a_new_task(request_id)) for _ in range(20)))

    assert len({task.id for task in tasks}) == 1
    assert len(await TaskListing(pool).page(TaskFilter(), None, 100)) == 1


async def test_a_race_of_different_requests_under_one_id_has_one_winner(owner: Owner) -> None:
    request_id = uuid.uuid4()

    async def create(digest: bytes) -> str:
        try:
            return str((await owner.tasks.create(a_new_task(request_id, digest))).id)
        except ServiceError as error:
            return error.reason

    outcomes = await asyncio.gather(*(create(str(number).encode()) for number in range(10)))

    assert outcomes.count("REQUEST_ID_REUSED") == 9


async def test_several_owners_never_promise_the_same_processes(pool: Pool, owner: Owner) -> None:
    tasks = [a_new_task(processes=2) for _ in range(6)]
    for one in tasks:
        await owner.tasks.create(one)
    owners = [Owner(pool) for _ in range(3)]

    claims = (owners[index].queue.claim([one.id for one in tasks[index::3]], Machine("t:1", 4, 4)) for index in range(3))
    claimed = [assignment for found in await asyncio.gather(*claims) for assignment in found]

    assert len(claimed) == 2
    first = next(one for one in owners if one.id == claimed[0].claim.owner)
    await first.claims.finish(claimed[0].claim, Change(State.QUEUED, "again"))
    assert len(await owner.queue.claim([one.id for one in tasks], Machine("t:1", 4, 4))) == 1


async def test_a_task_rests_until_its_time_and_longer_after_each_loss(pool: Pool, owner: Owner) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    waiting, tried = dataclasses.replace(a_new_task(), not_before=later), a_new_task()
    for one in (waiting, tried):
        await owner.tasks.create(one)

    assignment = await owner.claim("t:1", 1)
    assert assignment
    assert assignment.claim.task_id == tried.id
    assert await owner.queue.claim([waiting.id], Machine("t:1", 1, 1)) == []
    failure, retry = Change(State.FAILED, "f", error=b""), Change(State.QUEUED, "again")
    hour = datetime.timedelta(hours=1)
    await owner.claims.lose_run(assignment.claim, max_lost_runs=3, failure=failure, retry=retry, first_rest=hour)

    assert (await owner.queue.look([Machine("m", 9, 9)])).waiting == []
    resting = await owner.tasks.get(tried.id)
    assert resting.not_before
    assert resting.not_before - resting.update_time == hour


async def test_what_a_call_has_made_is_its_answer_however_soon_the_task_goes_on_or_is_gone(pool: Pool, postgres_dsn: str) -> None:
    class Hasty(Hub):
        """Somebody deletes a task at the moment at which it is changed."""

        def notify(self, task_id: uuid.UUID) -> None:
            with psycopg.connect(postgres_dsn, autocommit=True) as somebody:
                somebody.execute("DELETE FROM task_manager.task WHERE id = %s", [task_id])

    tasks = TaskRepository(pool, Hasty())
    cancelled = await tasks.cancel((await tasks.create(a_new_task())).id, "now")
    assert (cancelled.state, cancelled.state_reason) == (State.CANCELLED, "cancelling was asked for: now")
    assignment = await Owner(pool).claimed()
    assert (await tasks.pause(assignment.claim.task_id, "")).state is State.PAUSING


async def test_a_task_that_is_paused_rests_for_nobody(pool: Pool, owner: Owner) -> None:
    task = a_new_task()
    await owner.tasks.create(task)
    assignment = await owner.claim("t:1", 1)
    assert assignment
    await owner.tasks.pause(task.id, "wait")
    changes = {"failure": Change(State.FAILED, "f", error=b""), "retry": Change(State.QUEUED, "again")}
    await owner.claims.lose_run(assignment.claim, max_lost_runs=3, first_rest=datetime.timedelta(hours=1), **changes)

    paused = await owner.tasks.get(task.id)
    assert (paused.state, paused.not_before) == (State.PAUSED, None)


async def test_the_higher_priority_is_claimed_first_and_equal_ones_by_age(pool: Pool, owner: Owner) -> None:
    low, old, new, high = [dataclasses.replace(a_new_task(), priority=priority) for priority in (-1, 0, 0, 7)]
    for one in (low, old, new, high):
        await owner.tasks.create(one)
    listing = TaskListing(pool)

    assert [await listing.queue_position(one.id) for one in (high, old, new, low)] == [1, 2, 3, 4]
    await owner.tasks.update(low.id, TaskUpdate(priority=8))
    assert await listing.queue_position(low.id) == 1

    claimed = [await owner.claim("t:1", 1) for _ in range(4)]
    assert [one and one.claim.task_id for one in claimed] == [low.id, high.id, old.id, new.id]
    assert await listing.queue_position(low.id) == 0


async def test_totals_follow_every_move_and_survive_being_tidied_by_several(pool: Pool, owner: Owner) -> None:
    totals = TaskTotals(pool)

    async def told(wanted: TaskFilter) -> dict[State, int]:
        found = await TaskListing(pool).totals(wanted)
        assert not any(total.at_least for total in found.values())
        return {state: total.count for state, total in found.items()}

    kept = [(await owner.tasks.create(a_new_task())).id for _ in range(5)]
    claim = await owner.claim("t:1", 1)
    assert claim
    await owner.tasks.cancel(kept[3], "")
    await owner.tasks.cancel(kept[4], "")
    await owner.tasks.delete(kept[4])
    expected = {State.QUEUED: 3 - (claim.claim.task_id in kept[:3]), State.STARTING: 1, State.CANCELLED: 1}

    assert await told(TaskFilter()) == expected
    await asyncio.gather(*(totals.compact() for _ in range(4)), owner.tasks.cancel(kept[2], ""))
    assert await told(TaskFilter()) == {State.QUEUED: 1, State.STARTING: 1, State.CANCELLED: 2}
    assert await told(TaskFilter(states=(State.CANCELLED,))) == {State.CANCELLED: 2}
    assert await told(TaskFilter(methods=("SFT",))) == await totals.by_state()


async def test_a_change_is_behind_the_horizon_until_its_transaction_has_ended(pool: Pool, owner: Owner) -> None:
    listing, nowhere = TaskListing(pool), uuid.UUID(int=0)
    slow, fast = [(await owner.tasks.create(a_new_task())).id for _ in range(2)]
    before = await listing.moment()
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("UPDATE task_manager.task SET description = 'slow' WHERE id = %s", [slow])
        await owner.tasks.update(fast, TaskUpdate(description="fast"))
        during = await listing.moment()
        seen = await listing.changed(TaskFilter(), (before.horizon, nowhere), 10)
        assert [one.task.id for one in seen] == [fast]
        assert during.horizon < seen[0].transaction, "an older transaction is still open"
    seen = await listing.changed(TaskFilter(), (during.horizon, nowhere), 10)
    assert [one.task.id for one in seen] == [slow, fast]
    after = await listing.moment()
    assert await listing.changed(TaskFilter(), (after.horizon, nowhere), 10) == []


async def test_migrating_again_changes_nothing(pool: Pool, postgres_dsn: str) -> None:
    directory = Path(task_manager.__file__).parent / "migrations"

    assert await migrate(postgres_dsn, "task_manager", directory) == 0


# ---- migrations


async def test_tasks_from_before_know_their_datasets_after_the_migration(empty_dsn: str, tmp_path: Path) -> None:
    migrations = Path(task_manager.__file__).parent / "migrations"
    first = tmp_path / "001_initial.sql"
    first.write_text((migrations / first.name).read_text())
    await migrate(empty_dsn, "task_manager", tmp_path)
    ids = [uuid.uuid4() for _ in range(2)]
    tuning = task_spec_pb2.FineTuning(
        base_model="baseModels/x", dataset=f"datasets/{ids[0]}", validation_dataset=f"datasets/{ids[1]}"
    )
    # Bytes that are neither text nor valid UTF-8 stand beside the names.
    tuning.hyperparameters.learning_rate = 1e-3
    spec = task_spec_pb2.TaskSpec(fine_tuning=tuning).SerializeToString()
    insert = (
        "INSERT INTO task_manager.task (id, display_name, description, labels, spec, effective_hyperparameters, processes,"
        " request_digest) VALUES (gen_random_uuid(), 'n', '', '{}', %s, '', 1, '')"
    )
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as connection:
        await connection.execute(insert, (spec,))
        await connection.execute(insert, (b"",))

        await migrate(empty_dsn, "task_manager", migrations)

        rows = await (await connection.execute("SELECT datasets FROM task_manager.task ORDER BY length(spec)")).fetchall()
    assert [set(row[0]) for row in rows] == [set(), set(ids)]


# ---- results, and what follows on a task


async def test_a_result_is_kept_with_its_event_and_a_fine_tuning_shows_what_followed_on_it(pool: Pool, owner: Owner) -> None:
    dataset = f"datasets/{uuid.uuid4()}"
    ask = task_spec_pb2.FineTuning(base_model="baseModels/tiny", evaluation_dataset=dataset)
    spec = task_spec_pb2.TaskSpec(fine_tuning=ask).SerializeToString()
    await owner.tasks.create(dataclasses.replace(a_new_task(), spec=spec))
    assignment = await owner.claim("t:1", 1)
    assert assignment
    task_id, artifact = assignment.claim.task_id, f"artifacts/{uuid.uuid4()}"
    await owner.events.append(assignment.claim, 0, [started(1)], None)
    await owner.claims.finish(assignment.claim, Change(State.SUCCEEDED, "done", artifact=artifact))
    following = await owner.claim("t:1", 1)
    assert following
    assert following.claim.task_id == evaluation_id(task_id)
    assert (following.kind, (await owner.tasks.get(following.claim.task_id)).origin_task) == (Kind.EVALUATION, task_id)
    result = evaluation_pb2.EvaluationResult(row_count=5)
    events = [
        task_event_pb2.TaskEvent(sequence=1, answering_started=task_event_pb2.AnsweringStarted(total_answers=10)),
        task_event_pb2.TaskEvent(sequence=2, evaluation_finished=task_event_pb2.EvaluationFinished(result=result)),
    ]
    for _ in range(2):
        await owner.events.append(following.claim, 0, events, None)
    assert (await owner.tasks.get(following.claim.task_id)).state is State.RUNNING
    for told in (task_id, following.claim.task_id):
        message = task_pb2.Task()
        await Results(pool).tell(await owner.tasks.get(told), message)
        assert message.evaluation_result == result
    assert message.evaluation_task == ""


async def test_a_fine_tuning_that_has_measured_itself_shows_that_and_nothing_follows(pool: Pool, owner: Owner) -> None:
    ask = task_spec_pb2.FineTuning(
        base_model="baseModels/tiny",
        validation_dataset=f"datasets/{uuid.uuid4()}",
        method=task_spec_pb2.FineTuning.CLASSIFICATION,
    )
    spec = task_spec_pb2.TaskSpec(fine_tuning=ask).SerializeToString()
    await owner.tasks.create(dataclasses.replace(a_new_task(), spec=spec))
    assignment = await owner.claim("t:1", 1)
    assert assignment
    result = evaluation_pb2.EvaluationResult(row_count=12)
    told = task_event_pb2.TaskEvent(sequence=2, evaluation_finished=task_event_pb2.EvaluationFinished(result=result))
    await owner.events.append(assignment.claim, 0, [started(1), told], None)
    await owner.claims.finish(assignment.claim, Change(State.SUCCEEDED, "done", artifact=f"artifacts/{uuid.uuid4()}"))
    message = task_pb2.Task()
    await Results(pool).tell(await owner.tasks.get(assignment.claim.task_id), message)
    assert (message.evaluation_result, message.evaluation_task) == (result, "")
    assert await owner.claim("t:1", 1) is None


async def test_the_rows_that_a_run_held_out_are_asked_when_it_has_succeeded(pool: Pool, owner: Owner) -> None:
    dataset = f"datasets/{uuid.uuid4()}"
    ask = task_spec_pb2.FineTuning(base_model="baseModels/tiny", validation_split_ratio=0.1)
    spec = task_spec_pb2.TaskSpec(fine_tuning=ask).SerializeToString()
    await owner.tasks.create(dataclasses.replace(a_new_task(), spec=spec))
    assignment = await owner.claim("t:1", 1)
    assert assignment
    told = task_event_pb2.TaskEvent(sequence=2, rows_held_out=task_event_pb2.RowsHeldOut(dataset=dataset))
    await owner.events.append(assignment.claim, 0, [started(1), told], None)
    await owner.claims.finish(assignment.claim, Change(State.SUCCEEDED, "done", artifact=f"artifacts/{uuid.uuid4()}"))
    message = task_pb2.Task()
    await Results(pool).tell(await owner.tasks.get(assignment.claim.task_id), message)
    assert message.held_out_dataset == dataset
    assert message.evaluation_task == f"tasks/{evaluation_id(assignment.claim.task_id)}"
    following = await owner.claim("t:1", 1)
    assert following
    assert task_spec_pb2.TaskSpec.FromString(following.spec).evaluation.dataset == dataset


async def test_the_same_evaluation_never_follows_twice(pool: Pool, owner: Owner) -> None:
    dataset = f"datasets/{uuid.uuid4()}"
    ask = task_spec_pb2.FineTuning(base_model="baseModels/tiny", evaluation_dataset=dataset)
    spec = task_spec_pb2.TaskSpec(fine_tuning=ask).SerializeToString()
    await owner.tasks.create(dataclasses.replace(a_new_task(), spec=spec))
    assignment = await owner.claim("t:1", 1)
    assert assignment
    await owner.events.append(assignment.claim, 0, [started(1)], None)
    await owner.claims.finish(assignment.claim, Change(State.SUCCEEDED, "done", artifact=f"artifacts/{uuid.uuid4()}"))
    async with transaction(pool) as connection:
        assert not await follow_ups.create(connection, assignment.claim.task_id)
        cursor = await connection.execute("SELECT count(*) AS count FROM task_manager.task WHERE kind = 'EVALUATION'")
        row = await cursor.fetchone()
    assert row == {"count": 1}
