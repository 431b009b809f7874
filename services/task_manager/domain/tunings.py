"""What a base model can be tuned with, and how much memory that takes; pure, used by ListTunings.

The judgement and the estimate are those of a task with default hyperparameters: nothing is said here that a plan would not say.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from services.common.errors import Violation
from services.task_manager.domain import four_bit, hyperparameters, methods, suitability
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.fine_tuning import FINE_TUNING, FineTuning
from services.task_manager.domain.formats import FORMATS
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters
from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts, Inputs, TokenFacts, Tokens
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.plan import peak_memory
from services.task_manager.domain.training_data import RowCounts

_TUNINGS = ("LORA", "QLORA", "FULL")
# Enough rows that a step is full; how many more there are changes nothing.
_ROWS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class TuningFit:
    """One way to tune a base model."""

    method: str
    tuning: str
    problem: str
    """Why a task would be refused; empty = it is allowed."""
    memory_bytes: int
    """At the peak of a run with default hyperparameters and full rows; 0 = not known, or not allowed."""


def row_length(model: BaseModelFacts) -> int:
    """Tokens of the rows that the memory is for: the default of `max_seq_length`."""
    return min(hyperparameters.DEFAULT_MAX_SEQ_LENGTH, model.context_length or hyperparameters.DEFAULT_MAX_SEQ_LENGTH)


def tunings(
    base_model: str, model: BaseModelFacts, shape: ModelShape | None, runners: Iterable[Mapping[str, str]]
) -> Sequence[TuningFit]:
    """Every method with every tuning; `shape` None = guessed from the number of parameters; `runners`: labels of all trainers."""
    lacking = tuple(four_bit.violations(runners, f"{FINE_TUNING}.tuning"))
    asks = (_ask(base_model, method, tuning) for method, tuning in itertools.product(FORMATS, _TUNINGS))
    return [_fit(ask, model, shape, lacking if ask.tuning == four_bit.TUNING else ()) for ask in asks]


def _ask(base_model: str, method: str, tuning: str) -> FineTuning:
    numbers = Hyperparameters()
    return FineTuning(
        base_model, "", "", method_known=True, tuning_known=True, hyperparameters=numbers, method=method, tuning=tuning
    )


def _fit(ask: FineTuning, model: BaseModelFacts, shape: ModelShape | None, lacking: Sequence[Violation]) -> TuningFit:
    given, method, tuning, rows = ask.hyperparameters, ask.method, ask.tuning, RowCounts((_ROWS,), 0)
    inputs = Inputs((DatasetFacts(_ROWS, FORMATS[method]),), None, model)
    refused = [
        *lacking,
        *methods.violations(method, tuning, given, spec=FINE_TUNING, numbers=PATH),
        *suitability.unfit_inputs(ask, inputs, rows),
    ]
    if refused:
        return TuningFit(method, tuning, refused[0].description, 0)
    facts = methods.facts(method, tuning, _ROWS, model.context_length, has_validation_data=False)
    length = row_length(model)
    counted = TokenFacts(_ROWS, _ROWS * length, _ROWS * length, length)
    findings = Findings(ask, inputs, rows, hyperparameters.resolve(given, facts), Tokens((counted,)))
    return TuningFit(method, tuning, "", peak_memory(findings, shape))
