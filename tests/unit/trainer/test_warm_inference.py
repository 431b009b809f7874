"""Which base models inference is asked to load while fine-tunings train, how often, and what becomes of a refusal."""

import asyncio
from pathlib import Path

import pytest
import structlog
from trainer_values import DATASET, NOW, TASK, make_run

from services.common.errors import ServiceError, Unavailable
from services.trainer import conversion
from services.trainer.journal import Journal
from services.trainer.run_directory import RunDirectory
from services.trainer.warm_inference import WarmInference
from tunesmith.v1 import evaluation_pb2, task_spec_pb2

BASE, OTHER = "baseModels/tiny", "baseModels/other"
REFUSED = ServiceError("NOT_LOADED_AHEAD", "it takes 5 bytes; at most 4 are loaded ahead")


class FakeInference:
    """Remembers what it was asked to load; `failure` is what it says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: ServiceError | None = None

    async def load(self, model: str, *, ahead: bool) -> None:
        assert ahead
        self.asked.append(model)
        if self.failure:
            raise self.failure


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def warm(inference: FakeInference, clock: Clock) -> WarmInference:
    return WarmInference(inference, clock)


def tuning(base: str = BASE, **fields: object) -> task_spec_pb2.TaskSpec:
    return task_spec_pb2.TaskSpec(fine_tuning=task_spec_pb2.FineTuning(base_model=base, dataset=DATASET, **fields))


def run_of(directory: Path, spec: task_spec_pb2.TaskSpec, *, attempt: int = 1, step: int = 1) -> RunDirectory:
    """A run that has reported `step` steps; 0 = none."""
    asked = make_run(name=f"runs/{TASK}-{attempt}", attempt=attempt)
    asked.spec.CopyFrom(spec)
    run = RunDirectory.create(directory, conversion.request_from_proto(asked, NOW))
    if step:
        trains(run, step)
    return run


def trains(run: RunDirectory, step: int) -> None:
    with Journal.open(run.journal) as journal:
        journal.event("metrics", step=step, values={})


async def test_the_base_model_of_a_training_is_asked_for_once_it_has_made_a_step(
    warm: WarmInference, inference: FakeInference, tmp_path: Path
) -> None:
    run = run_of(tmp_path, tuning(), step=0)
    await warm.look([run])
    assert inference.asked == []
    trains(run, 1)
    await warm.look([run])
    assert inference.asked == [BASE]


async def test_trainings_on_one_base_model_ask_once_and_others_for_their_own(
    warm: WarmInference, inference: FakeInference, tmp_path: Path
) -> None:
    specs = (tuning(), tuning(), tuning(OTHER))
    await warm.look([run_of(tmp_path, spec, attempt=number) for number, spec in enumerate(specs, start=1)])
    assert inference.asked == [OTHER, BASE]


@pytest.mark.parametrize(
    "spec",
    [
        tuning(tuning=task_spec_pb2.FineTuning.FULL),
        tuning(method=task_spec_pb2.FineTuning.CLASSIFICATION),
        task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(dataset=DATASET, models=[BASE])),
    ],
    ids=["a whole model", "a classifier", "an evaluation"],
)
async def test_what_needs_no_base_model_to_answer_asks_for_none(
    warm: WarmInference, inference: FakeInference, tmp_path: Path, spec: task_spec_pb2.TaskSpec
) -> None:
    await warm.look([run_of(tmp_path, spec)])
    assert inference.asked == []


async def test_it_is_asked_for_again_as_long_as_the_run_is_active(
    warm: WarmInference, inference: FakeInference, clock: Clock, tmp_path: Path
) -> None:
    run = run_of(tmp_path, tuning())
    asked = []
    for clock.now in (0.0, 14.9, 15.0, 29.9, 30.0):
        await warm.look([run])
        asked.append(len(inference.asked))
    assert asked == [1, 1, 2, 2, 3]
    clock.now = 60.0
    await warm.look([])
    assert len(inference.asked) == 3


@pytest.mark.parametrize("failure", [REFUSED, Unavailable("INFERENCE_UNAVAILABLE", "the inference service did not answer")])
async def test_a_refusal_is_told_once_and_asked_again(
    warm: WarmInference, inference: FakeInference, clock: Clock, tmp_path: Path, failure: ServiceError
) -> None:
    run, inference.failure = run_of(tmp_path, tuning()), failure
    with structlog.testing.capture_logs() as logs:
        for clock.now in (0.0, 20.0, 40.0):
            await warm.look([run])
        inference.failure, clock.now = None, 60.0
        await warm.look([run])
    assert inference.asked == [BASE] * 4
    assert [line["refused"] for line in logs] == [f"{failure.reason}: {failure.message}", ""]


async def test_it_looks_until_it_is_cancelled(warm: WarmInference, inference: FakeInference, tmp_path: Path) -> None:
    looks: list[None] = []

    def active() -> list[RunDirectory]:
        looks.append(None)
        keeping.cancel()
        return [run]

    run = run_of(tmp_path, tuning())
    keeping = asyncio.create_task(warm.keep(active))
    await asyncio.gather(keeping, return_exceptions=True)
    assert (keeping.cancelled(), len(looks), inference.asked) == (True, 1, [BASE])
