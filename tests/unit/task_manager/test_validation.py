"""What is wrong with a new task is told completely, by field."""

import dataclasses
import uuid
from typing import Any

import pytest

from services.common.errors import InvalidArgument
from services.task_manager.domain import validation
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, Lora, Preference
from services.task_manager.domain.validation import Draft

UUID = "11111111-1111-4111-8111-111111111111"
ASK = FineTuning(
    base_model="tiny",
    dataset=UUID,
    validation_dataset="",
    method_known=True,
    tuning_known=True,
    hyperparameters=Hyperparameters(),
)
DRAFT = Draft(display_name="n", description="", labels={}, ask=ASK)


def refused(draft: Draft, *, named: bool = True) -> list[str]:
    """The fields that are named."""
    with pytest.raises(InvalidArgument) as caught:
        validation.check(draft, named=named)
    assert all(violation.description for violation in caught.value.violations)
    return [violation.field for violation in caught.value.violations]


def with_ask(**changes: Any) -> Draft:
    return dataclasses.replace(DRAFT, ask=dataclasses.replace(ASK, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"display_name": "x" * 128},
        {"display_name": "ü" * 128},
        {"description": "x" * 2000},
        {"labels": {f"key{number}": "v" * 512 for number in range(64)}},
        {"labels": {"k" * 64: ""}},
        {"max_attempts": 1},
        {"max_attempts": 100},
        {"creator": "ü" * 128},
    ],
)
def test_the_largest_permitted_texts_pass(changes: dict[str, Any]) -> None:
    assert validation.check(dataclasses.replace(DRAFT, **changes), named=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"display_name": ""}, "task.display_name"),
        ({"max_attempts": -1}, "task.max_attempts"),
        ({"creator": "x" * 129}, "task.creator"),
        ({"creator": "a\0b"}, "task.creator"),
        ({"max_attempts": 101}, "task.max_attempts"),
        ({"display_name": " \n"}, "task.display_name"),
        ({"display_name": "x" * 129}, "task.display_name"),
        ({"display_name": "a\0b"}, "task.display_name"),
        ({"description": "x" * 2001}, "task.description"),
        ({"description": "\0"}, "task.description"),
        ({"labels": {f"key{number}": "" for number in range(65)}}, "task.labels"),
        ({"labels": {"": "v"}}, "task.labels['']"),
        ({"labels": {"k" * 65: "v"}}, f"task.labels['{'k' * 65}']"),
        ({"labels": {"k": "v" * 513}}, "task.labels['k']"),
        ({"labels": {"k": "\0"}}, "task.labels['k']"),
        ({"labels": {"a\0": ""}}, "task.labels['a\\x00']"),
        ({"ask": None}, "task.spec.kind"),
    ],
)
def test_each_bad_text_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused(dataclasses.replace(DRAFT, **changes)) == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base_model": ""}, "base_model"),
        ({"base_model": "datasets/x"}, "base_model"),
        ({"base_model": "baseModels/Has Space"}, "base_model"),
        ({"dataset": ""}, "dataset"),
        ({"dataset": "x"}, "dataset"),
        ({"dataset": f"baseModels/{UUID}"}, "dataset"),
        ({"validation_dataset": "x"}, "validation_dataset"),
        ({"method_known": False}, "method"),
        ({"tuning_known": False}, "tuning"),
        ({"hyperparameters": Hyperparameters(eval_steps=1)}, "hyperparameters.eval_steps"),
        ({"hyperparameters": Hyperparameters(seed=-1)}, "hyperparameters.seed"),
        ({"hyperparameters": Hyperparameters(early_stopping_patience=1)}, "hyperparameters.early_stopping_patience"),
        ({"hyperparameters": Hyperparameters(early_stopping_min_delta=1)}, "hyperparameters.early_stopping_min_delta"),
        ({"sample_prompts": ("a",) * 6}, "sample_prompts"),
        ({"sample_prompts": ("a", " ")}, "sample_prompts[1]"),
        ({"sample_prompts": ("a" * 2001,)}, "sample_prompts[0]"),
        ({"sample_prompts": ("a",), "method": "CLASSIFICATION"}, "sample_prompts"),
        ({"artifact_retention_seconds": 0}, "artifact_retention"),
        ({"artifact_retention_seconds": 3599}, "artifact_retention"),
        ({"artifact_retention_seconds": 365 * 86400 + 1}, "artifact_retention"),
        ({"tuning": "QLORA", "hyperparameters": Hyperparameters(zero_stage=3)}, "hyperparameters.zero_stage"),
        ({"tuning": "FULL", "hyperparameters": Hyperparameters(lora=Lora(use_dora=True))}, "hyperparameters.lora.use_dora"),
        ({"hyperparameters": Hyperparameters(preference=Preference(beta=0.1))}, "hyperparameters.preference.beta"),
        ({"hyperparameters": Hyperparameters(deepspeed_overrides="{")}, "hyperparameters.deepspeed_overrides"),
    ],
)
def test_each_bad_field_of_the_ask_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused(with_ask(**changes)) == [f"task.spec.fine_tuning.{field}"]


