"""Generation tasks: model and dataset are looked up, a task's result is replaced by its artifact."""

import dataclasses
from collections.abc import Iterator
from typing import Self

from services.common.errors import Violation
from services.common.grading.conversion import sampling_from_proto
from services.common.names import resource_uuid
from services.task_manager.domain.asking import GENERATION, QUESTIONS, Generation
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.served_models import ServedModels
from tunesmith.v1 import generation_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationWork:
    """One ask."""

    served: ServedModels
    given: task_spec_pb2.TaskSpec
    ask: Generation

    def violations(self) -> Iterator[Violation]:
        """See Work."""
        return self.ask.violations()

    def with_full_names(self) -> Self:
        """See Work."""
        return dataclasses.replace(self, ask=self.ask.with_full_names())

    def spec(self) -> bytes:
        """See Work."""
        return _stored(self.given, self.ask)

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        """See Work."""
        await self._rows()
        model, artifact = await self.served.find(self.ask.model, f"{GENERATION}.model")
        ask = dataclasses.replace(self.ask, model=model)
        return Resolved(
            kind=Kind.GENERATION,
            spec=_stored(self.given, ask),
            datasets=(resource_uuid(ask.dataset, "datasets"),),
            base_model=artifact.base_model if artifact else model if model.startswith("baseModels/") else "",
            origin=artifact,
        )

    async def plan(self, *, patience: float) -> api.TaskPlan:
        """See Work."""
        rows = await self._rows()
        await self.resolve(patience=patience)
        return api.TaskPlan(example_count=rows, total_steps=rows)

    async def _rows(self) -> int:
        facts = await self.served.dataset(self.ask.dataset, QUESTIONS, f"{GENERATION}.dataset")
        return min(facts.example_count, self.ask.max_rows or facts.example_count)


def generation(served: ServedModels) -> WorkKind:
    """The kind."""
    return WorkKind(Kind.GENERATION, lambda spec: GenerationWork(served, spec, _ask(spec.generation)))


def _ask(spec: generation_pb2.Generation) -> Generation:
    return Generation(
        model=spec.model,
        dataset=spec.dataset,
        sampling=sampling_from_proto(spec.sampling),
        max_rows=spec.max_rows if spec.HasField("max_rows") else None,
        system_prompt=spec.system_prompt,
        output_display_name=spec.output_display_name,
    )


def _stored(given: task_spec_pb2.TaskSpec, ask: Generation) -> bytes:
    stored = task_spec_pb2.TaskSpec()
    stored.CopyFrom(given)
    stored.generation.model = ask.model
    stored.generation.dataset = ask.dataset
    return stored.SerializeToString(deterministic=True)
