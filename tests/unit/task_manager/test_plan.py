"""The plan of a task from what is known of it."""

import dataclasses
import datetime
from typing import Any

import pytest
from plan_values import ASK, BASE_MODEL, FLOPS, IDS, SMOLLM2, findings, inputs_of, mixed, token_facts

from services.task_manager.domain.duration import UTILISATION
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.hyperparameters import Lora
from services.task_manager.domain.inputs import Inputs, Tokens
from services.task_manager.domain.plan import EstimateBasis, Plan, make_plan
from services.task_manager.domain.throughput import RunSpeed


def planned(known: Findings, *earlier: RunSpeed, flops: float = FLOPS) -> Plan:
    return make_plan(known, flops, SMOLLM2, earlier)


def warnings(known: Findings) -> str:
    return " ".join(planned(known).warnings)


def test_the_plan_of_one_dataset() -> None:
    plan = planned(findings())

    assert (plan.total_steps, plan.example_count, plan.validation_example_count) == (20, 320, 0)
    assert (plan.token_count, plan.trainable_token_count) == (320 * 61, 320 * 7)
    assert plan.serving_problem == ""
    assert plan.warnings == ()


def test_a_split_takes_rows_tokens_and_steps_from_training() -> None:
    plan = planned(findings(dataclasses.replace(ASK, validation_split_ratio=0.25)))

    assert (plan.example_count, plan.validation_example_count, plan.total_steps) == (240, 80, 15)
    assert plan.token_count == 240 * 61


def test_a_mixture_counts_every_row_as_often_as_it_is_seen() -> None:
    plan = planned(findings(mixed(2, 0.5)))

    assert (plan.example_count, plan.token_count) == (800, 800 * 61)


# ---- time


def test_earlier_runs_go_before_the_speed_of_the_machine() -> None:
    known = findings()
    plan = planned(known, RunSpeed(known.run_kind, 61.0))

    assert (plan.estimated_duration, plan.estimate_basis) == (datetime.timedelta(seconds=320), EstimateBasis.EARLIER_RUNS)


def test_without_comparable_runs_the_speed_of_the_machine_decides() -> None:
    known = findings()
    plan = planned(known, RunSpeed(dataclasses.replace(known.run_kind, processes=2), 61.0))

    assert plan.estimate_basis is EstimateBasis.MEASURED_SPEED
    assert plan.estimated_duration
    expected = 320 * 61 * 4 * BASE_MODEL.parameter_count / (300e9 * UTILISATION)
    assert plan.estimated_duration.total_seconds() == pytest.approx(expected)


def test_several_passes_take_several_times_as_long() -> None:
    once, twice = (planned(findings(num_train_epochs=passes)).estimated_duration for passes in (1.0, 2.0))

    assert once
    assert twice == 2 * once


@pytest.mark.parametrize(
    "ask",
    [
        dataclasses.replace(ASK, validation_dataset=f"datasets/{IDS[1]}"),
        dataclasses.replace(ASK, validation_split_ratio=0.5),
    ],
)
def test_measuring_the_validation_loss_takes_time(ask: Any) -> None:
    rarely, often = (planned(findings(ask, max_steps=20, eval_steps=steps)).estimated_duration for steps in (20, 1))

    assert rarely
    assert often
    assert often > rarely


@pytest.mark.parametrize(
    ("known", "flops"),
    [
        (findings(), 0.0),
        (findings(tokens=Tokens((None,))), FLOPS),
        (findings(inputs=inputs_of(ASK, base_model=dataclasses.replace(BASE_MODEL, parameter_count=0))), FLOPS),
    ],
)
def test_when_nothing_is_known_there_is_no_estimate(known: Findings, flops: float) -> None:
    plan = planned(known, flops=flops)

    assert (plan.estimated_duration, plan.estimate_basis) == (None, EstimateBasis.NONE)
    assert plan.total_steps == 20


# ---- memory


def test_the_demo_s_memory_is_within_a_quarter_of_what_was_measured() -> None:
    known = findings(tokens=Tokens((token_facts(longest=80),)))

    assert planned(known).estimated_peak_memory_bytes == pytest.approx(1.8e9, rel=0.25)


@pytest.mark.parametrize("changes", [{"lora": Lora(use_dora=True)}, {"zero_stage": 3}], ids=["dora", "zero 3"])
def test_what_the_lean_path_cannot_do_takes_more(changes: dict[str, Any]) -> None:
    long = Tokens((token_facts(longest=400),))

    lean = planned(findings(tokens=long)).estimated_peak_memory_bytes

    assert planned(findings(tokens=long, **changes)).estimated_peak_memory_bytes > 1.3 * lean