def test_everything_wrong_is_told_at_once() -> None:
    ask = dataclasses.replace(ASK, base_model="", dataset="x", hyperparameters=Hyperparameters(learning_rate=0, zero_stage=9))
    draft = Draft("", "x" * 2001, {"": ""}, ask)

    assert refused(draft) == [
        "task.display_name",
        "task.description",
        "task.labels['']",
        "task.spec.fine_tuning.base_model",
        "task.spec.fine_tuning.dataset",
        f"{PATH}.learning_rate",
        f"{PATH}.zero_stage",
    ]


def test_contradicting_batch_sizes_are_found_without_asking_storage() -> None:
    fields = refused(with_ask(hyperparameters=Hyperparameters(global_batch_size=10, per_device_train_batch_size=3)))

    assert f"{PATH}.global_batch_size" in fields


@pytest.mark.parametrize("seconds", [3600, 30 * 86400, 365 * 86400])
def test_a_task_may_choose_how_long_its_results_are_kept(seconds: int) -> None:
    assert validation.check(with_ask(artifact_retention_seconds=seconds), named=True)


def test_a_plan_needs_no_name() -> None:
    assert validation.check(dataclasses.replace(DRAFT, display_name=""), named=False)
    assert refused(dataclasses.replace(DRAFT, display_name="x" * 129), named=False) == ["task.display_name"]


def test_bare_ids_become_resource_names() -> None:
    ask = validation.check(with_ask(validation_dataset=f"datasets/{UUID}"), named=True)

    assert (ask.base_model, ask.dataset, ask.validation_dataset) == ("baseModels/tiny", f"datasets/{UUID}", f"datasets/{UUID}")


def test_prompts_are_enough_to_evaluate_and_validation_data_to_lose_patience() -> None:
    ask = with_ask(sample_prompts=("a" * 2000,) * 5, hyperparameters=Hyperparameters(eval_steps=2))
    assert validation.check(ask, named=True).sample_prompts == ("a" * 2000,) * 5
    patience = Hyperparameters(early_stopping_patience=2, early_stopping_min_delta=0.1)
    assert validation.check(with_ask(validation_split_ratio=0.1, hyperparameters=patience), named=True)


def test_evaluation_steps_are_fine_with_validation_data() -> None:
    assert validation.check(with_ask(validation_dataset=UUID, hyperparameters=Hyperparameters(eval_steps=1)), named=True)


@pytest.mark.parametrize(("numbers", "fine"), [({}, False), ({"num_processes": 2}, True), ({"zero_stage": 1}, True)])
def test_overrides_are_checked_against_the_stage_that_will_run(numbers: dict[str, Any], fine: bool) -> None:
    text = '{"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}'
    draft = with_ask(hyperparameters=Hyperparameters(deepspeed_overrides=text, **numbers))
    if fine:
        assert validation.check(draft, named=True)
    else:
        assert refused(draft) == [f"{PATH}.deepspeed_overrides"]


def test_a_request_id_is_a_uuid_or_empty() -> None:
    assert validation.check_request_id("") is None
    assert validation.check_request_id(UUID) == uuid.UUID(UUID)
    with pytest.raises(InvalidArgument) as caught:
        validation.check_request_id("x" * 1000)
    assert caught.value.violations[0].field == "request_id"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("reason", ["x" * 501, "\0"])
def test_the_reason_of_a_cancelling_has_limits(reason: str) -> None:
    validation.check_reason("x" * 500)
    with pytest.raises(InvalidArgument):
        validation.check_reason(reason)
