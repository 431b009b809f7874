"""Tokens after cutting, speed, time and memory: the arithmetic of plans."""

import dataclasses
import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_values import SMOLLM2, SMOLLM2_PARAMETERS, token_facts

from services.task_manager.domain import duration, memory
from services.task_manager.domain.duration import Work
from services.task_manager.domain.hyperparameters import Lora
from services.task_manager.domain.inputs import TokenFacts
from services.task_manager.domain.memory import MemoryNeed
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.throughput import RunKind, RunSpeed, SpeedMeter, expected_speed
from services.task_manager.domain.token_totals import TokenTotals, kept_tokens, kept_trainable_tokens, totals

# ---- tokens


def counted(lengths: list[int], limit: int) -> TokenFacts:
    """What storage would count of rows of these lengths."""
    buckets: dict[int, int] = {}
    for length in lengths:
        up_to = 1 << (length - 1).bit_length()
        buckets[up_to] = buckets.get(up_to, 0) + 1
    return TokenFacts(
        example_count=len(lengths),
        token_count=sum(lengths),
        trainable_token_count=len(lengths),
        longest=max(lengths),
        over_length_count=sum(length > limit for length in lengths),
        histogram=tuple(sorted(buckets.items())),
    )


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(8, 4096))
def test_tokens_after_cutting_are_exact_without_long_rows_and_within_bounds_with_them(lengths: list[int], limit: int) -> None:
    facts, exact = counted(lengths, limit), sum(min(length, limit) for length in lengths)

    found = kept_tokens(facts, limit)

    if not facts.over_length_count:
        assert found == exact
    # A row is off by no more than its bucket is wide, and all of a bucket's rows lie in it.
    slack = sum((1 << (length - 1).bit_length()) // 2 for length in lengths if length > limit)
    assert abs(found - exact) <= slack + 1
    assert facts.over_length_count * limit <= found <= facts.token_count - facts.over_length_count


def test_evenly_spread_lengths_are_estimated_well() -> None:
    lengths, limit = list(range(1, 4001)), 1500

    exact = sum(min(length, limit) for length in lengths)

    assert kept_tokens(counted(lengths, limit), limit) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    ("truncated", "untrainable", "kept"),
    [(0, 0, 320 * 7), (320, 320, 0), (160, 0, 320 * 7 * 3 // 4), (160, 160, 320 * 7 // 2), (0, 320, 320 * 7)],
)
def test_a_cut_answer_keeps_half_and_a_lost_one_nothing(truncated: int, untrainable: int, kept: int) -> None:
    facts = token_facts(truncated_answer_count=truncated, untrainable_count=untrainable)

    assert kept_trainable_tokens(facts) == kept


def test_a_part_of_a_dataset_has_its_part_of_the_tokens() -> None:
    datasets = [token_facts(rows=100, length=64), token_facts(rows=50, length=16)]

    assert totals(datasets, [200, 25], 2048) == TokenTotals(2 * 6400 + 400, 2 * 800 + 50)
    assert totals([token_facts(rows=0)], [0], 2048) == TokenTotals(0, 0)


# ---- speed

KIND = RunKind("baseModels/a", "SFT", "LORA", 1, "", 16, ("all-linear",), 8)


def ran(speed: float, **changes: object) -> RunSpeed:
    return RunSpeed(dataclasses.replace(KIND, **changes), speed)  # type: ignore[arg-type]


def test_the_speed_is_tokens_over_training_time() -> None:
    meter = SpeedMeter()
    meter.started(0)
    for tokens, speed in ((100.0, 50.0), (200.0, 100.0), (500.0, 100.0)):
        meter.measured({"tokens": tokens, "tokens_per_second": speed, "loss": 1.0})

    assert meter.tokens_per_second == pytest.approx(500 / (2 + 1 + 3))


def test_who_takes_over_in_the_middle_measures_what_it_sees() -> None:
    meter = SpeedMeter()
    meter.measured({"tokens": 9000.0, "tokens_per_second": 1.0})
    assert meter.tokens_per_second is None

    meter.measured({"tokens": 9100.0, "tokens_per_second": 50.0})

    assert meter.tokens_per_second == 50.0


def test_tokens_of_earlier_attempts_are_not_this_attempts_work() -> None:
    meter = SpeedMeter()
    meter.started(40)
    meter.measured({"tokens": 9000.0, "tokens_per_second": 50.0})
    meter.measured({"tokens": 9100.0, "tokens_per_second": 25.0})

    assert meter.tokens_per_second == 25.0


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"eval_loss": 1.0},
        {"tokens": 10.0},
        {"tokens": 10.0, "tokens_per_second": 0.0},
        {"tokens": math.nan, "tokens_per_second": 1.0},
        {"tokens": 10.0, "tokens_per_second": math.inf},
    ],
)
def test_what_says_nothing_about_speed_is_left_out(values: dict[str, float]) -> None:
    meter = SpeedMeter()
    meter.started(0)
    meter.measured(values)

    assert meter.tokens_per_second is None


