"""Where a version of a registered model comes from and what was made of it; part of `tunesmith.Client`."""

from dataclasses import dataclass

from tunesmith.errors import NotFound
from tunesmith.registry import RegistryVerbs
from tunesmith.tasks import TaskVerbs
from tunesmith.v1.registered_model_pb2 import ModelVersion
from tunesmith.v1.task_manager_service_pb2 import ListTasksRequest
from tunesmith.v1.task_pb2 import Task

_LONGEST = 100  # a chain cannot close, but what comes over the network is not believed to end


@dataclass(frozen=True, slots=True)
class Step:
    """One task on the way to a version, and what it started from; `task` is None when its record was deleted."""

    name: str
    task: Task | None

    @property
    def origin(self) -> str:
        """The artifact, checkpoint or version whose weights it started from; empty = the base model alone, or not known."""
        return self.task.origin.artifact if self.task else ""

    @property
    def datasets(self) -> list[str]:
        """What it learned from, as it was asked to."""
        tuning = self.task.spec.fine_tuning if self.task else None
        if tuning is None or not self.task or self.task.spec.WhichOneof("kind") != "fine_tuning":
            return []
        return [each.dataset for each in tuning.mixture] or [tuning.dataset]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Dataset version, task, checkpoint, artifact, version and child tasks, as one chain."""

    version: ModelVersion
    """Its manifest names the artifact's data by SHA-256 and the revision of the base model."""
    steps: list[Step]
    """From the task that made its artifact back to the first one; none when the version was imported."""
    children: list[Task]
    """Tasks that start from the version or from its artifact, newest first."""


class LineageVerbs(RegistryVerbs, TaskVerbs):
    """What task manager and storage know together."""

    def lineage(self, name: str) -> Lineage:
        """Of one version, named as for `get_model_version`."""
        version = self.get_model_version(name)
        starts = [version.name, *filter(None, [version.artifact])]
        return Lineage(version, self._steps(version.manifest.task), self._starting_from(starts))

    def _steps(self, task: str) -> list[Step]:
        steps: list[Step] = []
        while task and len(steps) < _LONGEST:
            try:
                found = self.get_task(task)
            except NotFound:
                steps.append(Step(task, None))
                break
            steps.append(Step(task, found))
            task = found.origin.task
        return steps

    def _starting_from(self, names: list[str]) -> list[Task]:
        request = ListTasksRequest(initial_artifacts=names)
        found: list[Task] = []
        while True:
            page = self.connection("task_manager").call(self._tasks.ListTasks, request)
            found += page.tasks
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
