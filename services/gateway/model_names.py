"""What a model's id stands for; the short ids of tuned models are looked up. Used by chat, completions, jobs and models."""

from services.common.errors import InvalidArgument, NotFound, Violation
from services.gateway import identifiers
from services.gateway.identifiers import TunedModel, TunedName
from services.gateway.job_conversion import JobConversion
from services.gateway.peers import Peers
from tunesmith.v1.task_manager_service_pb2 import ListTasksRequest, TaskFilter
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec


class ModelNames:
    """Ids as callers write them."""

    def __init__(self, peers: Peers, conversion: JobConversion) -> None:
        self._peers = peers
        self._conversion = conversion

    async def model(self, given: str) -> str:
        """The name inference knows it by; raises NotFound and InvalidArgument as `tuned`."""
        tuned = await self.tuned(given)
        return tuned.model if tuned else given

    async def tuned(self, given: str) -> TunedModel | None:
        """The task and step of an id of the form `ft:…`; None for every other model.

        Raises NotFound for one that means nothing, InvalidArgument (MODEL_AMBIGUOUS) for a short one that means several tasks.
        """
        name = identifiers.tuned_name(given)
        if name is None:
            return None
        task = name.task or (await self._task(name, given)).name
        return TunedModel(task, name.base_model, name.step)

    async def _task(self, name: TunedName, given: str) -> Task:
        """The one task whose id begins so; what stands before the id decides between several."""
        wanted = TaskFilter(id_prefix=name.digits, kinds=[TaskSpec.FINE_TUNING])
        listing = ListTasksRequest(filter=wanted, page_size=100)
        found = list((await self._peers.task_manager.call(self._peers.tasks.ListTasks, listing)).tasks)
        if len(found) > 1:
            found = [task for task in found if self._conversion.tuned_model(task) == name.result] or found
        if not found:
            raise NotFound("MODEL_NOT_FOUND", given[:200])
        if len(found) > 1:
            raise _ambiguous(given, [self._conversion.long_tuned_model(task) for task in found])
        task: Task = found[0]
        return task


def _ambiguous(given: str, names: list[str]) -> InvalidArgument:
    means = f"{given[:200]!r} can be {' or '.join(names[:5])}"
    return InvalidArgument(Violation("model", means), reason="MODEL_AMBIGUOUS")
