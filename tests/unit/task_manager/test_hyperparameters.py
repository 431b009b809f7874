"""Every hyperparameter: its default, its limits, and the rules between them."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.task_manager.domain import limits
from services.task_manager.domain.hyperparameters import PATH, Facts, Hyperparameters, Lora, Preference, resolve

FACTS = Facts(example_count=100, context_length=4096, has_validation_data=False)


def resolved(facts: Facts = FACTS, **given: Any) -> Hyperparameters:
    return resolve(Hyperparameters(**given), facts)


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("num_train_epochs", 3.0),
        ("max_steps", 21),
        ("learning_rate", 2e-4),
        ("global_batch_size", 16),
        ("per_device_train_batch_size", 8),
        ("gradient_accumulation_steps", 2),
        ("lr_scheduler_type", "cosine"),
        ("warmup_ratio", 0.05),
        ("warmup_steps", 1),
        ("weight_decay", 0.0),
        ("max_grad_norm", 1.0),
        ("max_seq_length", 2048),
        ("seed", 42),
        ("logging_steps", 1),
        ("eval_steps", None),
        ("precision", None),
        ("num_processes", 1),
        ("zero_stage", 0),
        ("save_steps", None),
        ("save_interval_seconds", 300.0),
        ("save_total_limit", 2),
        ("non_finite_policy", "fail"),
        ("max_skipped_batches", 3),
        ("rehearsal", "auto"),
        ("packing", True),
        ("stall_policy", "warn"),
        ("early_stopping_patience", None),
        ("early_stopping_min_delta", None),
        ("time_limit_seconds", None),
        ("lora", Lora(16, 32.0, 0.0, ("all-linear",), False, False, 0)),
        ("preference", Preference()),
        ("deepspeed_overrides", None),
    ],
)
def test_what_is_unset_gets_its_default(field: str, default: object) -> None:
    assert getattr(resolved(), field) == default


GIVEN = {
    "num_train_epochs": 1.5,
    "max_steps": 7,
    "learning_rate": 0.1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.5,
    "max_seq_length": 8,
    "seed": 0,
    "logging_steps": 5,
    "precision": "bf16",
    "num_processes": 2,
    "zero_stage": 0,
    "save_steps": 9,
    "save_interval_seconds": 1.5,
    "save_total_limit": 1,
    "non_finite_policy": "rollback",
    "max_skipped_batches": 7,
    "rehearsal": "never",
    "packing": False,
    "stall_policy": "fail",
    "early_stopping_patience": 4,
    "early_stopping_min_delta": 0.0,
    "time_limit_seconds": 60.5,
}


@pytest.mark.parametrize(("field", "value"), GIVEN.items())
def test_what_is_set_stays_as_it_is_also_when_it_is_zero(field: str, value: object) -> None:
    assert getattr(resolved(**{field: value}), field) == value


def test_patience_has_a_delta_and_samples_have_a_cadence() -> None:
    assert resolved(early_stopping_patience=3).early_stopping_min_delta == 0.0
    with_samples = dataclasses.replace(FACTS, has_samples=True)
    assert resolved(with_samples).eval_steps == 7
    assert resolved(FACTS).eval_steps is None


def test_lora_values_stay_as_given() -> None:
    lora = Lora(8, 4.0, 0.1, ("q_proj",), True, True, 3)

    assert resolved(lora=lora).lora == lora


def test_alpha_is_twice_the_rank() -> None:
    assert resolved(lora=Lora(rank=5)).lora.alpha == 10.0


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (16, 8, 2)),
        ({"global_batch_size": 1}, (1, 1, 1)),
        ({"global_batch_size": 7}, (7, 7, 1)),
        ({"global_batch_size": 13}, (13, 1, 13)),
        ({"global_batch_size": 18}, (18, 6, 3)),
        ({"global_batch_size": 32, "per_device_train_batch_size": 16}, (32, 16, 2)),
        ({"global_batch_size": 32, "gradient_accumulation_steps": 2}, (32, 16, 2)),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}, (6, 2, 3)),
        ({"per_device_train_batch_size": 4}, (16, 4, 4)),
        ({"per_device_train_batch_size": 3}, (15, 3, 5)),
        ({"per_device_train_batch_size": 32}, (32, 32, 1)),
        ({"gradient_accumulation_steps": 4}, (16, 4, 4)),
        ({"gradient_accumulation_steps": 1}, (8, 8, 1)),
        ({"gradient_accumulation_steps": 64}, (64, 1, 64)),
        ({"num_processes": 2}, (16, 8, 1)),
        ({"num_processes": 3}, (15, 5, 1)),
        ({"num_processes": 64}, (64, 1, 1)),
        ({"num_processes": 4, "global_batch_size": 32, "per_device_train_batch_size": 4}, (32, 4, 2)),
        ({"global_batch_size": 16, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, (16, 8, 2)),
    ],
)
def test_batch_sizes_are_worked_out_so_that_they_agree(given: dict[str, int], sizes: tuple[int, int, int]) -> None:
    found = resolved(**given)

    assert (found.global_batch_size, found.per_device_train_batch_size, found.gradient_accumulation_steps) == sizes


@pytest.mark.parametrize(
    "given",
    [
        {"global_batch_size": 16, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
        {"global_batch_size": 16, "per_device_train_batch_size": 3},
        {"global_batch_size": 16, "gradient_accumulation_steps": 5},
        {"global_batch_size": 16, "per_device_train_batch_size": 32},
        {"global_batch_size": 10, "num_processes": 3},
        {"global_batch_size": 4096, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 1024, "gradient_accumulation_steps": 1024},
        {"per_device_train_batch_size": 1024, "num_processes": 8},
    ],
)
def test_batch_sizes_that_contradict_each_other_are_refused_by_all_three_names(given: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resolved(**given)

    fields = [violation.field for violation in caught.value.violations]
    assert fields == [
        f"{PATH}.global_batch_size",
        f"{PATH}.per_device_train_batch_size",
        f"{PATH}.gradient_accumulation_steps",
    ]
    assert "num_processes" in caught.value.violations[0].description


def optional(low: int, high: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(low, high)


@given(optional(1, 4096), optional(1, 1024), optional(1, 4096), optional(1, 64), st.integers(1, 10**6))
def test_resolved_batch_sizes_always_multiply_and_stay_within_limits(
    total: int | None, per_device: int | None, accumulation: int | None, processes: int | None, examples: int
) -> None:
    asked = Hyperparameters(
        global_batch_size=total,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        num_processes=processes,
    )
    try:
        found = resolve(asked, Facts(examples, 4096, False))
    except InvalidArgument:
        return
    sizes = (found.per_device_train_batch_size, found.gradient_accumulation_steps, found.num_processes)
    assert found.global_batch_size == math.prod(size or 0 for size in sizes)
    assert not list(limits.violations(found, ""))
    for field, value in (("global_batch_size", total), ("per_device_train_batch_size", per_device)):
        assert value in (None, getattr(found, field)), "what was asked for is never changed"


@pytest.mark.parametrize(
    ("given", "warmup"),
    [
        ({"max_steps": 100}, (0.05, 5)),
        ({"max_steps": 10}, (0.05, 0)),
        ({"max_steps": 100, "warmup_ratio": 0.29}, (0.29, 29)),
        ({"max_steps": 100, "warmup_ratio": 1.0}, (1.0, 100)),
        ({"max_steps": 100, "warmup_steps": 7}, (0.07, 7)),
        ({"max_steps": 100, "warmup_steps": 7, "warmup_ratio": 0.5}, (0.5, 7)),
        ({"max_steps": 5, "warmup_steps": 50}, (1.0, 50)),
    ],
)
def test_warmup_steps_win_over_the_ratio(given: dict[str, Any], warmup: tuple[float, int]) -> None:
    found = resolved(**given)

    assert (found.warmup_ratio, found.warmup_steps) == warmup


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({}, 21),
        ({"num_train_epochs": 1.0}, 7),
        ({"num_train_epochs": 0.5}, 4),
        ({"num_train_epochs": 1e-9}, 1),
        ({"num_train_epochs": 0.1, "global_batch_size": 10}, 1),
        ({"num_train_epochs": 0.3, "global_batch_size": 1, "per_device_train_batch_size": 1}, 30),
        ({"max_steps": 3}, 3),
        ({"max_steps": 3, "num_train_epochs": 50.0}, 3),
        ({"global_batch_size": 4096}, 3),
    ],
)
def test_steps_follow_from_passes_unless_they_are_set(given: dict[str, Any], steps: int) -> None:
    assert resolved(**given).max_steps == steps


def test_passes_follow_from_steps_when_only_those_are_set() -> None:
    assert resolved(max_steps=14).num_train_epochs == 2.0


def test_evaluation_is_once_per_pass_when_there_is_validation_data() -> None:
    facts = Facts(100, 4096, has_validation_data=True)

    assert resolved(facts).eval_steps == 7
    assert resolved(facts, eval_steps=3).eval_steps == 3


@pytest.mark.parametrize(("context", "length"), [(4096, 2048), (2048, 2048), (512, 512), (0, 2048)])
def test_the_sequence_length_is_at_most_the_context(context: int, length: int) -> None:
    assert resolved(Facts(100, context, False)).max_seq_length == length


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        resolved(Facts(100, 512, False), max_seq_length=513)

    (violation,) = caught.value.violations
    assert violation.field == f"{PATH}.max_seq_length"
    assert "512" in violation.description


@pytest.mark.parametrize(("processes", "stage"), [(1, 0), (2, 2), (8, 2)])
def test_zero_stage_follows_the_number_of_processes(processes: int, stage: int) -> None:
    assert resolved(num_processes=processes).zero_stage == stage


def test_a_cadence_by_steps_replaces_the_one_by_time_unless_both_are_asked_for() -> None:
    assert resolved(save_steps=10).save_interval_seconds is None
    assert resolved(save_steps=10, save_interval_seconds=60).save_interval_seconds == 60


# ---- limits

BOUNDS = [
    # field, permitted values, refused values
    ("num_train_epochs", [1e-6, 100], [0, -1, 100.1, math.nan, math.inf, -math.inf]),
    ("max_steps", [1, 10_000_000], [0, -1, 10_000_001]),
    ("learning_rate", [1e-12, 1], [0, -1e-4, 1.01, math.nan, math.inf]),
    ("global_batch_size", [1, 4096], [0, -1, 4097]),
    ("per_device_train_batch_size", [1, 1024], [0, -1, 1025]),
    ("gradient_accumulation_steps", [1, 4096], [0, -1, 4097]),
    ("warmup_ratio", [0, 1], [-0.1, 1.1, math.nan]),
    ("warmup_steps", [0, 5], [-1]),
    ("weight_decay", [0, 1], [-0.1, 1.1, math.nan, math.inf]),
    ("max_grad_norm", [1e-9, 1e9], [0, -1, math.nan, math.inf]),
    ("max_seq_length", [8, 1_000_000], [7, 0, -1]),
    ("seed", [0, 2**31 - 1], [-1, 2**31]),
    ("logging_steps", [1, 1000], [0, -1]),
    ("eval_steps", [1, 1000], [0, -1]),
    ("num_processes", [1, 64], [0, -1, 65]),
    ("zero_stage", [0, 1, 2, 3], [-1, 4]),
    ("save_steps", [1, 1_000_000], [0, -1]),
    ("save_interval_seconds", [1, 86_400.5], [0, 0.5, -1, math.nan, math.inf]),
    ("save_total_limit", [1, 100], [0, -1, 101]),
    ("max_skipped_batches", [1, 1000], [0, -1, 1001]),
    ("early_stopping_patience", [1, 1000], [0, -1, 1001]),
    ("early_stopping_min_delta", [0, 0.5], [-0.1, math.nan, math.inf]),
    ("time_limit_seconds", [1, 1e6], [0, 0.5, -1, math.nan, math.inf]),
    ("non_finite_policy", ["fail", "skip", "rollback"], ["", "Skip", "retry"]),
    ("rehearsal", ["auto", "always", "never"], ["", "yes"]),
    ("stall_policy", ["warn", "fail"], ["", "kill"]),
    ("lr_scheduler_type", ["linear", "cosine", "constant"], ["", "Cosine", "x" * 500]),
    ("precision", ["fp32", "fp16", "bf16"], ["", "fp8", "FP32"]),
]
LORA_BOUNDS = [
    ("rank", [1, 512], [0, -1, 513]),
    ("alpha", [1e-3, 1e6], [0, -1, math.nan, math.inf]),
    ("dropout", [0, 0.99], [1, -0.1, math.nan]),
    ("target_modules", [("q_proj",), ("all-linear",)], [("",), ("x" * 201,)]),
    ("last_layers", [0, 1, 500], [-1]),
]


PREFERENCE_BOUNDS = [
    ("beta", [1e-6, 10], [0, -1, 10.1, math.nan]),
    ("label_smoothing", [0, 0.49], [0.5, -0.1, math.nan]),
    ("sft_loss_weight", [0, 100], [-1, 101, math.inf]),
    ("desirable_weight", [0.1, 100], [0, 101]),
    ("undesirable_weight", [0.1, 100], [0, 101]),
]


def cases(bounds: list[Any], index: int) -> list[tuple[str, object]]:
    return [(row[0], value) for row in bounds for value in row[index]]


@pytest.mark.parametrize(("field", "value"), cases(BOUNDS, 1))
def test_values_within_the_limits_are_permitted(field: str, value: Any) -> None:
    assert list(limits.violations(Hyperparameters(**{field: value}), "p")) == []


@pytest.mark.parametrize(("field", "value"), cases(BOUNDS, 2))
def test_values_beyond_the_limits_are_refused_by_name(field: str, value: Any) -> None:
    (violation,) = limits.violations(Hyperparameters(**{field: value}), "p")

    assert violation.field == f"p.{field}"
    assert len(violation.description) < 200


@pytest.mark.parametrize(("field", "value"), cases(LORA_BOUNDS, 1))
def test_adapter_values_within_the_limits_are_permitted(field: str, value: Any) -> None:
    assert list(limits.violations(Hyperparameters(lora=Lora(**{field: value})), "p")) == []


@pytest.mark.parametrize(("field", "value"), cases(LORA_BOUNDS, 2))
def test_adapter_values_beyond_the_limits_are_refused_by_name(field: str, value: Any) -> None:
    (violation,) = limits.violations(Hyperparameters(lora=Lora(**{field: value})), "p")

    assert violation.field.startswith(f"p.lora.{field}")


def test_too_many_target_modules_are_refused() -> None:
    lora = Lora(target_modules=tuple(f"m{number}" for number in range(65)))

    assert [violation.field for violation in limits.violations(Hyperparameters(lora=lora), "p")] == ["p.lora.target_modules"]


@pytest.mark.parametrize(("field", "value"), cases(PREFERENCE_BOUNDS, 1))
def test_preference_values_within_the_limits_are_permitted(field: str, value: Any) -> None:
    assert list(limits.violations(Hyperparameters(preference=Preference(**{field: value})), "p")) == []


@pytest.mark.parametrize(("field", "value"), cases(PREFERENCE_BOUNDS, 2))
def test_preference_values_beyond_the_limits_are_refused_by_name(field: str, value: Any) -> None:
    (violation,) = limits.violations(Hyperparameters(preference=Preference(**{field: value})), "p")

    assert violation.field == f"p.preference.{field}"


def test_every_number_has_a_limit_and_a_test() -> None:
    fields = set(Hyperparameters.__dataclass_fields__) - {"lora", "preference", "deepspeed_overrides", "packing"}

    assert fields == set(limits.RANGES) | set(limits.CHOICES) == {row[0] for row in BOUNDS}
    assert set(Lora.__dataclass_fields__) - {"use_rslora", "use_dora"} == {row[0] for row in LORA_BOUNDS}
    assert set(Preference.__dataclass_fields__) - {"reference_free"} == {row[0] for row in PREFERENCE_BOUNDS}
