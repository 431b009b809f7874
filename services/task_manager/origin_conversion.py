"""Translates artifacts of storage to the domain's values; used by the adapter of storage."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any

from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.imported_adapter import lora_of, obstacle
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.spec_conversion import hyperparameters_from_proto
from tunesmith.v1 import artifact_pb2, registered_model_pb2, task_spec_pb2

_METHODS = task_spec_pb2.FineTuning.Method
_TUNINGS = task_spec_pb2.FineTuning.Tuning


def artifact_facts(artifact: artifact_pb2.Artifact) -> ArtifactFacts:
    """What starting from it has to know."""
    manifest = artifact.manifest
    return ArtifactFacts(
        name=artifact.name,
        kind=artifact_pb2.Artifact.Kind.Name(artifact.kind),
        task=manifest.task,
        step=manifest.step,
        attempt=manifest.attempt,
        base_model=manifest.base_model,
        base_model_revision=manifest.base_model_revision,
        method=_METHODS.Name(manifest.method) if manifest.method else "",
        tuning=_TUNINGS.Name(manifest.tuning) if manifest.tuning else "",
        hyperparameters=hyperparameters_from_proto(manifest.effective_hyperparameters),
        labels=tuple(manifest.labels),
        eval_loss=manifest.eval_loss if manifest.HasField("eval_loss") else None,
        metrics=tuple(manifest.metrics.items()),
        size_bytes=artifact.size_bytes,
        create_time=artifact.create_time.ToDatetime(datetime.UTC),
        expire_time=artifact.expire_time.ToDatetime(datetime.UTC),
    )


def version_facts(version: registered_model_pb2.ModelVersion) -> ArtifactFacts:
    """What starting from a version of a registered model has to know; its format is its kind."""
    artifact = artifact_pb2.Artifact(
        name=version.name, manifest=version.manifest, size_bytes=version.size_bytes, create_time=version.create_time
    )
    kind = registered_model_pb2.ModelVersion.Format.Name(version.format)
    return dataclasses.replace(artifact_facts(artifact), kind=kind, expire_time=None)


def imported_adapter_facts(version: registered_model_pb2.ModelVersion, config: bytes) -> ArtifactFacts:
    """The same of an adapter that no task has made: its numbers are those of its adapter_config.json."""
    told = _object(config)
    lora = lora_of(told)
    return dataclasses.replace(version_facts(version), hyperparameters=Hyperparameters(lora=lora), obstacle=obstacle(told, lora))


def _object(text: bytes) -> Mapping[str, Any]:
    """Empty when it is none; then there is no rank either, which is an obstacle."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
