"""What may change about a task while it continues, and how changed numbers meet those that were asked for before."""

import dataclasses
from typing import Any

import pytest

from services.common.changeable import CHANGEABLE
from services.common.errors import ServiceError
from services.task_manager.domain import retry
from services.task_manager.domain.hyperparameters import Hyperparameters, Lora, Preference
from services.task_manager.domain.task import State
from services.task_manager.merging import merged
from services.trainer.training import config
from tunesmith.v1 import task_spec_pb2

BEFORE = Hyperparameters(
    max_steps=100, learning_rate=1e-3, seed=1, global_batch_size=8, lora=Lora(rank=8), preference=Preference(beta=0.1)
)


def refused(**changes: Any) -> list[str]:
    return [violation.field for violation in retry.violations(BEFORE, dataclasses.replace(BEFORE, **changes), 40)]


def message(**fields: Any) -> task_spec_pb2.Hyperparameters:
    return task_spec_pb2.Hyperparameters(**fields)


@pytest.mark.parametrize("kind", [Hyperparameters, config.Hyperparameters], ids=["asked for", "trained with"])
def test_every_changeable_name_is_that_of_a_number(kind: type) -> None:
    assert {field.name for field in dataclasses.fields(kind)} >= CHANGEABLE


@pytest.mark.parametrize("state", State)
def test_only_what_ended_badly_is_tried_again(state: State) -> None:
    if state in (State.FAILED, State.CANCELLED):
        retry.check_state(state)
        return
    with pytest.raises(ServiceError) as caught:
        retry.check_state(state)
    assert (caught.value.reason, state.value in caught.value.message) == ("TASK_NOT_ENDED_BADLY", True)


def test_nothing_changed_is_nothing_refused() -> None:
    assert refused() == []


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-4},
        {"max_steps": 200},
        {"num_train_epochs": 9.0},
        {"weight_decay": 0.1},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"save_steps": 5, "save_interval_seconds": None},
    ],
    ids=str,
)
def test_how_far_and_how_fast_it_goes_on_may_change(change: dict[str, Any]) -> None:
    assert refused(**change) == []


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"seed": 2}, ["seed"]),
        ({"global_batch_size": 16}, ["global_batch_size"]),
        ({"max_seq_length": 64}, ["max_seq_length"]),
        ({"num_processes": 2, "zero_stage": 2}, ["num_processes", "zero_stage"]),
        ({"lora": Lora(rank=4, alpha=3.0)}, ["lora.rank", "lora.alpha"]),
        ({"preference": Preference(beta=0.2)}, ["preference.beta"]),
    ],
    ids=str,
)
def test_what_makes_it_another_task_is_refused_by_name(change: dict[str, Any], fields: list[str]) -> None:
    assert refused(**change) == [f"hyperparameters.{field}" for field in fields]


def test_the_refusal_says_the_step_and_the_way_out() -> None:
    (violation,) = retry.violations(BEFORE, dataclasses.replace(BEFORE, seed=2), 40)
    assert "step 40" in violation.description
    assert "from_start" in violation.description


def test_a_task_cannot_end_before_where_it_continues() -> None:
    assert refused(max_steps=40) == ["hyperparameters.max_steps"]
    assert refused(max_steps=41) == []


def test_changes_go_over_what_was_asked_for() -> None:
    given = message(learning_rate=1e-3, seed=7)
    assert merged(given, message(learning_rate=1e-4), message()) == message(learning_rate=1e-4, seed=7)
    assert given == message(learning_rate=1e-3, seed=7)


@pytest.mark.parametrize(
    ("given", "changes", "result"),
    [
        (message(max_steps=9), message(num_train_epochs=2.0), message(num_train_epochs=2.0)),
        (message(num_train_epochs=2.0), message(max_steps=9), message(max_steps=9)),
        (message(warmup_steps=9), message(warmup_ratio=0.5), message(warmup_ratio=0.5)),
        (message(max_steps=9), message(max_steps=5, num_train_epochs=2.0), message(max_steps=5, num_train_epochs=2.0)),
    ],
    ids=range(4),
)
def test_of_two_ways_to_say_the_same_the_newer_one_counts(given: Any, changes: Any, result: Any) -> None:
    assert merged(given, changes, message()) == result


def test_a_window_that_is_cut_in_another_way_stays_as_large() -> None:
    given = message(per_device_train_batch_size=8, gradient_accumulation_steps=2)
    result = merged(given, message(per_device_train_batch_size=2), message(global_batch_size=16))
    assert result == message(per_device_train_batch_size=2, global_batch_size=16)


def test_a_window_of_another_size_is_cut_anew() -> None:
    given = message(global_batch_size=16, per_device_train_batch_size=8, gradient_accumulation_steps=2)
    assert merged(given, message(global_batch_size=4), given) == message(global_batch_size=4)


def test_target_modules_are_replaced_and_not_added_to() -> None:
    given = message(lora=task_spec_pb2.Lora(rank=4, target_modules=["q_proj"]))
    changes = message(lora=task_spec_pb2.Lora(target_modules=["v_proj"]))
    assert merged(given, changes, given).lora == task_spec_pb2.Lora(rank=4, target_modules=["v_proj"])
