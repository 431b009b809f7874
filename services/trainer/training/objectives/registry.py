"""Objectives by the name a configuration calls them, each made from the training data; a new method is one line here."""

from collections.abc import Callable

from services.trainer.training.data import Dataset
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.objectives.sft import SupervisedFineTuning

OBJECTIVES: dict[str, Callable[[Dataset], Objective]] = {"sft": SupervisedFineTuning}
