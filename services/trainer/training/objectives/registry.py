"""Objectives by the name a configuration calls them; a new method is one line here, its rows one in `forms`."""

from collections.abc import Callable

from services.trainer.training.config import Hyperparameters, Preference
from services.trainer.training.data import Dataset
from services.trainer.training.objectives.classification import Classification
from services.trainer.training.objectives.dpo import DirectPreference
from services.trainer.training.objectives.kto import KahnemanTversky
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.objectives.orpo import OddsRatio
from services.trainer.training.objectives.sft import CrossEntropy

OBJECTIVES: dict[str, Callable[[Dataset, Hyperparameters], Objective]] = {
    "sft": CrossEntropy,
    "cpt": CrossEntropy,
    "dpo": lambda training, numbers: DirectPreference(training, numbers, _preference(numbers)),
    "kto": lambda training, numbers: KahnemanTversky(training, numbers, _preference(numbers)),
    "orpo": lambda _, numbers: OddsRatio(_preference(numbers)),
    "classification": lambda training, _: Classification(training),
}


def _preference(numbers: Hyperparameters) -> Preference:
    assert numbers.preference is not None, "the configuration was checked"
    return numbers.preference
