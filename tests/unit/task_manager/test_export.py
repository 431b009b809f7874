"""What an export may ask for, what has no other form, and what is recorded of one that can work."""

import dataclasses
import uuid
from typing import Any

import pytest
from task_values import a_task

from services.common.errors import InvalidArgument, NotFound
from services.task_manager.domain import export
from services.task_manager.domain.export import Export
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import BaseModelFacts
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.domain.task import State, Task
from services.task_manager.kinds.export import export_from_proto, exports
from services.task_manager.kinds.work import Work
from services.task_manager.origins import Origins
from tunesmith.v1 import export_pb2, task_spec_pb2

TASK = f"tasks/{uuid.UUID(int=7)}"
SOURCE = ArtifactFacts(
    name=f"artifacts/{uuid.UUID(int=9)}",
    kind="ADAPTER",
    task=TASK,
    step=12,
    attempt=1,
    base_model="baseModels/tiny",
    base_model_revision="r1",
    method="SFT",
    tuning="LORA",
    hyperparameters=Hyperparameters(),
)
BASE = BaseModelFacts(128, parameter_count=1_000, revision="r1", family="llama")
MERGED = Export(SOURCE.name, "MERGED", "")
GGUF = Export(SOURCE.name, "GGUF", "Q8_0")


@pytest.mark.parametrize("ask", [MERGED, GGUF, Export(TASK, "GGUF", "")], ids=["merged", "gguf", "default type"])
def test_these_asks_are_in_order(ask: Export) -> None:
    assert list(ask.violations()) == []
    assert ask.with_full_names() is ask


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"artifact": ""}, ["artifact"]),
        ({"format": ""}, ["format"]),
        ({"artifact": "", "format": ""}, ["artifact", "format"]),
        ({"format": "GGUF", "gguf_type_known": False}, ["gguf_type"]),
        ({"gguf_type": "F32"}, ["gguf_type"]),
    ],
    ids=["no artifact", "no format", "neither", "unknown type", "type of merged"],
)
def test_what_is_wrong_is_told_by_field(changes: dict[str, Any], fields: list[str]) -> None:
    found = list(dataclasses.replace(MERGED, **changes).violations())
    assert [violation.field for violation in found] == [f"task.spec.export.{field}" for field in fields]
    assert all(violation.description for violation in found)


@pytest.mark.parametrize(
    ("ask", "changes"),
    [
        (MERGED, {}),
        (GGUF, {}),
        (GGUF, {"kind": "MERGED"}),
        (GGUF, {"kind": "MODEL", "tuning": "FULL"}),
        (MERGED, {"kind": "CHECKPOINT"}),
        (MERGED, {"method": "DPO", "base_model_revision": ""}),
    ],
    ids=["adapter", "adapter to gguf", "merged to gguf", "model to gguf", "checkpoint", "revision not told"],
)
def test_these_have_another_form(ask: Export, changes: dict[str, Any]) -> None:
    assert list(export.unfit(ask, dataclasses.replace(SOURCE, **changes), BASE)) == []


@pytest.mark.parametrize(
    ("ask", "changes", "text"),
    [
        (MERGED, {"kind": "GGUF"}, "is of kind GGUF"),
        (MERGED, {"kind": "EVALUATION", "method": "CLASSIFICATION"}, "is of kind EVALUATION"),
        (MERGED, {"kind": "MODEL"}, f"tunesmith artifact export {SOURCE.name}"),
        (MERGED, {"kind": "MERGED"}, "whole model already"),
        (GGUF, {"method": "CLASSIFICATION"}, "tells labels apart"),
        (MERGED, {"kind": "CHECKPOINT", "hyperparameters": Hyperparameters(zero_stage=3)}, "ZeRO 3"),
        (MERGED, {"base_model_revision": "r0"}, "other weights"),
    ],
    ids=["gguf", "no weights", "model", "merged", "labels", "cut", "other base"],
)
def test_these_have_none(ask: Export, changes: dict[str, Any], text: str) -> None:
    (violation,) = export.unfit(ask, dataclasses.replace(SOURCE, **changes), BASE)
    assert violation.field == "task.spec.export.artifact"
    assert text in violation.description


