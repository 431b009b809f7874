"""One attempt of one task against a scripted trainer: start, stream, end, and everything that breaks in between."""

import asyncio
import contextlib
import datetime

import pytest
from dispatch_fakes import (
    RUN,
    FakeStore,
    FakeTrainer,
    absent,
    assignment,
    away,
    batch,
    checkpoints_before,
    end,
    settings,
    started,
    step,
)

from services.common.errors import ServiceError, Unavailable
from services.task_manager import run_follower
from services.task_manager.conversion import error_to_proto, make_error
from services.task_manager.domain.attempt import LOST_ANSWER, Failing, has_fenced_itself
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.task import State
from services.task_manager.event_batches import gathered
from services.task_manager.hub import Hub
from services.task_manager.run_asking import ask_repeatedly
from services.task_manager.run_follower import CheckpointsBefore, RunFollower
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.trainer_port import RunEvents, RunMessage
from tunesmith.v1 import task_spec_pb2

WHOLE = (batch(), batch(started(1)), batch(step(2, 1), step(3, 2)), end(3))


def follower(
    store: FakeStore,
    trainer: FakeTrainer,
    *,
    is_new: bool = True,
    using: TaskManagerSettings | None = None,
    checkpoints: CheckpointsBefore = checkpoints_before,
) -> RunFollower:
    return RunFollower(
        store.task,
        is_new=is_new,
        trainer=trainer,
        claims=store,
        events=store,
        hub=Hub(),
        settings=using or settings(),
        checkpoints_before=checkpoints,
    )


async def followed(trainer: FakeTrainer, stored: Assignment | None = None, *, is_new: bool = True) -> FakeStore:
    """The store after the follower has ended."""
    store = FakeStore(stored or assignment())
    await asyncio.wait_for(follower(store, trainer, is_new=is_new).run(), 10)
    return store


def states(store: FakeStore) -> list[State]:
    return [change.to for change in store.changes]


def numbers(store: FakeStore) -> list[int]:
    return [event.sequence for event in store.events]


async def test_a_run_is_started_followed_and_its_end_recorded() -> None:
    trainer = FakeTrainer(WHOLE)

    store = await followed(trainer)

    assert trainer.started == [RUN]
    assert trainer.followed == [0]
    assert numbers(store) == [1, 2, 3]
    assert states(store) == [State.RUNNING, State.SUCCEEDED]
    assert store.changes[-1].artifact == "artifacts/a"
    assert store.progress
    assert (store.progress.step, store.progress.total_steps) == (2, 10)


@pytest.mark.parametrize("cut", range(1, 4))
async def test_a_stream_broken_anywhere_goes_on_from_what_is_stored(cut: int) -> None:
    events = [started(1), step(2, 1), step(3, 2)]
    first = [*(batch(event) for event in events[:cut]), away()]
    rest = [*(batch(event) for event in events[cut:]), end(3)]
    trainer = FakeTrainer(first, rest)

    store = await followed(trainer)

    assert trainer.followed == [0, cut]
    assert numbers(store) == [1, 2, 3]
    assert states(store)[-1] is State.SUCCEEDED


def a_spec(*, dataset: str = "datasets/d", checkpoints: bool = True) -> bytes:
    ask = task_spec_pb2.FineTuning(evaluation_dataset=dataset, evaluation_checkpoints=checkpoints)
    return task_spec_pb2.TaskSpec(fine_tuning=ask).SerializeToString()


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        (a_spec(), ["artifacts/a-early", "artifacts/a-late"]),
        (a_spec(checkpoints=False), []),
        (a_spec(dataset=""), []),
        (b"", []),
    ],
    ids=["asked for", "only the result", "no evaluation", "nothing"],
)
async def test_checkpoints_are_told_to_the_evaluation_that_asks_for_them(spec: bytes, asked: list[str]) -> None:
    store = await followed(FakeTrainer(WHOLE), assignment(spec=spec))
    assert (states(store)[-1], store.checkpoints) == (State.SUCCEEDED, asked)


async def test_a_task_that_fails_asks_for_no_checkpoints() -> None:
    error = make_error("TRAINING_FAILED", "broke")
    trainer = FakeTrainer((batch(started(1)), end(1, State.FAILED, error)))
    store = FakeStore(assignment(spec=a_spec()))

    async def never(artifact: str) -> list[str]:
        raise AssertionError(artifact)

    await asyncio.wait_for(follower(store, trainer, checkpoints=never).run(), 10)
    assert states(store)[-1] is State.FAILED


