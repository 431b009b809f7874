"""What is asked of storage before a task is queued, and what is refused by the answers."""

import dataclasses

import pytest
from plan_values import ASK, BASE_MODEL, SMOLLM2, token_facts

from services.common.errors import InvalidArgument
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, Lora
from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts, TokenFacts
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.inquiry import Inquiry


class FakeStorage:
    """One dataset, and a model of 30 layers."""

    shapes_asked = 0

    async def dataset(self, name: str) -> DatasetFacts:
        return DatasetFacts(320, "CHAT")

    async def base_model(self, name: str) -> BaseModelFacts:
        return BASE_MODEL

    async def model_shape(self, model: str) -> ModelShape | None:
        assert model == ASK.base_model
        self.shapes_asked += 1
        return SMOLLM2

    async def tokens(self, dataset: str, **_: object) -> TokenFacts:
        return token_facts()


def asking(last_layers: int | None) -> FineTuning:
    return dataclasses.replace(ASK, hyperparameters=Hyperparameters(lora=Lora(last_layers=last_layers)))


async def test_more_layers_than_the_base_model_has_are_refused_by_their_field() -> None:
    with pytest.raises(InvalidArgument) as refused:
        await Inquiry(FakeStorage()).about(asking(31), patience=1.0)  # type: ignore[arg-type]
    (violation,) = refused.value.violations
    assert (violation.field, violation.description) == (
        f"{PATH}.lora.last_layers",
        "31 is too large; the base model has 30 layers",
    )


@pytest.mark.parametrize(("last_layers", "effective", "questions"), [(8, 8, 1), (0, 0, 0), (None, 0, 0)])
async def test_the_number_is_told_and_the_shape_asked_for_only_with_one(
    last_layers: int | None, effective: int, questions: int
) -> None:
    storage = FakeStorage()
    found = await Inquiry(storage).about(asking(last_layers), patience=1.0)  # type: ignore[arg-type]
    assert (found.effective.lora.last_layers, storage.shapes_asked) == (effective, questions)
