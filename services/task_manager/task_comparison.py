"""Compares two tasks by all that is known of them; used by DiffTasks."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

from services.common.errors import ServiceError
from services.task_manager.domain.comparison import Difference, Fields, Provenance, Section, differences
from services.task_manager.domain.task import Task
from services.task_manager.field_paths import fields_of
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2


class Artifacts(Protocol):
    """GrpcStorage is one."""

    async def provenance(self, artifact: str) -> Provenance:
        """Raises ServiceError (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED), Unavailable."""


class TaskComparison:
    """Raises Unavailable when storage does not answer."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def compare(self, first: Task, second: Task) -> api.DiffTasksResponse:
        """Everything that differs; sections that need an artifact are left out when one is not there to read."""
        one, other = await asyncio.gather(self._provenance(first), self._provenance(second))
        found = list(_own_differences(first, second))
        unknown: list[Section] = []
        if one and other:
            found += differences(Section.DATA, one.data, other.data)
            found += differences(Section.VERSIONS, one.versions, other.versions)
        else:
            unknown = [Section.DATA, Section.VERSIONS]
        order = list(Section)
        found.sort(key=lambda difference: order.index(difference.section))
        return api.DiffTasksResponse(differences=map(_to_proto, found), unknown_sections=map(_section, unknown))

    async def _provenance(self, task: Task) -> Provenance | None:
        try:
            return await self._artifacts.provenance(task.artifact) if task.artifact else None
        except ServiceError as error:
            if error.status != "NOT_FOUND":
                raise
            return None


def _own_differences(first: Task, second: Task) -> Iterator[Difference]:
    for section, fields in ((Section.SPEC, _spec), (Section.HYPERPARAMETERS, _hyperparameters), (Section.RESULT, _result)):
        yield from differences(section, fields(first), fields(second))


def _spec(task: Task) -> Fields:
    prefix = f"{task.kind.field}."
    fields = {path.removeprefix(prefix): text for path, text in fields_of(task_spec_pb2.TaskSpec.FromString(task.spec)).items()}
    # What they resolved to is a section of its own.
    asked = {path: text for path, text in fields.items() if not path.startswith("hyperparameters.")}
    return {"kind": task.kind.value} | asked


def _hyperparameters(task: Task) -> Fields:
    return fields_of(task_spec_pb2.Hyperparameters.FromString(task.effective_hyperparameters))


def _result(task: Task) -> Fields:
    found = {"state": task.state.value, "attempt": str(task.attempt)}
    if task.start_time and task.end_time:
        found["duration"] = f"{(task.end_time - task.start_time).total_seconds():.1f} s"
    if task.progress:
        found["step"] = str(task.progress.step)
        found |= {f"metrics.{name}": f"{value:.6g}" for name, value in task.progress.metrics.items()}
    return found


def _to_proto(difference: Difference) -> api.TaskDifference:
    return api.TaskDifference(
        section=_section(difference.section), field=difference.field, first=difference.first, second=difference.second
    )


def _section(section: Section) -> api.TaskDifference.Section.ValueType:
    return api.TaskDifference.Section.Value(section.value)