async def test_the_end_waits_for_storage_when_checkpoints_are_asked_for() -> None:
    trainer = FakeTrainer(WHOLE, (end(3),))
    store, times = FakeStore(assignment(spec=a_spec())), 0

    async def away_at_first(artifact: str) -> list[str]:
        nonlocal times
        times += 1
        if times == 1:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        return ["artifacts/c"]

    await asyncio.wait_for(follower(store, trainer, checkpoints=away_at_first).run(), 10)
    assert (times, trainer.followed, store.checkpoints) == (2, [0, 3], ["artifacts/c"])
    assert states(store) == [State.RUNNING, State.SUCCEEDED]


async def test_a_stream_that_closes_without_an_end_is_resumed() -> None:
    trainer = FakeTrainer((batch(started(1)),), (end(1),))

    store = await followed(trainer)

    assert trainer.followed == [0, 1]
    assert states(store) == [State.RUNNING, State.SUCCEEDED]


async def test_repeated_events_are_stored_once() -> None:
    trainer = FakeTrainer((batch(started(1), step(2, 1)), batch(step(2, 1), step(3, 2)), end(3)))

    assert numbers(await followed(trainer)) == [1, 2, 3]


async def test_a_gap_is_never_stored_and_the_stream_is_asked_again() -> None:
    trainer = FakeTrainer((batch(started(1)), batch(step(3, 2))), (batch(step(2, 1), step(3, 2)), end(3)))

    store = await followed(trainer)

    assert trainer.followed[0] == 0
    assert numbers(store) == [1, 2, 3]


async def test_an_end_beyond_what_was_streamed_is_not_believed() -> None:
    trainer = FakeTrainer((batch(started(1)), end(3)), (batch(step(2, 1), step(3, 2)), end(3)))

    store = await followed(trainer)

    assert trainer.followed == [0, 1]
    assert numbers(store) == [1, 2, 3]


async def test_a_trainer_that_is_away_is_explained_and_never_given_up() -> None:
    trainer = FakeTrainer(*[(away(),)] * 5, WHOLE)

    store = await followed(trainer)

    assert store.explanations[0] == "waits for a trainer: t:1 does not answer"
    assert store.explanations[-1] == "the trainer answers again"
    assert states(store)[-1] is State.SUCCEEDED


async def test_one_answer_that_the_run_is_absent_is_not_enough() -> None:
    trainer = FakeTrainer((absent(),), WHOLE)

    assert states(await followed(trainer)) == [State.RUNNING, State.SUCCEEDED]


async def test_two_answers_with_a_sign_of_life_between_are_not_enough() -> None:
    trainer = FakeTrainer((absent(),), (batch(started(1)), away()), (absent(),), (end(1),))

    assert states(await followed(trainer)) == [State.RUNNING, State.SUCCEEDED]


async def test_a_run_that_is_absent_twice_is_lost_and_queued_again() -> None:
    store = await followed(FakeTrainer((absent(),), (absent(),)))

    assert states(store) == [State.QUEUED]
    assert f"t:1 does not have {RUN} any more" in store.changes[0].reason


async def test_a_run_that_is_lost_while_cancelling_is_cancelled() -> None:
    store = await followed(FakeTrainer((absent(),), (absent(),)), assignment(state=State.CANCELLING), is_new=False)

    assert states(store) == [State.CANCELLED]


async def test_a_journal_shorter_than_the_store_is_a_loss_and_the_strange_run_is_ended() -> None:
    ahead = ServiceError("CURSOR_AHEAD", "1 event")
    trainer = FakeTrainer((ahead,), (ahead,))

    store = await followed(trainer, assignment(state=State.RUNNING, run_sequence=7), is_new=False)

    assert trainer.cancelled == [RUN]
    assert states(store) == [State.QUEUED]


# ---- starting


async def test_an_adopted_run_with_stored_events_is_never_started_again() -> None:
    trainer = FakeTrainer((end(7),))

    await followed(trainer, assignment(run_sequence=7), is_new=False)

    assert (trainer.started, trainer.followed) == ([], [7])


async def test_an_adopted_task_without_events_is_started_because_that_is_repeatable() -> None:
    trainer = FakeTrainer(WHOLE)

    await followed(trainer, is_new=False)

    assert trainer.started == [RUN]


