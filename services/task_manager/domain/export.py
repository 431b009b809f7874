"""The ask for another form of a task's result, and what has no such form; pure rules."""

import dataclasses
from collections.abc import Iterator
from typing import Self

from services.common.errors import Violation
from services.task_manager.domain.inputs import BaseModelFacts
from services.task_manager.domain.origin import ArtifactFacts

FIELD = "task.spec.export"

_SOURCES = ("ADAPTER", "MODEL", "CHECKPOINT", "MERGED")
_WHOLE = ("MODEL", "MERGED")
_BYTES_PER_PARAMETER = 4
_PROCESS_BYTES = 600_000_000
"""What the libraries of the process take by themselves."""


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One ask; formats and types are names of enum values, empty = not known here or not set."""

    artifact: str
    format: str
    gguf_type: str
    gguf_type_known: bool = True

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong with it; what the name stands for is looked up later."""
        if not self.artifact:
            yield Violation(f"{FIELD}.artifact", "is required; name an artifact, a task or a task's checkpoint")
        if self.format not in ("MERGED", "GGUF"):
            yield Violation(f"{FIELD}.format", "is required; set MERGED or GGUF")
        if not self.gguf_type_known:
            yield Violation(f"{FIELD}.gguf_type", "is not a type this server knows; use F16, F32 or Q8_0")
        elif self.gguf_type and self.format == "MERGED":
            yield Violation(f"{FIELD}.gguf_type", "belongs to format GGUF; merged weights stay in the format of the base model's")

    def with_full_names(self) -> Self:
        """Itself: its one name is resolved by asking."""
        return self


def unfit(ask: Export, source: ArtifactFacts, base_model: BaseModelFacts) -> Iterator[Violation]:
    """Everything that keeps this artifact from having this form."""
    field = f"{FIELD}.artifact"
    if source.kind not in _SOURCES:
        yield Violation(field, f"{source.name} is of kind {source.kind}; weights are exported, as ADAPTER, MODEL or CHECKPOINT")
        return
    if source.kind in _WHOLE and ask.format == "MERGED":
        yield Violation(
            field,
            f"{source.name} is a whole model already; keep it: tunesmith artifact export {source.name} MODEL",
        )
    if source.method == "CLASSIFICATION":
        yield Violation(field, f"{source.name} tells labels apart by a head of its own, which these formats have no place for")
    if source.is_cut:
        yield Violation(field, f"{source.name} holds weights in the parts of ZeRO 3; export the task's result")
    if base_model.revision and source.base_model_revision not in ("", base_model.revision):
        yield Violation(field, f"{source.name} was made from other weights that were registered as {source.base_model} then")
    if ask.format == "GGUF" and base_model.family not in ("", "llama"):
        yield Violation(f"{FIELD}.format", f"GGUF is written for the family llama; {source.base_model} is of {base_model.family}")


def peak_memory_bytes(base_model: BaseModelFacts) -> int:
    """What the process needs at most: the weights in 32 bits, once; 0 = not known."""
    return base_model.parameter_count * _BYTES_PER_PARAMETER + _PROCESS_BYTES if base_model.parameter_count else 0
