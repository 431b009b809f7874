"""What two tasks do not have in common."""

import dataclasses
import datetime

import pytest
from task_values import NOW, a_task

from services.common.errors import ServiceError, Unavailable
from services.task_manager.domain.comparison import Provenance, Section, differences
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import State, Task
from services.task_manager.field_paths import fields_of
from services.task_manager.task_comparison import TaskComparison
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2

FineTuning, Hyperparameters = task_spec_pb2.FineTuning, task_spec_pb2.Hyperparameters


class Artifacts:
    """Storage with what artifacts were made of."""

    def __init__(self, **known: Provenance | Exception) -> None:
        self.known = known

    async def provenance(self, artifact: str) -> Provenance:
        found = self.known.get(artifact, ServiceError("ARTIFACT_NOT_FOUND", artifact))
        if isinstance(found, Exception):
            raise found
        return found


def done(artifact: str = "", *, rank: int = 8, dataset: str = "datasets/1", loss: float = 1.0, seconds: int = 60) -> Task:
    asked = Hyperparameters(lora=task_spec_pb2.Lora(rank=rank))
    spec = task_spec_pb2.TaskSpec(fine_tuning=FineTuning(dataset=dataset, hyperparameters=asked))
    return a_task(
        state=State.SUCCEEDED,
        spec=spec.SerializeToString(),
        effective_hyperparameters=asked.SerializeToString(),
        artifact=artifact,
        start_time=NOW,
        end_time=NOW + datetime.timedelta(seconds=seconds),
        progress=Progress(5, 5, metrics={"loss": loss}),
    )


async def compared(first: Task, second: Task, **known: Provenance | Exception) -> api.DiffTasksResponse:
    return await TaskComparison(Artifacts(**known)).compare(first, second)


def told(response: api.DiffTasksResponse) -> list[tuple[str, str, str, str]]:
    name = api.TaskDifference.Section.Name
    return [(name(each.section), each.field, each.first, each.second) for each in response.differences]


ONE = Provenance({"dataset_sha256": "aa"}, {"versions.torch": "2.0", "base_model_revision": "r"})


async def test_a_task_has_no_difference_from_itself() -> None:
    response = await compared(done("one"), done("one"), one=ONE)
    assert response == api.DiffTasksResponse()


async def test_everything_that_differs_is_told_section_by_section() -> None:
    other = Provenance({"dataset_sha256": "bb"}, {"versions.torch": "2.1", "base_model_revision": "r", "versions.peft": "1"})
    first, second = done("one"), done("two", rank=16, dataset="datasets/2", loss=0.5, seconds=61)
    assert told(await compared(first, second, one=ONE, two=other)) == [
        ("SPEC", "dataset", "datasets/1", "datasets/2"),
        ("HYPERPARAMETERS", "lora.rank", "8", "16"),
        ("DATA", "dataset_sha256", "aa", "bb"),
        ("VERSIONS", "versions.peft", "", "1"),
        ("VERSIONS", "versions.torch", "2.0", "2.1"),
        ("RESULT", "duration", "60.0 s", "61.0 s"),
        ("RESULT", "metrics.loss", "1", "0.5"),
    ]


@pytest.mark.parametrize("missing", ["", "gone"], ids=["failed", "expired"])
async def test_what_only_an_artifact_knows_is_said_to_be_unknown_without_one(missing: str) -> None:
    expired = ServiceError("ARTIFACT_EXPIRED", "gone")
    response = await compared(done("one"), done(missing, rank=16), one=ONE, gone=expired)
    assert told(response) == [("HYPERPARAMETERS", "lora.rank", "8", "16")]
    assert list(response.unknown_sections) == [api.TaskDifference.DATA, api.TaskDifference.VERSIONS]


async def test_a_storage_service_that_is_away_is_no_lack_of_an_artifact() -> None:
    with pytest.raises(Unavailable):
        await compared(done("one"), done("two"), one=ONE, two=Unavailable("STORAGE_UNAVAILABLE", "away"))


async def test_a_task_that_has_not_begun_has_no_results() -> None:
    response = await compared(dataclasses.replace(done(), progress=None, start_time=None, end_time=None), done())
    assert [(field, first) for section, field, first, _ in told(response) if section == "RESULT"] == [
        ("duration", ""),
        ("metrics.loss", ""),
        ("step", ""),
    ]


def test_fields_are_named_by_their_paths() -> None:
    message = FineTuning(
        dataset="d",
        method=FineTuning.DPO,
        mixture=[task_spec_pb2.WeightedDataset(dataset="x", weight=2.0), task_spec_pb2.WeightedDataset(dataset="y")],
        hyperparameters=Hyperparameters(lora=task_spec_pb2.Lora(use_dora=True, target_modules=["q_proj"]), max_steps=3),
    )
    assert fields_of(message) == {
        "dataset": "d",
        "method": "DPO",
        "mixture[0].dataset": "x",
        "mixture[0].weight": "2.0",
        "mixture[1].dataset": "y",
        "hyperparameters.lora.use_dora": "true",
        "hyperparameters.lora.target_modules[0]": "q_proj",
        "hyperparameters.max_steps": "3",
    }


def test_sections_are_those_of_the_contract() -> None:
    assert [api.TaskDifference.Section.Value(section.value) for section in Section] == [1, 2, 3, 4, 5]
    assert list(differences(Section.SPEC, {}, {})) == []