@pytest.mark.parametrize("error", [away(), ServiceError("INTERNAL", "crashed"), ServiceError("UNAUTHENTICATED", "no key")])
async def test_a_start_that_may_have_arrived_is_repeated(error: ServiceError) -> None:
    trainer = FakeTrainer(WHOLE, starts=[error, error, None])

    store = await followed(trainer)

    assert trainer.started == [RUN]
    assert store.explanations[0].startswith("waits for a trainer: ")
    assert states(store)[-1] is State.SUCCEEDED


async def test_a_trainer_without_room_is_asked_again() -> None:
    trainer = FakeTrainer(WHOLE, starts=[ServiceError("NO_CAPACITY", "full"), None])

    store = await followed(trainer)

    assert store.explanations[0] == "waits for room on the trainer: full"
    assert states(store)[-1] is State.SUCCEEDED


@pytest.mark.parametrize("reason", ["NO_CAPACITY", "STALE_EPOCH"])
async def test_a_trainer_without_room_for_too_long_gives_the_task_back(reason: str) -> None:
    store = FakeStore(assignment())
    trainer = FakeTrainer(starts=[ServiceError(reason, "full")])

    await follower(store, trainer, using=settings(start_timeout=datetime.timedelta(0))).run()

    assert states(store) == [State.QUEUED]


@pytest.mark.parametrize("reason", ["TOO_MANY_PROCESSES", "INVALID_FIELD", "BASE_MODEL_NOT_FOUND"])
async def test_a_start_that_can_never_work_fails_with_the_trainers_reason(reason: str) -> None:
    store = await followed(FakeTrainer(starts=[ServiceError(reason, "said so", hint="do this")]))

    error = error_to_proto(store.changes[0].error)
    assert states(store) == [State.FAILED]
    assert error
    assert (error.reason, error.message, error.hint) == (reason, "said so", "do this")


async def test_a_cancel_before_the_first_start_needs_no_trainer() -> None:
    trainer = FakeTrainer()

    store = await followed(trainer, assignment(state=State.CANCELLING))

    assert states(store) == [State.CANCELLED]
    assert (trainer.started, trainer.followed) == ([], [])


async def test_a_cancel_after_a_refusal_needs_no_trainer() -> None:
    store = FakeStore(assignment())
    trainer = FakeTrainer(starts=[ServiceError("NO_CAPACITY", "full")])
    trainer.on_start = store.cancel

    await asyncio.wait_for(follower(store, trainer).run(), 10)

    assert states(store) == [State.CANCELLING, State.CANCELLED]
    assert trainer.followed == []


async def test_a_cancel_after_a_start_without_an_answer_waits_for_the_trainer() -> None:
    store = FakeStore(assignment())
    trainer = FakeTrainer((away(),), (end(0, State.CANCELLED),), starts=[away()])
    trainer.on_start = store.cancel

    await asyncio.wait_for(follower(store, trainer).run(), 10)

    assert states(store) == [State.CANCELLING, State.CANCELLED]
    assert trainer.followed == [0, 0]
    assert trainer.started == [], "what is to be ended is not started again"


# ---- ends


@pytest.mark.parametrize(
    ("state", "last", "recorded", "reason"),
    [
        (State.RUNNING, end(0), State.SUCCEEDED, ""),
        (State.STARTING, end(0), State.SUCCEEDED, ""),
        (State.CANCELLING, end(0), State.SUCCEEDED, ""),
        (State.CANCELLING, end(0, State.CANCELLED), State.CANCELLED, ""),
        (State.CANCELLING, end(0, State.FAILED, make_error("RUN_LOST", "m")), State.CANCELLED, ""),
        (State.RUNNING, end(0, State.FAILED, make_error("OUT_OF_MEMORY", "m")), State.FAILED, "OUT_OF_MEMORY"),
        (State.RUNNING, end(0, State.FAILED), State.FAILED, "TRAINING_FAILED"),
        (State.RUNNING, end(0, artifact=""), State.FAILED, "TRAINING_FAILED"),
        (State.RUNNING, end(0, None), State.FAILED, "TRAINING_FAILED"),
        (State.RUNNING, end(0, State.CANCELLED), State.FAILED, "RUN_STOPPED"),
        (State.PAUSING, end(0), State.SUCCEEDED, ""),
        (State.PAUSING, end(0, State.FAILED, make_error("RUN_PAUSED", "m")), State.PAUSED, ""),
        (State.PAUSING, end(0, State.FAILED, make_error("RUN_LOST", "m")), State.PAUSED, ""),
        (State.PAUSING, end(0, State.FAILED, make_error("OUT_OF_MEMORY", "m")), State.FAILED, "OUT_OF_MEMORY"),
        (State.CANCELLING, end(0, State.FAILED, make_error("RUN_PAUSED", "m")), State.CANCELLED, ""),
    ],
)
async def test_every_end_becomes_a_state_of_rest_with_its_reason(
    state: State, last: RunMessage, recorded: State, reason: str
) -> None:
    store = await followed(FakeTrainer((last,)), assignment(state=state), is_new=False)

    assert states(store)[-1] is recorded
    error = error_to_proto(store.changes[-1].error) if recorded is State.FAILED else None
    assert (error.reason if error else "") == reason


