"""Starting from what an earlier task has learned: what that was, and what does not fit; pure rules for a new task."""

import dataclasses
import datetime
from collections.abc import Iterator

from services.common.errors import Violation
from services.task_manager.domain.fine_tuning import FINE_TUNING, FineTuning
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, Lora
from services.task_manager.domain.methods import ADAPTER_TUNINGS

FIELD = f"{FINE_TUNING}.initial_artifact"

# Dropout changes nothing about what the weights mean.
_ADAPTER_FIELDS = ("rank", "alpha", "target_modules", "use_rslora", "use_dora", "last_layers")
_CUTS_WEIGHTS = 3
_STARTS = ("ADAPTER", "MODEL", "CHECKPOINT")
_ADD = "tunesmith model add"


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """An artifact, or a version of a registered model, as storage describes it."""

    name: str
    kind: str
    """Name of a value of Artifact.Kind."""
    task: str
    """Empty = it was made elsewhere, and imported."""
    step: int
    attempt: int
    base_model: str
    base_model_revision: str
    method: str
    """Empty = not told, as of artifacts from before it was."""
    tuning: str
    hyperparameters: Hyperparameters
    labels: tuple[str, ...] = ()
    eval_loss: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    size_bytes: int = 0
    create_time: datetime.datetime | None = None
    expire_time: datetime.datetime | None = None
    obstacle: str = ""
    """Why no training can continue it; empty = nothing is known against it."""

    @property
    def is_cut(self) -> bool:
        """A checkpoint of which each process holds a part of the weights: nothing but its own task can read it."""
        return self.kind == "CHECKPOINT" and self.hyperparameters.zero_stage == _CUTS_WEIGHTS

    @property
    def names_no_base_model(self) -> bool:
        """A whole model from elsewhere."""
        return self.kind == "MODEL" and not self.base_model


def violations(ask: FineTuning, origin: ArtifactFacts, base_model_revision: str) -> Iterator[Violation]:
    """Everything that keeps the task from starting with these weights; `base_model_revision` is today's, empty = not known."""
    if origin.names_no_base_model:
        yield Violation(FIELD, f"{origin.name} is a whole model of another layout than {ask.base_model}; register it: {_ADD}")
    elif origin.base_model != ask.base_model:
        yield Violation(FIELD, f"{origin.name} was made from {origin.base_model}; this task names {ask.base_model}")
    elif base_model_revision and origin.base_model_revision not in ("", base_model_revision):
        yield Violation(FIELD, f"{origin.name} was made from other weights that were registered as {origin.base_model} then")
    if origin.kind not in _STARTS:
        yield Violation(FIELD, f"{origin.name} is of kind {origin.kind}; a task starts from {', '.join(_STARTS)}")
        return
    tuning = _tuning(origin)
    if (tuning in ADAPTER_TUNINGS) != (ask.tuning in ADAPTER_TUNINGS):
        yield Violation(FIELD, f"{origin.name} is of tuning {tuning or 'unknown'}; this task has tuning {ask.tuning}")
    if origin.method and "CLASSIFICATION" in {origin.method, ask.method} and origin.method != ask.method:
        yield Violation(FIELD, f"{origin.name} is of method {origin.method}; its head does not fit method {ask.method}")
    if not origin.task and ask.method == "CLASSIFICATION":
        yield Violation(FIELD, f"{origin.name} was made elsewhere and has no head for method CLASSIFICATION")
    if origin.obstacle:
        yield Violation(FIELD, f"{origin.name} cannot be trained on: {origin.obstacle}")
    if origin.is_cut:
        yield Violation(FIELD, f"{origin.name} holds weights in the parts of ZeRO 3; use the task's result")
    if tuning in ADAPTER_TUNINGS and ask.tuning in ADAPTER_TUNINGS:
        yield from _adapter(ask.hyperparameters.lora, origin)


def with_adapter_of(ask: FineTuning, earlier: Lora) -> FineTuning:
    """The ask, its unset numbers of the adapter as those of what it starts from or continues."""
    if ask.tuning not in ADAPTER_TUNINGS:
        return ask
    lora = ask.hyperparameters.lora
    unset = [name for name in _ADAPTER_FIELDS if getattr(lora, name) in (None, ())]
    lora = dataclasses.replace(lora, **{name: getattr(earlier, name) for name in unset})
    return dataclasses.replace(ask, hyperparameters=dataclasses.replace(ask.hyperparameters, lora=lora))


def _tuning(origin: ArtifactFacts) -> str:
    return origin.tuning or {"ADAPTER": "LORA", "MODEL": "FULL"}.get(origin.kind, "")


def _adapter(asked: Lora, origin: ArtifactFacts) -> Iterator[Violation]:
    known = _told_layers(origin.hyperparameters.lora)
    for name in _ADAPTER_FIELDS:
        wanted, earlier = getattr(asked, name), getattr(known, name)
        if wanted not in (None, ()) and earlier not in (None, ()) and wanted != earlier:
            yield Violation(
                f"{PATH}.lora.{name}", f"{_text(wanted)} differs from {_text(earlier)} of {origin.name}; leave it unset"
            )


def _told_layers(lora: Lora) -> Lora:
    """An adapter from before there was such a number is in all layers."""
    return dataclasses.replace(lora, last_layers=0) if lora.rank and lora.last_layers is None else lora


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
