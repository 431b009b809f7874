"""Methods and tunings: their defaults, and the combinations that are refused with the field and the reason."""

import dataclasses

import pytest

from services.task_manager.domain import methods
from services.task_manager.domain.hyperparameters import Hyperparameters, Lora, Preference, resolve

METHODS = ("SFT", "DPO", "KTO", "ORPO", "CPT", "CLASSIFICATION")


def refused(method: str, tuning: str, **given: object) -> list[tuple[str, str]]:
    found = methods.violations(method, tuning, Hyperparameters(**given), spec="spec", numbers="numbers")  # type: ignore[arg-type]
    return [(violation.field, violation.description) for violation in found]


def resolved(method: str, tuning: str, **given: object) -> Hyperparameters:
    facts = methods.facts(method, tuning, 100, 4096, has_validation_data=False)
    return resolve(Hyperparameters(**given), facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tuning", ["LORA", "QLORA", "FULL"])
def test_every_method_goes_with_every_tuning_that_the_platform_has(method: str, tuning: str) -> None:
    assert refused(method, tuning) == []


@pytest.mark.parametrize("method", METHODS)
def test_qlora_has_the_numbers_of_lora(method: str) -> None:
    assert resolved(method, "QLORA") == resolved(method, "LORA")
    assert refused(method, "QLORA", lora=Lora(rank=4, use_rslora=True)) == []


@pytest.mark.parametrize(("tuning", "stage", "fields"), [("QLORA", 3, ["numbers.zero_stage"]), ("QLORA", 2, []), ("LORA", 3, [])])
def test_weights_in_4_bits_are_not_cut_among_processes(tuning: str, stage: int, fields: list[str]) -> None:
    assert [field for field, _ in refused("SFT", tuning, zero_stage=stage)] == fields


@pytest.mark.parametrize("name", ["rank", "alpha", "dropout", "use_rslora", "use_dora", "target_modules"])
def test_numbers_of_an_adapter_are_refused_where_there_is_none(name: str) -> None:
    value = ("q_proj",) if name == "target_modules" else 1
    ((field, text),) = refused("SFT", "FULL", lora=dataclasses.replace(Lora(), **{name: value}))
    assert field == f"numbers.lora.{name}"
    assert "tuning FULL has no adapter" in text


@pytest.mark.parametrize(
    ("method", "name", "owners"),
    [
        ("SFT", "beta", "DPO, KTO, ORPO"),
        ("CPT", "sft_loss_weight", "DPO"),
        ("CLASSIFICATION", "reference_free", "DPO"),
        ("KTO", "label_smoothing", "DPO"),
        ("DPO", "desirable_weight", "KTO"),
        ("ORPO", "undesirable_weight", "KTO"),
    ],
)
def test_numbers_of_another_method_are_refused_with_whose_they_are(method: str, name: str, owners: str) -> None:
    ((field, text),) = refused(method, "LORA", preference=dataclasses.replace(Preference(), **{name: 0.0}))
    assert field == f"numbers.preference.{name}"
    assert text == f"belongs to {owners}; method {method} does not use it"


def test_everything_wrong_is_told_at_once() -> None:
    found = refused("SFT", "FULL", lora=Lora(rank=8, use_dora=True), preference=Preference(beta=0.1))
    assert [field for field, _ in found] == ["numbers.lora.rank", "numbers.lora.use_dora", "numbers.preference.beta"]


def test_a_method_resolves_its_own_numbers_and_no_others() -> None:
    assert resolved("DPO", "LORA").preference == Preference(0.1, 0.0, False, 0.0)
    assert resolved("KTO", "LORA").preference == Preference(0.1, desirable_weight=1.0, undesirable_weight=1.0)
    assert resolved("ORPO", "LORA").preference == Preference(0.1)
    assert resolved("SFT", "LORA").preference == resolved("CLASSIFICATION", "FULL").preference == Preference()


def test_numbers_that_are_given_stay_also_when_they_are_zero_or_false() -> None:
    given = Preference(beta=0.5, label_smoothing=0.2, reference_free=True, sft_loss_weight=0.0)
    assert resolved("DPO", "LORA", preference=given).preference == given


def test_full_tuning_has_no_adapter_to_resolve() -> None:
    assert resolved("SFT", "FULL").lora == Lora()
    assert resolved("SFT", "LORA").lora.rank == 16


@pytest.mark.parametrize(
    ("method", "tuning", "rate"),
    [
        ("SFT", "LORA", 2e-4),
        ("CPT", "FULL", 1e-5),
        ("DPO", "LORA", 5e-6),
        ("KTO", "FULL", 1e-6),
        ("CLASSIFICATION", "LORA", 2e-4),
    ],
)
def test_the_default_learning_rate_follows_method_and_tuning(method: str, tuning: str, rate: float) -> None:
    assert resolved(method, tuning).learning_rate == rate
    assert resolved(method, tuning, learning_rate=0.5).learning_rate == 0.5
