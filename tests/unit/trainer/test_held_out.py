"""The rows that a split held out: stored once as a dataset, told by name, and never a reason to lose a result."""

# ruff: noqa: ASYNC240 - files of a few bytes

import uuid
from pathlib import Path
from typing import Any

import pytest
from trainer_values import DATASET, NOW, make_run

from services.common.errors import ServiceError, Unavailable
from services.trainer import conversion
from services.trainer.kinds.table import KINDS
from services.trainer.run_directory import RunDirectory
from tunesmith.v1 import task_spec_pb2

HELD_OUT = "datasets/held-out"
METHODS = task_spec_pb2.FineTuning


class Storage:
    """Takes datasets, or refuses them."""

    def __init__(self, *refusals: ServiceError) -> None:
        self.refusals = list(refusals)
        self.taken: list[tuple[str, str]] = []

    async def upload_dataset(self, display_name: str, path: Path) -> str:
        if self.refusals:
            raise self.refusals.pop()
        self.taken.append((display_name, path.read_text()))
        return HELD_OUT


def a_run(directory: Path, **tuning: Any) -> RunDirectory:
    run = make_run()
    run.spec.fine_tuning.MergeFrom(METHODS(**({"validation_split_ratio": 0.1} | tuning)))
    found = RunDirectory.create(directory, conversion.request_from_proto(run, NOW))
    found.validation_data.write_text("a\nb\n")
    found.output.joinpath("x").write_text("x")
    return found


@pytest.mark.parametrize("method", [METHODS.SFT, METHODS.DPO, METHODS.ORPO, METHODS.KTO, METHODS.CPT])
async def test_they_become_a_dataset_that_is_told(tmp_path: Path, method: Any) -> None:
    storage = Storage()
    run = a_run(tmp_path, method=method)
    (event,) = await KINDS["fine_tuning"].news(run, storage)
    assert storage.taken == [(f"Held out of {DATASET} (0.1, seed 0)", "a\nb\n")]
    told = conversion.event_to_proto({"sequence": 3, "time": NOW, "kind": event.kind, **event.fields}, 1)
    assert told.rows_held_out.dataset == HELD_OUT
    # A repeat, because the trainer was killed in between, says the same.
    assert await KINDS["fine_tuning"].news(run, storage) == [event]
    assert storage.taken[0] == storage.taken[1]


async def test_a_mixture_is_called_after_its_first_dataset(tmp_path: Path) -> None:
    mixture = [task_spec_pb2.WeightedDataset(dataset=f"datasets/{uuid.UUID(int=number)}") for number in (5, 6, 7)]
    storage = Storage()
    await KINDS["fine_tuning"].news(a_run(tmp_path, mixture=mixture), storage)
    assert storage.taken[0][0] == f"Held out of datasets/{uuid.UUID(int=5)} and 2 more (0.1, seed 0)"


@pytest.mark.parametrize(
    "tuning",
    [
        {"skip_evaluation": True},
        {"evaluation_dataset": DATASET},
        {"method": METHODS.CLASSIFICATION},
    ],
    ids=["not wanted", "other data", "measured by training"],
)
async def test_what_nobody_asks_about_is_not_stored(tmp_path: Path, tuning: dict[str, Any]) -> None:
    run, storage = a_run(tmp_path, **tuning), Storage()
    run.path.joinpath("result.json").write_text('{"kind": "ADAPTER"}')
    assert await KINDS["fine_tuning"].news(run, storage) == []
    assert storage.taken == []


async def test_a_refusal_costs_the_evaluation_and_not_the_result(tmp_path: Path) -> None:
    refused = ServiceError("DATASET_INVALID", "row 1 is bad")
    (event,) = await KINDS["fine_tuning"].news(a_run(tmp_path), Storage(refused))
    line = conversion.event_to_proto({"sequence": 3, "time": NOW, "kind": event.kind, **event.fields}, 1).log_entry
    assert "no evaluation follows: row 1 is bad" in line.text
    assert line.severity == line.WARNING


@pytest.mark.parametrize(
    "passing", [Unavailable("STORAGE_UNAVAILABLE", "away"), ServiceError("UNAUTHENTICATED", "wrong key")], ids=["away", "key"]
)
async def test_what_passes_is_waited_for(tmp_path: Path, passing: ServiceError) -> None:
    with pytest.raises(ServiceError) as caught:
        await KINDS["fine_tuning"].news(a_run(tmp_path), Storage(passing))
    assert caught.value is passing
