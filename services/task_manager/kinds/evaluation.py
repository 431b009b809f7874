"""Evaluation tasks: models and dataset are looked up, a task's result is replaced by its artifact."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

from services.common.errors import InvalidArgument, Violation
from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.common.grading.graders import asking
from services.common.names import resource_uuid
from services.task_manager.domain.asking import EVALUATION, MEASURABLE, MOST_WITH_CHECKPOINTS, Evaluation
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import DatasetFacts
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.kept_checkpoints import KeptCheckpoints
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.served_models import ServedModels
from tunesmith.v1 import evaluation_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

Found = tuple[str, ArtifactFacts | None]
"""The name that always stands for the same weights, and what they are made of."""


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationWork:
    """One ask."""

    served: ServedModels
    kept: KeptCheckpoints
    given: task_spec_pb2.TaskSpec
    ask: Evaluation

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
        ask, found = await self._with_models()
        bases = {artifact.base_model if artifact else name for name, artifact in found}
        return Resolved(
            kind=Kind.EVALUATION,
            spec=_stored(self.given, ask),
            datasets=(resource_uuid(ask.dataset, "datasets"),),
            base_model=bases.pop() if len(bases) == 1 else "",
            # The last one is what the evaluation is about, most often.
            origin=next((artifact for _, artifact in reversed(found) if artifact), None),
        )

    async def plan(self, *, patience: float) -> api.TaskPlan:
        """See Work."""
        facts = await self._rows()
        rows = min(facts.example_count, self.ask.max_rows or facts.example_count)
        ask, _ = await self._with_models()
        return api.TaskPlan(example_count=rows, total_steps=rows * ask.times_per_row(facts.format))

    async def _with_models(self) -> tuple[Evaluation, list[Found]]:
        """The ask with the models that will be asked, and what they are; that judges can be asked is made sure of."""
        for judge in asking(self.ask.graders):
            await self.served.find(judge.model, f"{EVALUATION}.graders")
        found = [await self.served.find(name, f"{EVALUATION}.models[{at}]") for at, name in enumerate(self.ask.models)]
        if self.ask.asks_checkpoints:
            found = await self._with_checkpoints(found)
        return dataclasses.replace(self.ask, models=tuple(name for name, _ in found)), found

    async def _with_checkpoints(self, found: Sequence[Found]) -> list[Found]:
        """Each result behind the kept checkpoints that led to it; one that is named already stays where it is."""
        named = {name for name, _ in found}
        more: list[Found] = []
        kept = 0
        for name, artifact in found:
            before = await self.kept.before(artifact) if artifact else []
            more += [(each.name, each) for each in before if each.name not in named]
            more.append((name, artifact))
            kept += len(before)
        if not kept:
            raise InvalidArgument(Violation(f"{EVALUATION}.checkpoints", "no model is a result with a kept checkpoint before it"))
        if len(more) > MOST_WITH_CHECKPOINTS:
            text = f"{len(more)} models with their checkpoints are more than {MOST_WITH_CHECKPOINTS}"
            raise InvalidArgument(Violation(f"{EVALUATION}.checkpoints", text))
        return more

    async def _rows(self) -> DatasetFacts:
        facts = await self.served.dataset(self.ask.dataset, MEASURABLE, f"{EVALUATION}.dataset")
        if facts.format == "TEXT" and (found := tuple(self.ask.text_violations())):
            raise InvalidArgument(*found)
        return facts


def evaluation(served: ServedModels, kept: KeptCheckpoints) -> WorkKind:
    """The kind."""
    return WorkKind(Kind.EVALUATION, lambda spec: EvaluationWork(served, kept, spec, _ask(spec.evaluation)))


def _ask(spec: evaluation_pb2.Evaluation) -> Evaluation:
    return Evaluation(
        models=tuple(spec.models),
        dataset=spec.dataset,
        graders=graders_from_proto(spec.graders),
        sampling=sampling_from_proto(spec.sampling),
        max_rows=spec.max_rows if spec.HasField("max_rows") else None,
        system_prompt=spec.system_prompt,
        measures_perplexity=spec.perplexity if spec.HasField("perplexity") else True,
        asks_checkpoints=spec.checkpoints,
        answers_in_rows=spec.answers_in_rows,
        data_source=spec.data_source,
    )


def _stored(given: task_spec_pb2.TaskSpec, ask: Evaluation) -> bytes:
    stored = task_spec_pb2.TaskSpec()
    stored.CopyFrom(given)
    stored.evaluation.models[:] = ask.models
    stored.evaluation.dataset = ask.dataset
    return stored.SerializeToString(deterministic=True)
