"""Mixtures and splits: what may be asked for, and how many rows follow."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_values import ASK, IDS, mixed

from services.common.errors import InvalidArgument
from services.task_manager.domain import validation
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.training_data import WeightedDataset, count_rows
from services.task_manager.domain.validation import Draft

PATH = "task.spec.fine_tuning"


def refused(ask: FineTuning) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        validation.check(Draft("n", "", {}, ask), named=True)
    assert all(violation.description for violation in caught.value.violations)
    return [violation.field for violation in caught.value.violations]


def accepted(ask: FineTuning) -> FineTuning:
    return validation.check(Draft("n", "", {}, ask), named=True)


@pytest.mark.parametrize("weights", [(1, 1), (0.01, 100), (2, 0.5, 1.5, 3)])
def test_mixtures_of_several_weighted_datasets_pass(weights: tuple[float, ...]) -> None:
    ask = accepted(mixed(*weights))

    assert [source.weight for source in ask.sources] == list(weights)
    assert ask.source_field(1) == f"{PATH}.mixture[1].dataset"


def test_one_dataset_is_a_source_of_weight_one() -> None:
    assert accepted(ASK).sources == (WeightedDataset(ASK.dataset, 1.0),)
    assert ASK.source_field(0) == f"{PATH}.dataset"


@pytest.mark.parametrize("weight", [0, -1, 100.1, math.nan, math.inf])
def test_weights_have_limits(weight: float) -> None:
    assert refused(mixed(1, weight)) == [f"{PATH}.mixture[1].weight"]


def test_a_mixture_and_a_dataset_exclude_each_other() -> None:
    assert refused(dataclasses.replace(mixed(1, 1), dataset=IDS[3])) == [f"{PATH}.mixture"]
    assert refused(dataclasses.replace(ASK, dataset="")) == [f"{PATH}.dataset"]


@pytest.mark.parametrize("count", [1, 33])
def test_a_mixture_has_2_to_32_datasets(count: int) -> None:
    entries = tuple(WeightedDataset(f"{number:08x}-1111-4111-8111-111111111111") for number in range(count))

    assert refused(dataclasses.replace(ASK, dataset="", mixture=entries)) == [f"{PATH}.mixture"]


def test_a_dataset_stands_in_a_mixture_once_however_it_is_written() -> None:
    entries = (WeightedDataset(IDS[0]), WeightedDataset(IDS[1]), WeightedDataset(f"datasets/{IDS[0].upper()}"))

    assert refused(dataclasses.replace(ASK, dataset="", mixture=entries)) == [f"{PATH}.mixture[2].dataset"]


def test_every_bad_entry_is_named() -> None:
    entries = (WeightedDataset("x", 0), WeightedDataset("", 1), WeightedDataset("models/x", 1))

    fields = [f"{PATH}.mixture[{place}" for place in ("0].dataset", "0].weight", "1].dataset", "2].dataset")]
    assert refused(dataclasses.replace(ASK, dataset="", mixture=entries)) == fields


def test_bare_ids_of_a_mixture_become_resource_names() -> None:
    entries = (WeightedDataset(IDS[0], 2.0), WeightedDataset(f"datasets/{IDS[1]}"))
    ask = accepted(dataclasses.replace(ASK, dataset="", mixture=entries))

    assert ask.mixture == (WeightedDataset(f"datasets/{IDS[0]}", 2.0), WeightedDataset(f"datasets/{IDS[1]}"))
    assert ask.dataset == ""


@pytest.mark.parametrize("ratio", [0, -0.1, 0.51, math.nan])
def test_a_split_holds_out_at_most_half(ratio: float) -> None:
    assert refused(dataclasses.replace(ASK, validation_split_ratio=ratio)) == [f"{PATH}.validation_split_ratio"]


def test_a_split_and_a_validation_dataset_exclude_each_other() -> None:
    ask = dataclasses.replace(ASK, validation_split_ratio=0.1, validation_dataset=IDS[1])

    assert refused(ask) == [f"{PATH}.validation_split_ratio"]


@pytest.mark.parametrize("changes", [{"validation_split_ratio": 0.5}, {"validation_dataset": IDS[1]}])
def test_evaluation_steps_need_validation_data_of_either_kind(changes: dict[str, Any]) -> None:
    ask = dataclasses.replace(ASK, hyperparameters=Hyperparameters(eval_steps=5))

    assert accepted(dataclasses.replace(ask, **changes)).has_validation_data
    assert refused(ask) == [f"{PATH}.hyperparameters.eval_steps"]


# ---- counting rows


@pytest.mark.parametrize(
    ("counts", "weights", "ratio", "datasets", "held_out"),
    [
        ([100], [1.0], None, (100,), 0),
        ([100], [1.0], 0.1, (90,), 10),
        ([3], [1.0], 0.1, (2,), 1),
        ([2], [1.0], 0.5, (1,), 1),
        ([1], [1.0], 0.5, (1,), 0),
        ([0], [1.0], 0.5, (0,), 0),
        ([100, 50], [2.0, 0.5], None, (200, 25), 0),
        ([100, 100], [2.0, 0.5], 0.1, (180, 45), 20),
        ([10], [2.5], None, (25,), 0),
        ([1, 1], [0.1, 0.1], None, (0, 0), 0),
    ],
)
def test_rows_are_counted_as_the_trainer_composes_them(
    counts: list[int], weights: list[float], ratio: float | None, datasets: tuple[int, ...], held_out: int
) -> None:
    found = count_rows(counts, weights, ratio)

    assert (found.datasets, found.validation, found.training) == (datasets, held_out, sum(datasets))


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_a_split_loses_no_row(counts: list[int], ratio: float) -> None:
    found = count_rows(counts, [1.0] * len(counts), ratio)

    # With several datasets each one's part is rounded by itself.
    assert abs(found.training + found.validation - sum(counts)) <= len(counts)
    assert sum(counts) < 2 or 1 <= found.validation < sum(counts)
