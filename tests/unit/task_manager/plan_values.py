"""What storage could say about a task, and what follows from it; values that several tests of plans need."""

import dataclasses
from typing import Any

from services.task_manager.domain import hyperparameters
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import Facts, Hyperparameters
from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts, Inputs, TokenFacts, Tokens
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.training_data import WeightedDataset, count_rows

IDS = [f"{number}1111111-1111-4111-8111-111111111111" for number in range(1, 5)]
SMOLLM2 = ModelShape(layers=30, hidden=576, intermediate=1536, key_value=192, vocabulary=49_152)
SMOLLM2_PARAMETERS = 134_515_008
FLOPS = 300e9
ASK = FineTuning(
    base_model="baseModels/smol",
    dataset=f"datasets/{IDS[0]}",
    validation_dataset="",
    method_known=True,
    tuning_known=True,
    hyperparameters=Hyperparameters(num_train_epochs=1.0),
)
BASE_MODEL = BaseModelFacts(8192, SMOLLM2_PARAMETERS)


def mixed(*weights: float, **changes: Any) -> FineTuning:
    """An ask for so many datasets."""
    mixture = tuple(WeightedDataset(f"datasets/{name}", weight) for name, weight in zip(IDS, weights, strict=False))
    return dataclasses.replace(ASK, dataset="", mixture=mixture, **changes)


def token_facts(rows: int = 320, length: int = 61, **changes: Any) -> TokenFacts:
    """Rows of one length, an eighth of which carries loss."""
    plain = TokenFacts(
        example_count=rows,
        token_count=rows * length,
        trainable_token_count=rows * (length // 8),
        longest=length,
        histogram=((1 << (length - 1).bit_length(), rows),),
    )
    return dataclasses.replace(plain, **changes)


def inputs_of(ask: FineTuning, rows: int = 320, base_model: BaseModelFacts = BASE_MODEL) -> Inputs:
    """Every dataset has so many rows."""
    validation = DatasetFacts(rows, "CHAT") if ask.validation_dataset else None
    return Inputs(tuple(DatasetFacts(rows, "CHAT") for _ in ask.sources), validation, base_model)


def findings(
    ask: FineTuning = ASK,
    *,
    inputs: Inputs | None = None,
    tokens: Tokens | None = None,
    **numbers: Any,
) -> Findings:
    """What is known of `ask` with these hyperparameters."""
    ask = dataclasses.replace(ask, hyperparameters=dataclasses.replace(ask.hyperparameters, **numbers))
    inputs = inputs or inputs_of(ask)
    counts = [dataset.example_count for dataset in inputs.datasets]
    rows = count_rows(counts, [source.weight for source in ask.sources], ask.validation_split_ratio)
    facts = Facts(rows.training, inputs.base_model.context_length, ask.has_validation_data)
    effective = hyperparameters.resolve(ask.hyperparameters, facts)
    if tokens is None:
        validation = token_facts(inputs.validation.example_count) if inputs.validation else None
        tokens = Tokens(tuple(token_facts(count) for count in counts), validation)
    return Findings(ask, inputs, rows, effective, tokens)
