"""Fine-tuning tasks: data and base model are asked for, every unset hyperparameter is resolved."""

import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Self

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.task_manager.domain import four_bit
from services.task_manager.domain.asking import MEASURABLE
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.fine_tuning import FINE_TUNING, FineTuning
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts, with_adapter_of
from services.task_manager.inquiry import Inquiry
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.origins import Origins
from services.task_manager.planning import Planning
from services.task_manager.served_models import ServedModels
from services.task_manager.spec_conversion import (
    fine_tuning_from_proto,
    hyperparameters_to_proto,
    plan_to_proto,
    spec_to_store,
)
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2

_NOT_COUNTED = "its tokens were not counted in time, so training checks the lengths of its rows"


@dataclasses.dataclass(frozen=True, slots=True)
class Peers:
    """Who is asked."""

    inquiry: Inquiry
    planning: Planning
    origins: Origins
    served: ServedModels
    runners: Callable[[], Awaitable[Iterable[Mapping[str, str]]]]
    """Asks all trainers for their labels; of those that do not answer it gives what they last said."""


@dataclasses.dataclass(frozen=True, slots=True)
class FineTuningWork:
    """One ask."""

    peers: Peers
    given: task_spec_pb2.TaskSpec
    ask: FineTuning

    def violations(self) -> Iterator[Violation]:
        """See Work."""
        return self.ask.violations()

    def with_full_names(self) -> Self:
        """See Work."""
        return dataclasses.replace(self, ask=self.ask.with_full_names())

    def spec(self) -> bytes:
        """See Work."""
        return spec_to_store(self.given, self.ask)

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        """See Work."""
        ask, origin = await self._from(continued)
        await self._check_tuning()
        await self._check_evaluation()
        findings = await self.peers.inquiry.about(ask, patience=patience)
        return Resolved(
            kind=Kind.FINE_TUNING,
            spec=spec_to_store(self.given, ask),
            effective_hyperparameters=hyperparameters_to_proto(findings.effective),
            processes=findings.effective.num_processes or 1,
            datasets=_datasets(ask),
            base_model=ask.base_model,
            method=ask.method,
            tuning=ask.tuning,
            note=_note(findings),
            origin=origin,
            expected_duration=await self.peers.planning.expected_duration(findings),
            memory_bytes=await self.peers.planning.expected_memory(findings),
        )

    async def _from(self, continued: Hyperparameters | None) -> tuple[FineTuning, ArtifactFacts | None]:
        if continued is None:
            return await self.peers.origins.of(self.ask)
        return (with_adapter_of(self.ask, continued.lora) if self.ask.initial_artifact else self.ask), None

    async def plan(self, *, patience: float) -> api.TaskPlan:
        """See Work."""
        ask, _ = await self.peers.origins.of(self.ask)
        await self._check_tuning()
        await self._check_evaluation()
        return plan_to_proto(await self.peers.planning.plan(ask, self.given.runner_labels, patience=patience))

    async def _check_tuning(self) -> None:
        if self.ask.tuning == four_bit.TUNING:
            found = tuple(four_bit.violations(await self.peers.runners(), f"{FINE_TUNING}.tuning"))
            if found:
                raise InvalidArgument(*found)

    async def _check_evaluation(self) -> None:
        if self.ask.evaluation_dataset:
            field = f"{FINE_TUNING}.evaluation_dataset"
            await self.peers.served.dataset(self.ask.evaluation_dataset, MEASURABLE, field)


def fine_tuning(peers: Peers) -> WorkKind:
    """The kind."""
    return WorkKind(Kind.FINE_TUNING, lambda spec: FineTuningWork(peers, spec, fine_tuning_from_proto(spec.fine_tuning)))


def _datasets(ask: FineTuning) -> tuple[uuid.UUID, ...]:
    names = {source.dataset for source in ask.sources} | {ask.validation_dataset, ask.evaluation_dataset} - {""}
    return tuple(resource_uuid(name, "datasets") for name in sorted(names))


def _note(findings: Findings) -> str:
    is_counted = findings.tokens.known and (findings.inputs.validation is None or findings.tokens.validation is not None)
    return "" if is_counted else _NOT_COUNTED
