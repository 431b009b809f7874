"""Data and base models that cannot make a task work are refused by field, before anything is queued."""

import dataclasses

import pytest
from plan_values import ASK, BASE_MODEL, IDS, SMOLLM2, inputs_of, mixed, token_facts

from services.common.errors import Violation
from services.task_manager.domain import suitability
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.formats import FORMATS, needs_chat_template
from services.task_manager.domain.inputs import DatasetFacts, Inputs, RefusedRow, Tokens
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.training_data import count_rows
from tunesmith.v1 import dataset_pb2, task_spec_pb2

PATH = "task.spec.fine_tuning"


def unfit(ask: FineTuning, inputs: Inputs) -> list[Violation]:
    counts = [dataset.example_count for dataset in inputs.datasets]
    rows = count_rows(counts, [source.weight for source in ask.sources], ask.validation_split_ratio)
    return list(suitability.unfit_inputs(ask, inputs, rows))


def with_formats(ask: FineTuning, *formats: str, validation: str = "") -> list[str]:
    """The fields that are refused when the datasets have these formats."""
    datasets = tuple(DatasetFacts(10, each) for each in formats)
    inputs = Inputs(datasets, DatasetFacts(10, validation) if validation else None, BASE_MODEL)
    return [violation.field for violation in unfit(ask, inputs)]


def test_every_method_of_the_contract_has_a_format_of_the_contract() -> None:
    methods = set(task_spec_pb2.FineTuning.Method.keys()) - {"METHOD_UNSPECIFIED"}

    assert methods <= set(FORMATS)
    assert set(FORMATS.values()) <= set(dataset_pb2.Dataset.Format.keys())
    assert [needs_chat_template(method) for method in ("SFT", "DPO", "CPT")] == [True, True, False]


@pytest.mark.parametrize("known", ["CHAT", ""])
def test_data_of_the_method_s_format_passes_and_so_does_what_is_not_known(known: str) -> None:
    assert with_formats(ASK, known) == []


@pytest.mark.parametrize(("method", "formats"), [("SFT", "PREFERENCE"), ("DPO", "CHAT"), ("CPT", "CHAT"), ("KTO", "TEXT")])
def test_data_of_another_format_is_refused(method: str, formats: str) -> None:
    assert with_formats(dataclasses.replace(ASK, method=method), formats) == [f"{PATH}.dataset"]


@pytest.mark.parametrize(
    ("last_layers", "shape", "said"),
    [
        (30, SMOLLM2, []),
        (31, SMOLLM2, [(f"{PATH}.hyperparameters.lora.last_layers", "31 is too large; the base model has 30 layers")]),
        (31, None, []),
    ],
    ids=["all", "one more", "not known"],
)
def test_no_more_layers_are_tuned_than_there_are(last_layers: int, shape: ModelShape | None, said: list[tuple[str, str]]) -> None:
    assert [(each.field, each.description) for each in suitability.unfit_layers(last_layers, shape)] == said


def test_each_dataset_of_a_mixture_and_the_validation_data_are_looked_at() -> None:
    assert with_formats(mixed(1, 1, 1), "CHAT", "TEXT", "CHAT") == [f"{PATH}.mixture[1].dataset"]
    ask = dataclasses.replace(ASK, validation_dataset=IDS[1])
    assert with_formats(ask, "CHAT", validation="TEXT") == [f"{PATH}.validation_dataset"]


def test_the_refusal_says_what_is_there_and_what_is_needed() -> None:
    (violation,) = unfit(ASK, Inputs((DatasetFacts(10, "TEXT"),), None, BASE_MODEL))

    assert violation.description == "holds rows of format TEXT; method SFT learns from CHAT"


def test_a_chat_template_that_cannot_train_is_refused_with_its_reason_but_not_for_plain_text() -> None:
    base_model = dataclasses.replace(BASE_MODEL, chat_template_problem="the end-of-turn token carries no loss")

    (violation,) = unfit(ASK, inputs_of(ASK, base_model=base_model))

    assert violation == Violation(f"{PATH}.base_model", "cannot learn conversations: the end-of-turn token carries no loss")
    plain = Inputs((DatasetFacts(10, "TEXT"),), None, base_model)
    assert unfit(dataclasses.replace(ASK, method="CPT"), plain) == []


def test_one_row_cannot_be_split() -> None:
    ask = dataclasses.replace(ASK, validation_split_ratio=0.1)

    assert [violation.field for violation in unfit(ask, inputs_of(ask, rows=1))] == [f"{PATH}.validation_split_ratio"]
    assert unfit(ask, inputs_of(ask, rows=2)) == []


def test_weights_must_leave_rows() -> None:
    ask = mixed(0.01, 0.01)

    assert [violation.field for violation in unfit(ask, inputs_of(ask, rows=10))] == [f"{PATH}.mixture"]


# ---- tokens


def refused(ask: FineTuning, tokens: Tokens) -> list[Violation]:
    return list(suitability.unfit_tokens(ask, tokens))


def test_what_is_not_counted_is_not_judged() -> None:
    assert refused(ASK, Tokens((None,), None)) == []


def test_rows_that_the_template_refuses_are_named() -> None:
    rows = tuple(RefusedRow(line, "messages[1].role" if line == 1 else "", f"why {line}") for line in range(1, 21))

    (violation,) = refused(ASK, Tokens((token_facts(refused_count=30, refused=rows),)))

    assert violation.field == f"{PATH}.dataset"
    assert violation.description == (
        "30 rows cannot be rendered for the base model: line 1: messages[1].role: why 1; line 2: why 2; line 3: why 3;"
        " line 4: why 4; line 5: why 5; and 25 more"
    )


def test_a_classifier_learns_labels_and_needs_no_token_that_carries_loss() -> None:
    facts = token_facts(trainable_token_count=0, untrainable_count=5, example_count=5)

    assert refused(dataclasses.replace(ASK, method="CLASSIFICATION"), Tokens((facts,), facts)) == []


def test_data_without_anything_to_learn_is_refused() -> None:
    (violation,) = refused(ASK, Tokens((token_facts(trainable_token_count=0),)))

    assert (violation.field, violation.description) == (
        f"{PATH}.dataset",
        "none of its 320 rows has a token to learn from",
    )


def test_data_whose_every_answer_is_cut_is_refused_and_less_than_that_is_not() -> None:
    (violation,) = refused(ASK, Tokens((token_facts(untrainable_count=320),)))

    assert "within max_seq_length" in violation.description
    assert "61 tokens" in violation.description
    assert refused(ASK, Tokens((token_facts(untrainable_count=319),))) == []


def test_an_empty_dataset_is_storage_s_to_refuse() -> None:
    assert refused(ASK, Tokens((token_facts(rows=0),))) == []


def test_tokens_are_judged_per_dataset() -> None:
    ask = mixed(1, 1, validation_dataset=IDS[2])
    silent = token_facts(trainable_token_count=0)

    fields = [violation.field for violation in refused(ask, Tokens((token_facts(), silent), silent))]

    assert fields == [f"{PATH}.mixture[1].dataset", f"{PATH}.validation_dataset"]