def test_a_count_that_goes_back_starts_anew() -> None:
    meter = SpeedMeter()
    meter.started(0)
    for tokens in (100.0, 50.0, 100.0):
        meter.measured({"tokens": tokens, "tokens_per_second": 50.0})

    assert meter.tokens_per_second == 50.0


def test_without_a_comparable_run_there_is_no_speed() -> None:
    assert expected_speed(KIND, []) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model": "baseModels/b"},
        {"method": "DPO"},
        {"tuning": "FULL"},
        {"processes": 2},
        {"precision": "bf16"},
        {"target_modules": ("q_proj",)},
        {"target_modules": Lora(target_modules=("all-linear",), last_layers=8).places},
        {"lora_rank": 65},
        {"lora_rank": 3},
    ],
)
def test_runs_that_say_too_little_are_left_out(changes: dict[str, object]) -> None:
    assert expected_speed(KIND, [ran(1.0, **changes)]) is None


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 64}, {"lora_rank": 4}, {"batch_size": 1}])
def test_runs_alike_count(changes: dict[str, object]) -> None:
    assert expected_speed(KIND, [ran(7.0, **changes)]) == 7.0


def test_the_order_of_modules_does_not_matter() -> None:
    one, other = (dataclasses.replace(KIND, target_modules=modules) for modules in (("q_proj", "v_proj"), ("v_proj", "q_proj")))

    assert expected_speed(one, [RunSpeed(other, 5.0)]) == 5.0


def test_the_median_of_the_nearest_counts() -> None:
    near = [ran(speed) for speed in (90.0, 100.0, 110.0, 95.0, 500.0)]
    far = [ran(1.0, batch_size=1) for _ in range(20)]

    assert expected_speed(KIND, far + near) == 100.0


def test_of_runs_equally_near_the_newest_count() -> None:
    assert expected_speed(KIND, [ran(speed) for speed in (10.0,) * 5 + (1000.0,) * 50]) == 10.0


# ---- time

ADAPTER = duration.of_adapter(1.0)
WORK = Work(total_steps=40, steps_per_epoch=20, tokens_per_epoch=20_000, validation_tokens=0, eval_steps=0)


def test_the_time_is_tokens_over_speed() -> None:
    assert duration.expected(WORK, 100.0, ADAPTER) == datetime.timedelta(seconds=400)


@pytest.mark.parametrize(("eval_steps", "evaluations"), [(20, 2), (40, 1), (100, 1), (15, 3), (0, 0)])
def test_the_last_step_is_always_measured(eval_steps: int, evaluations: int) -> None:
    assert dataclasses.replace(WORK, validation_tokens=1, eval_steps=eval_steps).evaluations == evaluations


