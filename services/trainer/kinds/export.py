"""Exports: the artifact and its base model are fetched, one process merges, compares and writes; the result names its parent."""

import dataclasses
from typing import Any, cast

from google.protobuf import json_format

from services.common.bundles import Bundle
from services.common.errors import InvalidArgument, ServiceError, Violation
from services.common.names import resource_uuid
from services.trainer.fetching import Fetching
from services.trainer.hyperparameters import numbers
from services.trainer.kinds.kind import Prepared, RunKind
from services.trainer.persistence import Note
from services.trainer.run_directory import Provenance, RunDirectory
from services.trainer.storage_client import Adapter
from tunesmith.v1 import artifact_pb2, export_pb2, task_spec_pb2, trainer_service_pb2

_FIELD = "run.spec.export"
_OWN = ("files", "task", "step", "attempt", "versions", "rendered_rows_sha256", "labels", "eval_loss")
"""What a manifest says of its artifact alone; all else is true of what was made from it, too."""
_LORA = ("rank", "alpha", "dropout", "target_modules", "use_rslora", "use_dora", "last_layers")


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One ask."""

    artifact: str
    format: str
    """Name of a value of Export.Format."""
    gguf_type: str
    """Name of a value of Export.GgufType."""
    num_processes: int = 1


def check(run: trainer_service_pb2.Run) -> None:
    """See RunKind."""
    asked = run.spec.export
    resource_uuid(asked.artifact, "artifacts", f"{_FIELD}.artifact")
    if asked.format not in (export_pb2.Export.MERGED, export_pb2.Export.GGUF):
        raise InvalidArgument(Violation(f"{_FIELD}.format", f"{asked.format} is not a format this trainer writes"))
    if asked.gguf_type not in export_pb2.Export.GgufType.values():
        raise InvalidArgument(Violation(f"{_FIELD}.gguf_type", f"{asked.gguf_type} is not a type this trainer writes"))


def read(run: trainer_service_pb2.Run) -> Export:
    """See RunKind."""
    asked = run.spec.export
    kind = asked.gguf_type or export_pb2.Export.F16
    return Export(asked.artifact, export_pb2.Export.Format.Name(asked.format), export_pb2.Export.GgufType.Name(kind))


async def prepare(run: RunDirectory, fetching: Fetching, note: Note) -> Prepared:
    """See RunKind."""
    ask = cast(Export, run.request.ask)
    source = await fetching.artifact(ask.artifact, note)
    manifest = artifact_pb2.ArtifactManifest.FromString(source.manifest)
    base = await fetching.base_model(manifest.base_model, note)
    if source.base_model_revision not in ("", base.base_model_revision):
        message = f"{source.name} was tuned on revision {source.base_model_revision} of {base.name}, storage has another one"
        raise ServiceError("BASE_MODEL_UNUSABLE", message)
    told = json_format.MessageToJson(manifest, preserving_proto_field_name=True, indent=None)
    provenance = Provenance(base.name, base.base_model_revision, "", parent=source.name, parent_manifest=told)
    return Prepared(provenance, export_config(run, ask, source, base, manifest))


def export_config(
    run: RunDirectory, ask: Export, source: Bundle, base: Bundle, manifest: artifact_pb2.ArtifactManifest
) -> dict[str, Any]:
    """What the process reads as config.json."""
    return {
        "run": str(run.request.name),
        "base_model": base.name,
        "base_model_dir": str(base.directory.resolve()),
        "source_dir": str(source.directory.resolve()),
        "source_kind": source.kind,
        "step": manifest.step,
        "lora": _lora(manifest) if source.kind == "CHECKPOINT" else None,
        "format": ask.format,
        "gguf_type": ask.gguf_type,
        "output_dir": str(run.output),
    }


def describe(adapter: Adapter) -> artifact_pb2.ArtifactManifest:
    """See RunKind: what is true of the parent, and which one that is."""
    manifest = json_format.Parse(adapter.provenance.parent_manifest, artifact_pb2.ArtifactManifest(), ignore_unknown_fields=True)
    for name in _OWN:
        manifest.ClearField(name)  # type: ignore[arg-type]
    manifest.parent = adapter.provenance.parent
    return manifest


EXPORT = RunKind("export", "services.trainer.training.exporting", check, read, prepare, describe)


def _lora(manifest: artifact_pb2.ArtifactManifest) -> dict[str, Any] | None:
    if manifest.tuning == task_spec_pb2.FineTuning.FULL:
        return None
    told = numbers(manifest.effective_hyperparameters)["lora"] or {}
    return {name: told.get(name) for name in _LORA}
