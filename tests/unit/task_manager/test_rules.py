"""Transitions, plans, progress, thinning, frames and the hub: the small rules."""

import asyncio
import datetime
import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.task_manager.domain import advice, transitions
from services.task_manager.domain.hyperparameters import Facts, Hyperparameters, resolve
from services.task_manager.domain.metrics_history import Sample, SeriesThinner
from services.task_manager.domain.progress import Progress, ProgressTracker
from services.task_manager.domain.steps import steps_per_epoch, total_steps
from services.task_manager.domain.task import ACTIVE, TERMINAL, Change, State
from services.task_manager.domain.transitions import Actor
from services.task_manager.hub import Hub, wait_for
from tunesmith.v1 import task_pb2

Q, S, R, PG, P, CG, OK, F, C = State
PERMITTED = {
    (Q, S), (Q, C),
    (S, R), (S, Q), (S, PG), (S, CG), (S, F),
    (R, OK), (R, F), (R, CG), (R, PG), (R, Q),
    (PG, P), (PG, CG), (PG, F), (PG, OK),
    (P, Q), (P, C),
    (CG, C), (CG, OK), (CG, F),
    (F, Q), (C, Q),
}  # fmt: skip


@pytest.mark.parametrize("state", State)
def test_pausing_and_resuming_lead_only_where_the_table_permits(state: State) -> None:
    for ask, reason, moves, stays in (
        (transitions.after_pause, "TASK_NOT_RUNNING", {S: PG, R: PG}, {PG, P}),
        (transitions.after_resume, "TASK_NOT_PAUSED", {P: Q}, {Q, S, R}),
    ):
        if state in moves or state in stays:
            target = ask(state)
            assert target is moves.get(state, state)
            assert target is state or (state, target) in PERMITTED
        else:
            with pytest.raises(ServiceError) as caught:
                ask(state)
            assert (caught.value.reason, state.value in caught.value.message) == (reason, True)


@pytest.mark.parametrize(
    ("state", "end", "recorded"),
    [(CG, Q, C), (CG, F, C), (CG, OK, OK), (CG, P, C), (PG, Q, P), (PG, F, F), (PG, OK, OK), (R, Q, Q), (R, F, F)],
)
def test_an_end_that_was_asked_for_is_recorded_as_such(state: State, end: State, recorded: State) -> None:
    assert transitions.as_asked(state, Change(end, "why")).to is recorded
    assert (state, recorded) in PERMITTED


BY_CALLERS = {(None, Q), (Q, C), (S, PG), (S, CG), (R, CG), (R, PG), (PG, CG), (P, Q), (P, C), (F, Q), (C, Q)}
BY_THE_TASK_MANAGER = {(Q, S), (S, Q), (R, Q)}


@pytest.mark.parametrize("move", [(None, Q), *sorted(PERMITTED, key=repr)], ids=repr)
def test_every_move_is_made_by_one_kind_of_actor(move: tuple[State | None, State]) -> None:
    others = Actor.TASK_MANAGER if move in BY_THE_TASK_MANAGER else Actor.TRAINER
    assert transitions.actor(*move) is (Actor.CALLER if move in BY_CALLERS else others)
    assert task_pb2.TaskTransition.Actor.Value(transitions.actor(*move).value)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_exactly_the_permitted_moves_are_permitted(before: State, after: State) -> None:
    if (before, after) in PERMITTED:
        transitions.check(before, after)
    else:
        with pytest.raises(transitions.IllegalTransition, match=f"from {before.value} to {after.value}"):
            transitions.check(before, after)


@pytest.mark.parametrize("state", State)
def test_every_state_leads_to_a_terminal_one_and_only_success_is_for_good(state: State) -> None:
    reached, frontier = {state}, {state}
    while frontier:
        frontier = {after for before in frontier for after in transitions.ALLOWED[before]} - reached
        reached |= frontier

    assert (not transitions.ALLOWED[state]) == (state is OK)
    assert not state.is_terminal or transitions.ALLOWED[state] <= {Q}, "another try is all that follows an end"
    assert reached & TERMINAL


@pytest.mark.parametrize("state", State)
def test_cancelling_leads_where_the_table_permits(state: State) -> None:
    target = transitions.after_cancel(state)

    assert target is state or (state, target) in PERMITTED
    assert target in (C, CG) or state.is_terminal
    assert target is CG or not state.is_active, "where a run may exist, it is ended first"


def test_states_are_those_of_the_api() -> None:
    assert {state.value for state in State} | {"STATE_UNSPECIFIED"} == set(task_pb2.Task.State.keys())
    assert not ACTIVE & TERMINAL


# ---- plans


@pytest.mark.parametrize(("examples", "batch", "steps"), [(1, 1, 1), (100, 16, 7), (96, 16, 6), (1, 4096, 1), (0, 16, 1)])
def test_the_last_step_of_a_pass_may_be_smaller(examples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch) == steps


@pytest.mark.parametrize(("epochs", "steps"), [(3.0, 21), (0.5, 4), (1e-9, 1), (0.1, 1)])
def test_parts_of_passes_are_rounded_up(epochs: float, steps: int) -> None:
    assert total_steps(epochs, 100, 16) == steps


def test_floating_point_dust_adds_no_step() -> None:
    assert total_steps(0.1, 30, 1) == 3


def warnings(examples: int, **values: object) -> str:
    given = Hyperparameters(**values)  # type: ignore[arg-type]
    facts = Facts(examples, 4096, has_validation_data="eval_steps" in values)
    return " ".join(advice.about_numbers(resolve(given, facts), examples))


