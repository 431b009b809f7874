"""Which stored checkpoints are a task's own, and which of them led to its result."""

import dataclasses

import pytest

from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kept_checkpoints import on_the_way, own
from services.task_manager.domain.origin import ArtifactFacts

RESULT = ArtifactFacts(
    name="artifacts/result",
    kind="ADAPTER",
    task="tasks/t",
    step=20,
    attempt=3,
    base_model="baseModels/tiny",
    base_model_revision="r",
    method="SFT",
    tuning="LORA",
    hyperparameters=Hyperparameters(),
)


def at(step: int, attempt: int = 1, **changes: object) -> ArtifactFacts:
    return dataclasses.replace(
        RESULT, name=f"artifacts/{step}-{attempt}", kind="CHECKPOINT", step=step, attempt=attempt, **changes
    )


def names(found: list[ArtifactFacts]) -> list[str]:
    return [each.name.removeprefix("artifacts/") for each in found]


@pytest.mark.parametrize(
    ("stored", "first_attempt", "expected"),
    [
        ([at(20), at(10)], 0, ["20-1", "10-1"]),
        ([at(20, 2), at(10, 1)], 0, ["20-2", "10-1"]),
        ([at(20, 2), at(10, 1)], 2, ["20-2"]),
        ([at(20, 2), at(10, 2), at(10, 1)], 0, ["20-2", "10-2"]),
        ([at(20, 1), at(10, 2)], 2, ["10-2"]),
        ([], 0, []),
    ],
    ids=["one attempt", "went on", "began anew", "step twice", "further in vain", "none"],
)
def test_a_tasks_own_are_the_newest_of_each_step_since_it_began_anew(
    stored: list[ArtifactFacts], first_attempt: int, expected: list[str]
) -> None:
    assert names(own(stored, first_attempt)) == expected


def test_what_led_to_a_result_is_in_the_order_of_steps_without_its_own_step() -> None:
    assert names(on_the_way([at(20), at(15), at(5), at(10)], RESULT)) == ["5-1", "10-1", "15-1"]


def test_after_an_early_stop_later_steps_count_too() -> None:
    # The result has the weights of step 10, where the validation loss was best.
    assert names(on_the_way([at(20), at(15), at(10)], dataclasses.replace(RESULT, step=10))) == ["15-1", "20-1"]


@pytest.mark.parametrize(("stage", "count"), [(None, 1), (2, 1), (3, 0)])
def test_a_checkpoint_that_is_cut_among_processes_answers_nothing(stage: int | None, count: int) -> None:
    cut = at(5, hyperparameters=dataclasses.replace(Hyperparameters(), zero_stage=stage))
    assert len(on_the_way([cut], RESULT)) == count
