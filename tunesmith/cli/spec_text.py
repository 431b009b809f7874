"""What a task was asked for, as lines for people, by its kind; used by `task show`."""

from collections.abc import Callable, Mapping

from tunesmith.v1.evaluation_pb2 import Evaluation
from tunesmith.v1.export_pb2 import Export
from tunesmith.v1.generation_pb2 import Generation
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

Fields = list[tuple[str, str]]


def spec_fields(spec: TaskSpec) -> Fields:
    """Names and values; nothing of a kind that this client does not know."""
    kind = spec.WhichOneof("kind") or ""
    return _FIELDS[kind](getattr(spec, kind)) if kind in _FIELDS else []


def _fine_tuning(tuning: FineTuning) -> Fields:
    return [
        ("base model", tuning.base_model),
        ("dataset", tuning.dataset),
        ("validation", tuning.validation_dataset),
        ("evaluated on", tuning.evaluation_dataset + (", checkpoints too" if tuning.evaluation_checkpoints else "")),
        ("method", f"{FineTuning.Method.Name(tuning.method)}, {FineTuning.Tuning.Name(tuning.tuning)}".lower()),
    ]


def _evaluation(evaluation: Evaluation) -> Fields:
    models = "\n".join(evaluation.models) or "none: the answers are in the rows"
    return [("models", models), ("dataset", evaluation.dataset)]


def _generation(generation: Generation) -> Fields:
    return [("model", generation.model), ("dataset", generation.dataset)]


def _export(export: Export) -> Fields:
    return [("exports", export.artifact), ("format", Export.Format.Name(export.format).lower())]


_FIELDS: Mapping[str, Callable[..., Fields]] = {
    "fine_tuning": _fine_tuning,
    "evaluation": _evaluation,
    "generation": _generation,
    "export": _export,
}