@pytest.mark.parametrize(
    ("examples", "values", "word"),
    [
        (5, {"global_batch_size": 1}, "usually needs 10"),
        (100, {"global_batch_size": 128}, "larger than the dataset"),
        (96, {"num_train_epochs": 11.0}, "overfitting"),
        (96, {"learning_rate": 0.01}, "learning_rate 0.01 is high"),
        (96, {"max_steps": 5, "warmup_steps": 5}, "warmup_steps 5 covers all 5"),
        (96, {"max_steps": 5, "eval_steps": 6}, "eval_steps 6"),
        (96, {"max_steps": 5, "logging_steps": 6}, "logging_steps 6"),
        (97, {}, "The last step of each pass"),
    ],
)
def test_what_deserves_a_second_look_is_said(examples: int, values: dict[str, object], word: str) -> None:
    assert word in warnings(examples, **values)


def test_a_usual_task_has_no_warning() -> None:
    assert warnings(96) == ""


# ---- progress

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def test_progress_is_absent_before_the_first_step_is_planned() -> None:
    tracker = ProgressTracker(None)
    assert tracker.progress is None

    tracker.started(10)

    assert tracker.progress == Progress(total_steps=10)


def test_the_remaining_time_follows_from_the_pace() -> None:
    tracker = ProgressTracker(None)
    tracker.started(10)
    tracker.measured(1, {"loss": 3.0, "epoch": 0.1}, at(0))
    assert tracker.progress
    assert tracker.progress.remaining is None

    tracker.measured(3, {"loss": 2.0}, at(4))

    assert tracker.progress == Progress(3, 10, 0.1, datetime.timedelta(seconds=14), {"loss": 2.0, "epoch": 0.1})


def test_what_the_trainer_expects_goes_before_the_pace() -> None:
    tracker = ProgressTracker(None)
    tracker.started(10)
    tracker.measured(1, {}, at(0), datetime.timedelta(seconds=90))
    tracker.measured(3, {}, at(4), datetime.timedelta(seconds=70))
    assert tracker.progress
    assert tracker.progress.remaining == datetime.timedelta(seconds=70)


def test_values_not_measured_keep_their_newest_value() -> None:
    tracker = ProgressTracker(Progress(2, 10, 0.2, None, {"eval_loss": 1.5, "loss": 2.0}))

    tracker.measured(3, {"loss": 1.0}, at(0))

    assert tracker.progress
    assert tracker.progress.metrics == {"eval_loss": 1.5, "loss": 1.0}


def test_clocks_that_jump_back_give_no_negative_time() -> None:
    tracker = ProgressTracker(Progress(total_steps=10))
    tracker.measured(1, {}, at(10))
    tracker.measured(2, {}, at(0))

    assert tracker.progress
    assert tracker.progress.remaining == datetime.timedelta()


# ---- thinning


def samples(values: list[float]) -> list[Sample]:
    return [Sample(number, number, value, datetime.timedelta(seconds=number)) for number, value in enumerate(values, 1)]


def thinned(values: list[float], max_points: int) -> list[Sample]:
    thinner = SeriesThinner(max_points)
    for sample in samples(values):
        thinner.add(sample)
    assert thinner.sample_count == len(values)
    return thinner.samples()


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=400), st.integers(4, 60))
def test_first_last_smallest_and_largest_are_kept_in_order(values: list[float], max_points: int) -> None:
    kept = thinned(values, max_points)

    assert len(kept) <= max_points
    orders = [sample.order for sample in kept]
    assert orders == sorted(set(orders))
    assert (orders[0], orders[-1]) == (1, len(values))
    found = [sample.value for sample in kept]
    assert (min(found), max(found)) == (min(values), max(values))


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_short_series_are_complete(count: int) -> None:
    assert thinned([float(number) for number in range(count)], 24) == samples([float(number) for number in range(count)])


@pytest.mark.parametrize(("max_points", "orders"), [(1, [10]), (2, [1, 10]), (3, [1, 2, 10])])
def test_with_very_few_points_the_ends_come_first(max_points: int, orders: list[int]) -> None:
    values = [5.0, 1.0, 9.0, *[5.0] * 7]

    assert [sample.order for sample in thinned(values, max_points)] == orders


def test_what_is_not_a_number_survives() -> None:
    values = [1.0] * 500
    values[123] = math.nan

    assert any(math.isnan(sample.value) for sample in thinned(values, 10))


def test_half_of_the_points_asked_for_are_used_at_least() -> None:
    for count in (50, 99, 100, 101, 1000, 4097):
        assert len(thinned([float((number * 7919) % 1009) for number in range(count)], 100)) >= 25


# ---- hints


async def test_a_hint_reaches_who_subscribed_to_the_task_and_nobody_else() -> None:
    hub, task, other = Hub(), uuid.uuid4(), uuid.uuid4()
    with hub.subscribed(task) as first, hub.subscribed(task) as second, hub.subscribed(other) as third:
        hub.notify(task)
        assert (first.is_set(), second.is_set(), third.is_set()) == (True, True, False)
    hub.notify(task)
    assert hub._subscribers == {}


async def test_waiting_ends_with_the_hint_or_the_time() -> None:
    event = asyncio.Event()
    await wait_for(event, 0.001)
    event.set()
    await asyncio.wait_for(wait_for(event, 1000), 5)
