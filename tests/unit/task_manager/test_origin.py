"""What an earlier task has learned fits a new one, or the field and the reason are named."""

import dataclasses
from typing import Any

import pytest

from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, Lora
from services.task_manager.domain.origin import FIELD, ArtifactFacts, violations, with_adapter_of

EARLIER = Lora(rank=8, alpha=16.0, dropout=0.1, target_modules=("all-linear",), use_rslora=False, use_dora=True)
ORIGIN = ArtifactFacts(
    name="artifacts/a",
    kind="CHECKPOINT",
    task="tasks/t",
    step=5,
    attempt=1,
    base_model="baseModels/tiny",
    base_model_revision="r1",
    method="SFT",
    tuning="LORA",
    hyperparameters=Hyperparameters(zero_stage=2, lora=EARLIER),
)


NOTHING_ASKED = Lora()


def asked(lora: Lora = NOTHING_ASKED, **changes: Any) -> FineTuning:
    fields = {"base_model": "baseModels/tiny", "dataset": "datasets/d", "validation_dataset": ""}
    known = {"method_known": True, "tuning_known": True}
    return FineTuning(**fields | known | {"hyperparameters": Hyperparameters(lora=lora)} | changes)


def numbers_with(lora: Lora) -> Hyperparameters:
    return Hyperparameters(lora=lora)


def found(ask: FineTuning, origin: ArtifactFacts = ORIGIN, revision: str = "r1") -> list[tuple[str, str]]:
    return [(violation.field, violation.description) for violation in violations(ask, origin, revision)]


@pytest.mark.parametrize("method", ["SFT", "DPO", "KTO", "CPT"])
@pytest.mark.parametrize("kind", ["CHECKPOINT", "ADAPTER"])
def test_an_adapter_fits_every_method_that_learns_text(method: str, kind: str) -> None:
    assert found(asked(method=method), dataclasses.replace(ORIGIN, kind=kind)) == []


def test_unset_numbers_of_the_adapter_are_those_of_the_earlier_one_but_for_dropout() -> None:
    lora = with_adapter_of(asked(Lora(alpha=16.0)), EARLIER).hyperparameters.lora
    assert lora == dataclasses.replace(EARLIER, dropout=None)
    assert found(with_adapter_of(asked(), EARLIER)) == []


def test_full_tuning_takes_nothing_from_an_adapter() -> None:
    ask = asked(tuning="FULL")
    assert with_adapter_of(ask, EARLIER) is ask


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 4), ("alpha", 8.0), ("target_modules", ("q_proj",)), ("use_rslora", True), ("use_dora", False)],
)
def test_another_adapter_is_refused_by_its_field(name: str, value: object) -> None:
    ((field, text),) = found(asked(Lora(**{name: value})))
    assert field == f"{PATH}.lora.{name}"
    assert "artifacts/a" in text
    assert "leave it unset" in text


OF_SOME_LAYERS = dataclasses.replace(EARLIER, last_layers=8)


@pytest.mark.parametrize(
    ("earlier", "wanted", "said"),
    [
        (OF_SOME_LAYERS, 6, "6 differs from 8 of artifacts/a"),
        (OF_SOME_LAYERS, 0, "0 differs from 8"),
        (dataclasses.replace(EARLIER, last_layers=0), 8, "8 differs from 0"),
        (EARLIER, 8, "8 differs from 0"),
    ],
    ids=["fewer", "all", "some of all", "an adapter from before there was the number"],
)
def test_an_adapter_in_other_layers_is_refused(earlier: Lora, wanted: int, said: str) -> None:
    ((field, text),) = found(asked(Lora(last_layers=wanted)), dataclasses.replace(ORIGIN, hyperparameters=numbers_with(earlier)))
    assert field == f"{PATH}.lora.last_layers"
    assert said in text


def test_an_adapter_in_some_layers_goes_on_in_those() -> None:
    origin = dataclasses.replace(ORIGIN, hyperparameters=numbers_with(OF_SOME_LAYERS))
    assert found(asked(Lora(last_layers=8)), origin) == []
    ask = with_adapter_of(asked(), OF_SOME_LAYERS)
    assert ask.hyperparameters.lora.last_layers == 8
    assert found(ask, origin) == []


def test_all_layers_are_what_an_adapter_from_before_there_was_the_number_has() -> None:
    assert found(asked(Lora(last_layers=0))) == []


def test_another_dropout_is_another_matter() -> None:
    assert found(asked(Lora(dropout=0.5))) == []


@pytest.mark.parametrize(
    ("ask", "origin", "said"),
    [
        (asked(base_model="baseModels/other"), {}, "made from baseModels/tiny; this task names baseModels/other"),
        (asked(), {"base_model_revision": "r0"}, "other weights that were registered as baseModels/tiny"),
        (asked(tuning="FULL"), {}, "of tuning LORA; this task has tuning FULL"),
        (asked(), {"tuning": "FULL"}, "of tuning FULL; this task has tuning LORA"),
        (asked(), {"tuning": "", "kind": "MODEL"}, "of tuning FULL; this task has tuning LORA"),
        (asked(method="CLASSIFICATION"), {}, "of method SFT; its head does not fit method CLASSIFICATION"),
        (asked(), {"method": "CLASSIFICATION"}, "of method CLASSIFICATION; its head does not fit method SFT"),
        (asked(method="CLASSIFICATION"), {"task": "", "method": ""}, "made elsewhere and has no head for method CLASSIFICATION"),
        (asked(), {"obstacle": "it is odd"}, "artifacts/a cannot be trained on: it is odd"),
        (asked(tuning="FULL"), {"kind": "MODEL", "base_model": "", "tuning": ""}, "another layout than baseModels/tiny"),
        (asked(), {"hyperparameters": Hyperparameters(zero_stage=3, lora=EARLIER)}, "parts of ZeRO 3; use the task's result"),
    ],
    ids=range(11),
)
def test_what_cannot_be_continued_is_refused_with_the_reason(ask: FineTuning, origin: dict[str, Any], said: str) -> None:
    ((field, text),) = found(ask, dataclasses.replace(ORIGIN, **origin))
    assert (field, said in text) == (FIELD, True), text


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(found(asked(Lora(rank=4, alpha=1.0), base_model="baseModels/other", method="CLASSIFICATION"))) == 4


def test_an_adapter_from_before_its_method_was_told_is_known_by_its_kind() -> None:
    assert found(asked(), dataclasses.replace(ORIGIN, kind="ADAPTER", tuning="", method="")) == []


def test_a_result_of_zero_3_is_whole() -> None:
    whole = dataclasses.replace(ORIGIN, kind="ADAPTER", hyperparameters=Hyperparameters(zero_stage=3, lora=EARLIER))
    assert found(asked(), whole) == []


def test_a_base_model_whose_revision_is_not_known_is_trusted() -> None:
    assert found(asked(), revision="") == []