def test_measuring_takes_the_forward_part_of_training() -> None:
    work = dataclasses.replace(WORK, validation_tokens=1000, eval_steps=20)

    assert duration.expected(work, 100.0, ADAPTER) == datetime.timedelta(seconds=400 + 2 * 10 / 2)
    assert duration.expected(work, 100.0, duration.FULL).total_seconds() == pytest.approx(400 + 2 * 10 / 3)


def test_the_speed_of_a_machine_follows_from_its_arithmetic() -> None:
    lora = duration.speed_of_machine(185e9, SMOLLM2_PARAMETERS, ADAPTER)
    full = duration.speed_of_machine(185e9, SMOLLM2_PARAMETERS, duration.FULL)

    assert lora == pytest.approx(185e9 * duration.UTILISATION / (4 * SMOLLM2_PARAMETERS))
    assert full == pytest.approx((lora or 0) * 2 / 3)


def test_frozen_layers_take_the_forward_part_alone() -> None:
    assert [duration.of_adapter(share) for share in (0.0, 0.5, 1.0)] == [2, 3, 4]


@pytest.mark.parametrize(("flops", "parameters"), [(0.0, 1), (1e9, 0)])
def test_without_measures_there_is_no_speed(flops: float, parameters: int) -> None:
    assert duration.speed_of_machine(flops, parameters, ADAPTER) is None


# ---- memory

# Peaks of the training process as measured, see the module's docstring: (batch, longest, rank, targets, bytes).
MEASURED = [
    (2, 80, 16, 8.25, 1.41e9),
    (8, 80, 16, 8.25, 2.27e9),
    (4, 188, 16, 33.0, 2.56e9),
    (4, 486, 16, 99.0, 5.47e9),
    (8, 80, 128, 8.25, 2.74e9),
]


@pytest.mark.parametrize(("batch", "longest", "rank", "targets", "measured"), MEASURED)
def test_memory_is_estimated_within_a_quarter_of_what_was_measured(
    batch: int, longest: int, rank: int, targets: float, measured: float
) -> None:
    trained = SMOLLM2.adapter_parameters(rank, ["all-linear"])
    need = MemoryNeed(SMOLLM2, SMOLLM2_PARAMETERS, trained, "", batch, 1, longest, longest, targets)

    assert memory.peak_bytes(need, 1) == pytest.approx(measured, rel=0.25)


# The same on the lean path, on 2026-11-29: (batch, passes, longest, rank, dropout, targets, bytes); rank 0 = all weights.
LEAN = [
    (2, 1, 88, 16, 0.0, 9, 1.22e9),
    (8, 1, 88, 16, 0.0, 9, 1.67e9),
    (8, 1, 88, 16, 0.1, 9, 2.15e9),
    (8, 1, 88, 128, 0.0, 9, 2.30e9),
    (4, 1, 212, 16, 0.0, 33, 1.77e9),
    (4, 1, 500, 16, 0.0, 101, 2.74e9),
    (8, 4, 88, 16, 0.0, 9, 2.57e9),
    (8, 1, 88, 0, 0.0, 9, 3.37e9),
]


@pytest.mark.parametrize(("batch", "passes", "longest", "rank", "dropout", "targets", "measured"), LEAN)
def test_memory_on_the_lean_path_is_estimated_within_a_sixth_of_what_was_measured(
    batch: int, passes: int, longest: int, rank: int, dropout: float, targets: float, measured: float
) -> None:
    trained = SMOLLM2.adapter_parameters(rank, ["all-linear"]) if rank else SMOLLM2_PARAMETERS
    inputs = SMOLLM2.adapter_inputs(["all-linear"]) if dropout else 0
    need = MemoryNeed(SMOLLM2, SMOLLM2_PARAMETERS, trained, "", batch, passes, longest, longest, targets, True, inputs)

    assert memory.peak_bytes(need, 1) == pytest.approx(measured, rel=1 / 6)


