"""Export tasks: the artifact is looked up and held while the task lives; what has no such form is refused before it is queued."""

import dataclasses
from collections.abc import Iterator
from typing import Self

from services.common.errors import InvalidArgument, Violation
from services.task_manager.domain import export
from services.task_manager.domain.export import Export
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import BaseModelFacts
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.origins import Origins
from services.task_manager.storage_port import Storage
from tunesmith.v1 import export_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api


@dataclasses.dataclass(frozen=True, slots=True)
class Peers:
    """Who is asked."""

    storage: Storage
    origins: Origins


@dataclasses.dataclass(frozen=True, slots=True)
class ExportWork:
    """One ask."""

    peers: Peers
    given: task_spec_pb2.TaskSpec
    ask: Export

    def violations(self) -> Iterator[Violation]:
        """See Work."""
        return self.ask.violations()

    def with_full_names(self) -> Self:
        """See Work."""
        return self

    def spec(self) -> bytes:
        """See Work."""
        return self.given.SerializeToString(deterministic=True)

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        """See Work; there is nothing to wait for."""
        source, _ = await self._found()
        stored = task_spec_pb2.TaskSpec()
        stored.CopyFrom(self.given)
        stored.export.artifact = source.name
        return Resolved(
            kind=Kind.EXPORT,
            spec=stored.SerializeToString(deterministic=True),
            base_model=source.base_model,
            origin=source,
        )

    async def plan(self, *, patience: float) -> api.TaskPlan:
        """See Work."""
        _, base_model = await self._found()
        return api.TaskPlan(estimated_peak_memory_bytes=export.peak_memory_bytes(base_model))

    async def _found(self) -> tuple[ArtifactFacts, BaseModelFacts]:
        source = await self.peers.origins.find(self.ask.artifact, f"{export.FIELD}.artifact")
        base_model = await self.peers.storage.base_model(source.base_model)
        if unfit := list(export.unfit(self.ask, source, base_model)):
            raise InvalidArgument(*unfit)
        return source, base_model


def exports(storage: Storage, origins: Origins) -> WorkKind:
    """The kind."""
    peers = Peers(storage, origins)
    return WorkKind(Kind.EXPORT, lambda spec: ExportWork(peers, spec, export_from_proto(spec.export)))


def export_from_proto(asked: export_pb2.Export) -> Export:
    """The ask; nothing is checked yet."""
    formats, types = export_pb2.Export.Format, export_pb2.Export.GgufType
    return Export(
        artifact=asked.artifact,
        format=formats.Name(asked.format) if asked.format in formats.values() else "",
        gguf_type=types.Name(asked.gguf_type) if asked.gguf_type and asked.gguf_type in types.values() else "",
        gguf_type_known=asked.gguf_type in types.values(),
    )
