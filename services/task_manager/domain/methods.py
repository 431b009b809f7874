"""What each training method and tuning takes, as data, and the combinations that cannot work; used to check and to resolve."""

import dataclasses
from collections.abc import Iterator, Mapping

from services.common.errors import Violation
from services.task_manager.domain import four_bit
from services.task_manager.domain.hyperparameters import Facts, Hyperparameters, Lora, Preference

PREFERENCE_FIELDS: Mapping[str, Preference] = {
    "DPO": Preference(beta=0.1, label_smoothing=0.0, reference_free=False, sft_loss_weight=0.0),
    "KTO": Preference(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
    "ORPO": Preference(beta=0.1),
}
"""By method: the numbers it takes, with their defaults; None = not one of them."""

ADAPTER_TUNINGS = ("LORA", "QLORA")
"""Those that train an adapter; they differ in how the frozen weights are held."""
_CUTS_WEIGHTS = 3
_LEARNING_RATES: Mapping[tuple[bool, bool], float] = {
    (False, True): 2e-4,
    (False, False): 1e-5,
    (True, True): 5e-6,
    (True, False): 1e-6,
}


def violations(method: str, tuning: str, given: Hyperparameters, *, spec: str, numbers: str) -> Iterator[Violation]:
    """Everything asked for that method and tuning cannot use; `spec` and `numbers` are where both messages stand."""
    if tuning not in ADAPTER_TUNINGS:
        for name in _set_fields(given.lora):
            yield Violation(f"{numbers}.lora.{name}", f"belongs to tunings LORA and QLORA; tuning {tuning} has no adapter")
    if tuning == four_bit.TUNING and given.zero_stage == _CUTS_WEIGHTS:
        yield Violation(f"{numbers}.zero_stage", "3 cuts weights among processes, which those in 4 bits of QLORA cannot be")
    permitted = _set_fields(PREFERENCE_FIELDS.get(method, Preference()))
    for name in _set_fields(given.preference):
        if name not in permitted:
            owners = ", ".join(owner for owner, fields in PREFERENCE_FIELDS.items() if getattr(fields, name) is not None)
            yield Violation(f"{numbers}.preference.{name}", f"belongs to {owners}; method {method} does not use it")


def facts(
    method: str, tuning: str, example_count: int, context_length: int, *, has_validation_data: bool, has_samples: bool = False
) -> Facts:
    """What resolving the hyperparameters of such a task has to know."""
    return Facts(
        example_count,
        context_length,
        has_validation_data,
        learning_rate=_LEARNING_RATES[method in PREFERENCE_FIELDS, tuning in ADAPTER_TUNINGS],
        preference=PREFERENCE_FIELDS.get(method, Preference()),
        has_adapter=tuning in ADAPTER_TUNINGS,
        has_samples=has_samples,
    )


def _set_fields(values: Lora | Preference) -> list[str]:
    return [field.name for field in dataclasses.fields(values) if getattr(values, field.name) not in (None, ())]
