"""Translates artifacts of storage to the domain's values; used by the adapter of storage."""

import datetime

from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.spec_conversion import hyperparameters_from_proto
from tunesmith.v1 import artifact_pb2, task_spec_pb2

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
