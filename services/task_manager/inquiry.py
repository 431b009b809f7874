"""Asks storage about a task's data and base model, and refuses what cannot work; used when a task is created or planned."""

import asyncio

from services.common.errors import InvalidArgument
from services.task_manager.domain import hyperparameters, methods, suitability
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.fine_tuning import FINE_TUNING, FineTuning
from services.task_manager.domain.inputs import Inputs, Tokens
from services.task_manager.domain.training_data import count_rows
from services.task_manager.served_models import naming
from services.task_manager.storage_port import Storage


class Inquiry:
    """Storage is asked outside of any transaction."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def about(self, ask: FineTuning, *, patience: float, compare: bool = False) -> Findings:
        """Waits `patience` seconds at most for tokens to be counted; `compare` looks for training rows in the validation data.

        Raises InvalidArgument with what cannot work, NotFound for dataset or base model, Unavailable.
        """
        inputs = await self._inputs(ask)
        await self._check_layers(ask)
        weights = [source.weight for source in ask.sources]
        rows = count_rows([dataset.example_count for dataset in inputs.datasets], weights, ask.validation_split_ratio)
        if unfit := list(suitability.unfit_inputs(ask, inputs, rows)):
            raise InvalidArgument(*unfit)
        sampled = bool(ask.sample_prompts)
        context_length, validated = inputs.base_model.context_length, ask.has_validation_data
        facts = methods.facts(
            ask.method, ask.tuning, rows.training, context_length, has_validation_data=validated, has_samples=sampled
        )
        effective = hyperparameters.resolve(ask.hyperparameters, facts)
        assert effective.max_seq_length is not None, "resolved"
        tokens = await self._tokens(ask, effective.max_seq_length, patience, compare)
        if unfit := list(suitability.unfit_tokens(ask, tokens)):
            raise InvalidArgument(*unfit)
        return Findings(ask, inputs, rows, effective, tokens)

    async def _check_layers(self, ask: FineTuning) -> None:
        last_layers = ask.hyperparameters.lora.last_layers or 0
        shape = await self._storage.model_shape(ask.base_model) if last_layers else None
        if unfit := list(suitability.unfit_layers(last_layers, shape)):
            raise InvalidArgument(*unfit)

    async def _inputs(self, ask: FineTuning) -> Inputs:
        asked = [(ask.source_field(index), source.dataset) for index, source in enumerate(ask.sources)]
        if ask.validation_dataset:
            asked.append((f"{FINE_TUNING}.validation_dataset", ask.validation_dataset))
        datasets = list(await asyncio.gather(*(naming(field, self._storage.dataset(name)) for field, name in asked)))
        base_model = await naming(f"{FINE_TUNING}.base_model", self._storage.base_model(ask.base_model))
        validation = datasets.pop() if ask.validation_dataset else None
        return Inputs(tuple(datasets), validation, base_model)

    async def _tokens(self, ask: FineTuning, max_seq_length: int, patience: float, compare: bool) -> Tokens:
        names = [source.dataset for source in ask.sources]
        against = ask.validation_dataset if compare else ""
        questions = [(name, against) for name in names] + ([(ask.validation_dataset, "")] if ask.validation_dataset else [])
        counted = await asyncio.gather(
            *(
                self._storage.tokens(
                    name, base_model=ask.base_model, max_seq_length=max_seq_length, against=against, patience=patience
                )
                for name, against in questions
            )
        )
        return Tokens(tuple(counted[: len(names)]), counted[len(names)] if ask.validation_dataset else None)