def test_passes_are_merged_only_as_far_as_the_bound_goes() -> None:
    def peak(passes: int) -> int:
        return memory.peak_bytes(MemoryNeed(SMOLLM2, SMOLLM2_PARAMETERS, 10**6, "", 8, passes, 88, 88, 9.0, True), 1)

    assert peak(1) < peak(2) == peak(4)
    assert peak(1) < peak(7) < peak(2), "14 rows divide 56, 16 do not"


def test_adapters_with_dropout_keep_what_they_read() -> None:
    assert SMOLLM2.adapter_inputs(["all-linear"]) == 6 * 576 + 1536
    assert SMOLLM2.adapter_inputs(["q_proj", "down_proj"]) == 576 + 1536
    assert SMOLLM2.adapter_inputs(["experts"]) == 1536


def test_every_process_needs_its_own_memory() -> None:
    need = MemoryNeed(SMOLLM2, SMOLLM2_PARAMETERS, 0, "fp32", 8, 1, 80, 80, 8.25)

    assert memory.peak_bytes(need, 3) == 3 * memory.peak_bytes(need, 1)


@pytest.mark.parametrize("changes", [{"batch_size": 16}, {"longest": 200}, {"trained_parameters": 10**8}, {"targets": 80.0}])
def test_more_of_anything_needs_more(changes: dict[str, object]) -> None:
    need = MemoryNeed(SMOLLM2, SMOLLM2_PARAMETERS, 10**6, "bf16", 8, 1, 80, 80, 8.25)

    assert memory.peak_bytes(dataclasses.replace(need, **changes), 1) > memory.peak_bytes(need, 1)  # type: ignore[arg-type]
    assert memory.peak_bytes(dataclasses.replace(need, precision="fp32"), 1) > memory.peak_bytes(need, 1)


# ---- shapes

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "vocab_size": 49_152,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
}


def test_a_shape_comes_from_the_model_s_configuration() -> None:
    assert ModelShape.from_config(CONFIG) == SMOLLM2
    assert ModelShape.from_config({"model_type": "x", "text_config": CONFIG}) == SMOLLM2


def test_heads_that_are_not_told_follow_from_the_others() -> None:
    without = {name: value for name, value in CONFIG.items() if name not in ("num_key_value_heads", "head_dim")}

    shape = ModelShape.from_config(without)

    assert shape
    assert shape.key_value == 576


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_config": []},
        {"text_config": "x"},
        CONFIG | {"hidden_size": "576"},
        CONFIG | {"vocab_size": 0},
        CONFIG | {"num_hidden_layers": True},
        CONFIG | {"num_attention_heads": -1},
    ],
)
def test_a_configuration_that_does_not_tell_gives_none(config: dict[str, object]) -> None:
    assert ModelShape.from_config(config) is None


def test_the_adapter_of_the_demo_has_as_many_numbers_as_peft_makes() -> None:
    assert SMOLLM2.adapter_parameters(16, ["all-linear"]) == 4_884_480
    assert SMOLLM2.adapter_parameters(128, ["all-linear"]) == 39_075_840


def test_modules_count_by_name_and_unknown_ones_as_the_widest() -> None:
    assert SMOLLM2.adapter_parameters(8, ["q_proj", "v_proj"]) == 30 * 8 * (576 + 576 + 576 + 192)
    assert SMOLLM2.adapter_parameters(8, ["experts"]) == SMOLLM2.adapter_parameters(8, ["up_proj"])


@pytest.mark.parametrize(
    ("parameters", "hidden"), [(134_515_008, 576), (361_821_120, 960), (1_543_714_304, 1536), (6.74e9, 4096)]
)
def test_a_guessed_shape_is_about_right(parameters: float, hidden: int) -> None:
    shape = ModelShape.guessed(int(parameters))

    assert shape.hidden == pytest.approx(hidden, rel=1 / 3)
    body = shape.layers * (4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate)
    assert body == pytest.approx(parameters, rel=1 / 3)