def test_a_family_that_the_lean_path_does_not_know_takes_more() -> None:
    known = findings(tokens=Tokens((token_facts(longest=400),)))
    other = make_plan(known, FLOPS, dataclasses.replace(SMOLLM2, family="gemma"), ())

    assert other.estimated_peak_memory_bytes > planned(known).estimated_peak_memory_bytes


def test_dropout_in_adapters_takes_memory() -> None:
    with_dropout = planned(findings(lora=Lora(dropout=0.1))).estimated_peak_memory_bytes

    assert with_dropout > planned(findings()).estimated_peak_memory_bytes + 10**8


def test_adapters_in_the_last_layers_take_less_memory_and_time() -> None:
    long = Tokens((token_facts(longest=400),))
    every, few = (planned(findings(tokens=long, lora=Lora(last_layers=layers))) for layers in (0, 8))

    # Of 30 layers 9 are in memory at once, and rows of 400 tokens fill what a pass may take either way but for whole rows.
    assert few.estimated_peak_memory_bytes < every.estimated_peak_memory_bytes
    assert few.estimated_duration
    assert every.estimated_duration
    assert few.estimated_duration / every.estimated_duration == pytest.approx((1 + 8 / 30) / 2)


def test_what_a_token_keeps_is_foreseen_by_layers() -> None:
    """Batches that no merging changes."""
    rows, one = Tokens((token_facts(length=400),)), {"packing": False, "per_device_train_batch_size": 2}
    numbers = [Lora(last_layers=layers) for layers in (0, 30, 29, 14)]
    every, all_of_them, but_one, half = (
        planned(findings(tokens=rows, lora=lora, **one)).estimated_peak_memory_bytes for lora in numbers
    )

    adapter, kept = 16 * SMOLLM2.adapter_parameters(16, ("all-linear",), 1), (2 * 400) * (4 * 576 + 2 * 192 + 2 * 1536) * 4 * 1.25
    assert every == all_of_them
    assert every - but_one == pytest.approx(adapter)
    assert every - half == pytest.approx(16 * adapter + 15 * kept)


def test_memory_of_what_is_not_counted_is_not_known() -> None:
    assert planned(findings(tokens=Tokens((None,)))).estimated_peak_memory_bytes == 0


def test_a_shape_that_is_not_known_is_guessed() -> None:
    guessed = make_plan(findings(), FLOPS, None, ()).estimated_peak_memory_bytes

    assert guessed == pytest.approx(planned(findings()).estimated_peak_memory_bytes, rel=0.3)


def test_full_tuning_needs_more_memory_and_more_time() -> None:
    full = findings(dataclasses.replace(ASK, tuning="FULL"))

    plan, lora = planned(full), planned(findings())

    assert plan.estimated_peak_memory_bytes > lora.estimated_peak_memory_bytes + 12 * BASE_MODEL.parameter_count
    assert plan.estimated_duration
    assert lora.estimated_duration
    assert plan.estimated_duration.total_seconds() == pytest.approx(1.5 * lora.estimated_duration.total_seconds())


# ---- what deserves a second look


def test_cut_rows_are_told_with_what_is_lost() -> None:
    facts = token_facts(over_length_count=12, truncated_answer_count=5, untrainable_count=1, longest=900)

    text = warnings(findings(tokens=Tokens((facts,)), max_seq_length=60))

    assert "12 of 320 examples are longer than max_seq_length 60 and are cut there; 5 of them lose a part" in text
    assert "1 of 320 examples have nothing left to learn from" in text


def test_rows_that_are_also_validated_on_are_told() -> None:
    ask = dataclasses.replace(ASK, validation_dataset=f"datasets/{IDS[1]}")

    text = warnings(findings(ask, tokens=Tokens((token_facts(rows_in_validation=3),), token_facts())))

    assert "3 training examples are in the validation data, too" in text


def test_tokens_that_are_not_counted_yet_are_told() -> None:
    assert "not counted yet" in warnings(findings(mixed(1, 1), tokens=Tokens((token_facts(), None))))


def test_a_model_that_cannot_talk_cannot_be_served() -> None:
    base_model = dataclasses.replace(BASE_MODEL, chat_template_problem="it has none")
    known = findings(inputs=Inputs(inputs_of(ASK).datasets, None, base_model))

    assert planned(known).serving_problem == "the base model's chat template cannot be used: it has none"