@pytest.mark.parametrize(("family", "count"), [("llama", 0), ("", 0), ("qwen2", 1)])
def test_gguf_is_for_the_llama_family(family: str, count: int) -> None:
    base = dataclasses.replace(BASE, family=family)
    assert [each.field for each in export.unfit(GGUF, SOURCE, base)] == count * ["task.spec.export.format"]
    assert list(export.unfit(MERGED, SOURCE, base)) == []


def test_memory_is_foreseen_as_far_as_the_size_is_known() -> None:
    assert export.peak_memory_bytes(BASE) == 600_004_000
    assert export.peak_memory_bytes(BaseModelFacts(128)) == 0


def test_a_format_of_a_newer_client_is_not_taken_for_known() -> None:
    ask = export_from_proto(export_pb2.Export(artifact="a", format=77, gguf_type=77))  # type: ignore[arg-type]
    assert ask == Export("a", "", "", gguf_type_known=False)
    assert export_from_proto(export_pb2.Export(format=export_pb2.Export.GGUF)) == Export("", "GGUF", "")


# ---- with peers


class Storage:
    """One artifact, its base model, and the checkpoints of its task."""

    async def artifact(self, name: str) -> ArtifactFacts:
        if name != SOURCE.name:
            raise NotFound("ARTIFACT_NOT_FOUND", name)
        return SOURCE

    async def base_model(self, name: str) -> BaseModelFacts:
        assert name == SOURCE.base_model
        return BASE

    async def checkpoints(self, task: str) -> list[ArtifactFacts]:
        assert task == TASK
        return [dataclasses.replace(SOURCE, kind="CHECKPOINT", name=f"artifacts/{uuid.UUID(int=10)}", step=4)]


class Tasks:
    """The task that made the artifact."""

    def __init__(self, **changes: Any) -> None:
        self.task = a_task(**{"state": State.SUCCEEDED, "artifact": SOURCE.name} | changes)

    async def get(self, task_id: uuid.UUID) -> Task:
        return self.task


def work(artifact: str, tasks: Tasks | None = None) -> Work:
    storage = Storage()
    kind = exports(storage, Origins(storage, tasks or Tasks()))  # type: ignore[arg-type]
    assert kind.kind is Kind.EXPORT
    asked = export_pb2.Export(artifact=artifact, format=export_pb2.Export.GGUF)
    return kind.read(task_spec_pb2.TaskSpec(export=asked)).with_full_names()


@pytest.mark.parametrize(
    ("named", "artifact", "step"),
    [(SOURCE.name, SOURCE.name, 12), (TASK, SOURCE.name, 12), (f"{TASK}@step-4", f"artifacts/{uuid.UUID(int=10)}", 4)],
    ids=["artifact", "task", "checkpoint"],
)
async def test_every_name_becomes_the_artifacts(named: str, artifact: str, step: int) -> None:
    found = await work(named).resolve(patience=1.0)

    assert task_spec_pb2.TaskSpec.FromString(found.spec).export.artifact == artifact
    assert found.origin
    assert (found.origin.name, found.origin.step, found.base_model) == (artifact, step, SOURCE.base_model)
    assert (found.kind, found.processes, found.method, found.datasets) == (Kind.EXPORT, 1, "", ())
    assert not found.effective_hyperparameters.ByteSize()


async def test_the_same_ask_is_the_same_bytes_before_anything_is_looked_up() -> None:
    assert work(TASK).spec() == work(TASK).spec() != work(SOURCE.name).spec()


async def test_a_plan_tells_the_memory() -> None:
    assert (await work(TASK).plan(patience=1.0)).estimated_peak_memory_bytes == export.peak_memory_bytes(BASE)


@pytest.mark.parametrize(
    ("named", "tasks"),
    [("models/x", None), ("artifacts/x", None), (TASK, Tasks(artifact="", state=State.FAILED))],
    ids=["another resource", "no uuid", "no result"],
)
async def test_a_name_that_leads_nowhere_is_wrong_in_this_field(named: str, tasks: Tasks | None) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await work(named, tasks).resolve(patience=1.0)
    assert [violation.field for violation in caught.value.violations] == ["task.spec.export.artifact"]


async def test_a_step_without_a_checkpoint_is_told_with_those_that_have_one() -> None:
    with pytest.raises(NotFound, match=r"task\.spec\.export\.artifact: .*steps with a checkpoint: 4"):
        await work(f"{TASK}@step-5").resolve(patience=1.0)