@pytest.mark.parametrize("reason", ["RUN_LOST", "RUN_STOPPED"])
async def test_an_interrupted_run_is_followed_by_another_attempt(reason: str) -> None:
    last = end(0, State.FAILED, make_error(reason, "the machine went down"))
    store = await followed(FakeTrainer((last,)), assignment(state=State.RUNNING), is_new=False)

    assert states(store)[-1] is State.QUEUED
    assert "the machine went down" in store.changes[-1].reason


async def test_a_task_paused_before_a_run_was_started_rests_at_once() -> None:
    trainer = FakeTrainer()
    store = await followed(trainer, assignment(state=State.PAUSING), is_new=True)

    assert states(store) == [State.PAUSED]
    assert trainer.started == []


async def test_pauses_are_no_losses_however_many_there_are() -> None:
    last = end(0, State.FAILED, make_error("RUN_PAUSED", "paused"))
    store = await followed(FakeTrainer((last,)), assignment(state=State.PAUSING), is_new=False)

    assert (store.lost, states(store)[-1]) == (0, State.PAUSED)


# ---- strict trainers

MINUTE = datetime.timedelta(minutes=1)


class Clock:
    """Every look at it takes 40 seconds."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 40
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(run_follower, "time", made)
    return made


async def test_what_others_say_of_a_silence_does_not_count_before_own_tries_have_failed_for_as_long(clock: Clock) -> None:
    """A try that starts the run may be what reaches the trainer last."""
    trainer = FakeTrainer((away(),), (end(3),))
    store = FakeStore(assignment(state=State.RUNNING, run_sequence=3, fenced_after=MINUTE))
    store.silent_for = 100 * MINUTE

    await asyncio.wait_for(follower(store, trainer, is_new=False).run(), 10)

    assert states(store) == [State.SUCCEEDED]


def test_tries_count_from_the_first_and_anew_after_a_long_pause() -> None:
    failing = Failing()
    assert [failing.failed(now).total_seconds() for now in (100, 140, 185, 230.5, 260)] == [0, 40, 85, 0, 29.5]


@pytest.mark.parametrize(("seconds", "has"), [(60, False), (114, False), (115, True), (1000, True)])
def test_a_strict_trainer_has_ended_its_runs_when_even_a_lost_answer_would_be_old(seconds: int, has: bool) -> None:
    assert datetime.timedelta(seconds=45) == LOST_ANSWER
    assert has_fenced_itself(MINUTE, datetime.timedelta(seconds=seconds), datetime.timedelta(seconds=10)) is has


@pytest.mark.parametrize(
    ("state", "sequence", "last"),
    [
        (State.RUNNING, 3, State.QUEUED),
        (State.STARTING, 0, State.QUEUED),
        (State.PAUSING, 3, State.PAUSED),
        (State.CANCELLING, 3, State.CANCELLED),
    ],
)
async def test_a_run_of_a_strict_trainer_that_stays_silent_is_lost(
    state: State, sequence: int, last: State, clock: Clock
) -> None:
    stored = assignment(state=state, run_sequence=sequence, fenced_after=MINUTE)
    trainer, store = FakeTrainer(*[(away(),)] * 9, starts=[away()] * 9), FakeStore(stored)
    store.silent_for = 2 * MINUTE

    await asyncio.wait_for(follower(store, trainer, is_new=False).run(), 10)

    assert states(store) == [last]
    if last is State.QUEUED:
        assert store.changes[-1].reason.startswith("t:1 has been silent for 120 s and has ended the run by itself")


@pytest.mark.parametrize(("after", "silence"), [(None, 100 * MINUTE), (MINUTE, MINUTE)], ids=["relaxed", "not long enough"])
async def test_a_silent_trainer_that_may_still_compute_is_asked_on(
    after: datetime.timedelta | None, silence: datetime.timedelta, clock: Clock
) -> None:
    trainer = FakeTrainer((away(),), (away(),), (end(3),))
    store = FakeStore(assignment(state=State.RUNNING, run_sequence=3, fenced_after=after))
    store.silent_for = silence

    await asyncio.wait_for(follower(store, trainer, is_new=False).run(), 10)

    assert (states(store), len(trainer.followed)) == ([State.SUCCEEDED], 3)


async def test_a_refusal_is_no_silence(clock: Clock) -> None:
    trainer = FakeTrainer((ServiceError("INTERNAL", "a defect"),), (end(3),))
    store = FakeStore(assignment(state=State.RUNNING, run_sequence=3, fenced_after=MINUTE))
    store.silent_for = 2 * MINUTE

    await asyncio.wait_for(follower(store, trainer, is_new=False).run(), 10)

    assert states(store) == [State.SUCCEEDED]


# ---- the store


async def test_a_follower_that_was_replaced_stops_quietly() -> None:
    store = FakeStore(assignment())
    store.owned = False
    trainer = FakeTrainer(WHOLE)

    await asyncio.wait_for(follower(store, trainer).run(), 10)

    assert (trainer.started, store.events, store.changes) == ([], [], [])


@pytest.mark.parametrize("count", range(1, 6))
async def test_postgres_that_is_away_at_any_moment_costs_nothing_but_time(count: int) -> None:
    store = FakeStore(assignment())
    trainer = FakeTrainer(*[WHOLE] * 10)
    store.failures = [Unavailable("POSTGRES_UNAVAILABLE", "away")] * count

    task = asyncio.create_task(follower(store, trainer).run())
    await asyncio.wait_for(task, 10)

    assert numbers(store) == [1, 2, 3]
    assert states(store) == [State.RUNNING, State.SUCCEEDED]


async def test_a_defect_in_the_store_is_logged_and_tried_again() -> None:
    store = FakeStore(assignment())
    store.failures = [RuntimeError("a defect")]

    await asyncio.wait_for(follower(store, FakeTrainer(WHOLE)).run(), 10)

    assert states(store)[-1] is State.SUCCEEDED


@pytest.mark.parametrize("error", [absent(), KeyError("nobody has thought of it")], ids=["refused", "unexpected"])
async def test_cancelling_is_asked_for_again_and_again(error: Exception) -> None:
    asked_thrice = asyncio.Event()

    class Deaf(FakeTrainer):
        async def cancel_run(self, name: str) -> None:
            self.cancelled.append(name)
            if len(self.cancelled) == 3:
                asked_thrice.set()
            raise error

    trainer = Deaf()
    task = asyncio.create_task(ask_repeatedly(trainer.cancel_run, RUN, 0.001))

    await asyncio.wait_for(asked_thrice.wait(), 10)
    task.cancel()

    assert set(trainer.cancelled) == {RUN}


async def test_a_cancellation_that_a_library_swallowed_still_ends_the_follower() -> None:
    store = FakeStore(assignment())

    class Swallowing(FakeTrainer):
        async def start_run(self, assignment: Assignment) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise away()

    task = asyncio.create_task(follower(store, Swallowing()).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)

    assert task.cancelled()


# ---- gathering


async def test_what_arrives_together_is_one_group_and_an_error_comes_after_it() -> None:
    trainer = FakeTrainer((batch(started(1)), batch(step(2, 1)), away()))
    groups: list[list[RunMessage]] = []

    with pytest.raises(Unavailable):
        async for group in gathered(trainer.follow_run(RUN, 0), 5.0):
            groups.append(group)

    events = [event.sequence for group in groups for one in group if isinstance(one, RunEvents) for event in one.events]
    assert events == [1, 2]
    assert len(groups) == 1


async def test_a_group_does_not_wait_longer_than_its_time() -> None:
    trainer = FakeTrainer((batch(started(1)),))
    groups = gathered(trainer.follow_run(RUN, 0), 0.001)

    assert len(await asyncio.wait_for(anext(groups), 5)) == 1
    await groups.aclose()
