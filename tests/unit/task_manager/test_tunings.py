"""What a base model can be tuned with: judged as a task would be, estimated as a plan would."""

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from unit.task_manager.plan_values import BASE_MODEL, SMOLLM2

from services.common.errors import InvalidArgument, NotFound
from services.task_manager.domain.inputs import BaseModelFacts
from services.task_manager.domain.memory import MemoryNeed, peak_bytes
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.tunings import TuningFit, row_length, tunings
from services.task_manager.tunings import Tunings
from tunesmith.v1.task_spec_pb2 import FineTuning

METHODS = {"SFT", "DPO", "KTO", "ORPO", "CPT", "CLASSIFICATION"}


PLAIN, ABLE = {"zone": "a"}, {"zone": "b", "four-bit": "yes"}


def by_way(
    model: BaseModelFacts = BASE_MODEL, shape: ModelShape | None = SMOLLM2, runners: Sequence[Mapping[str, str]] = (PLAIN,)
) -> dict[tuple[str, str], TuningFit]:
    return {(fit.method, fit.tuning): fit for fit in tunings("baseModels/smol", model, shape, runners)}


async def plain_runners() -> Sequence[Mapping[str, str]]:
    return (PLAIN,)


def test_every_method_is_told_with_every_tuning() -> None:
    assert set(by_way()) == {(method, tuning) for method in METHODS for tuning in ("LORA", "QLORA", "FULL")}


def test_the_methods_are_those_of_the_contract() -> None:
    assert {name for name, number in FineTuning.Method.items() if number} == METHODS


@pytest.mark.parametrize("tuning", ["LORA", "FULL"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_allowed_has_a_memory_and_no_problem(method: str, tuning: str) -> None:
    fit = by_way()[method, tuning]
    assert fit.problem == ""
    assert fit.memory_bytes > 4 * BASE_MODEL.parameter_count


def test_training_all_weights_takes_more_than_an_adapter() -> None:
    fits = by_way()
    # Gradients and both moments of every weight: 12 bytes beside the 4 that an adapter's base has, too.
    difference = fits["SFT", "FULL"].memory_bytes - fits["SFT", "LORA"].memory_bytes
    assert difference > 10 * BASE_MODEL.parameter_count


def test_what_no_trainer_can_do_says_so_and_has_no_memory() -> None:
    fit = by_way()["SFT", "QLORA"]
    assert "4 bits" in fit.problem
    assert fit.memory_bytes == 0


def test_weights_in_4_bits_are_allowed_where_a_trainer_has_them_and_take_less() -> None:
    fits = by_way(runners=(PLAIN, ABLE))
    assert fits["SFT", "QLORA"].problem == ""
    # The embeddings of this model are a fifth of its weights.
    layers = BASE_MODEL.parameter_count - SMOLLM2.vocabulary * SMOLLM2.hidden
    assert fits["SFT", "QLORA"].memory_bytes > 0
    assert memory_of(four_bits=False) - memory_of(four_bits=True) == pytest.approx(layers * (4 - 0.516), rel=1e-3)


def memory_of(*, four_bits: bool) -> int:
    count = BASE_MODEL.parameter_count
    return peak_bytes(MemoryNeed(SMOLLM2, count, 10**6, "", 1, 1, 80, 80, 8.0, has_four_bits=four_bits), 1)


def test_a_template_that_cannot_train_leaves_plain_text() -> None:
    model = dataclasses.replace(BASE_MODEL, chat_template_problem="the end of a turn carries no loss")
    fits = by_way(model)
    assert fits["SFT", "LORA"].problem == "cannot learn conversations: the end of a turn carries no loss"
    assert {method for (method, tuning), fit in fits.items() if tuning == "LORA" and not fit.problem} == {"CPT"}


def test_rows_are_no_longer_than_the_model_can_read() -> None:
    assert row_length(BASE_MODEL) == 2048
    assert row_length(dataclasses.replace(BASE_MODEL, context_length=512)) == 512
    assert row_length(dataclasses.replace(BASE_MODEL, context_length=0)) == 2048


def test_shorter_rows_need_less() -> None:
    short = by_way(dataclasses.replace(BASE_MODEL, context_length=256))
    assert short["SFT", "FULL"].memory_bytes < by_way()["SFT", "FULL"].memory_bytes


def test_a_model_of_unknown_size_has_no_estimate_but_its_methods() -> None:
    fit = by_way(dataclasses.replace(BASE_MODEL, parameter_count=0), None)["SFT", "LORA"]
    assert (fit.problem, fit.memory_bytes) == ("", 0)


class Storage:
    """Knows one base model."""

    async def base_model(self, name: str) -> BaseModelFacts:
        if name != "baseModels/smol":
            raise NotFound("BASE_MODEL_NOT_FOUND", name)
        return BASE_MODEL

    async def model_shape(self, name: str) -> ModelShape | None:
        return SMOLLM2


async def test_the_answer_is_that_of_the_domain() -> None:
    answer = await Tunings(Storage(), plain_runners).of("smol")  # type: ignore[arg-type]
    assert answer.max_seq_length == 2048
    told = {
        (FineTuning.Method.Name(each.method), FineTuning.Tuning.Name(each.tuning)): (each.problem, each.memory_bytes)
        for each in answer.tunings
    }
    assert told == {way: (fit.problem, fit.memory_bytes) for way, fit in by_way().items()}


async def test_a_model_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFound):
        await Tunings(Storage(), plain_runners).of("baseModels/other")  # type: ignore[arg-type]


async def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="base_model"):
        await Tunings(Storage(), plain_runners).of("tasks/one")  # type: ignore[arg-type]
