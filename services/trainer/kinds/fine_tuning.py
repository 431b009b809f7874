"""Fine-tuning runs: datasets, base model and initial weights are fetched, mixtures and splits composed."""

import asyncio
import dataclasses
import shutil
import threading
from typing import Any, cast

from google.protobuf import duration_pb2, json_format

from services.common.bundles import Bundle
from services.trainer import hyperparameters
from services.trainer.composition import Composer, Part, RowCounts
from services.trainer.fetching import Fetching
from services.trainer.journal import Event
from services.trainer.kinds import fine_tuning_ask
from services.trainer.kinds.fine_tuning_ask import FineTuning
from services.trainer.kinds.held_out import held_out_rows
from services.trainer.kinds.kind import Prepared, RunKind, Uploads
from services.trainer.kinds.measured_rows import rows_artifact
from services.trainer.persistence import Note
from services.trainer.run_directory import DatasetUse, Provenance, RunDirectory
from services.trainer.storage_client import Adapter
from tunesmith.v1 import artifact_pb2, task_spec_pb2, trainer_service_pb2


async def prepare(run: RunDirectory, fetching: Fetching, note: Note) -> Prepared:
    """See RunKind."""
    ask = _ask(run)
    provenance = await _data(run, fetching, note)
    bundle = await fetching.base_model(ask.base_model, note)
    provenance = dataclasses.replace(provenance, base_model=bundle.name, base_model_revision=bundle.base_model_revision)
    initial = await fetching.weights(ask.initial_artifact, note) if ask.initial_artifact else None
    # What was composed of them is there to stay.
    await asyncio.to_thread(shutil.rmtree, run.sources, ignore_errors=True)
    return Prepared(provenance, training_config(run, bundle, initial))


def manifest(adapter: Adapter) -> artifact_pb2.ArtifactManifest:
    """See RunKind."""
    ask, provenance = cast(FineTuning, adapter.request.ask), adapter.provenance
    return artifact_pb2.ArtifactManifest(
        base_model=provenance.base_model,
        base_model_revision=provenance.base_model_revision,
        dataset_sha256=provenance.dataset_sha256,
        effective_hyperparameters=hyperparameters.of_document(adapter.request.document),
        datasets=[_use(use) for use in provenance.datasets],
        validation_dataset=_use(provenance.validation) if provenance.validation else None,
        validation_split_ratio=provenance.validation_split_ratio,
        retention=artifact_retention(adapter.request.document),
        method=task_spec_pb2.FineTuning.Method.Value(ask.method.upper()),
        tuning=task_spec_pb2.FineTuning.Tuning.Value(ask.tuning.upper()),
    )


def artifact_retention(document: str) -> duration_pb2.Duration | None:
    """How long a run's document wants artifacts kept, None = as storage keeps them."""
    run = json_format.Parse(document, trainer_service_pb2.Run(), ignore_unknown_fields=True)
    return run.spec.fine_tuning.artifact_retention if run.spec.fine_tuning.HasField("artifact_retention") else None


async def news(run: RunDirectory, uploads: Uploads) -> list[Event]:
    """See RunKind. Of a head of labels the process itself says how good it is, since nobody can ask it."""
    ask, found = _ask(run), run.result_field("evaluation")
    if ask.lends_held_out_rows:
        return await held_out_rows(run, uploads)
    if found is None or ask.skips_evaluation:
        return []
    return [Event("evaluation_finished", {"result": found | {"rows_artifact": await rows_artifact(run, uploads)}})]


FINE_TUNING = RunKind("fine_tuning", "", fine_tuning_ask.check, fine_tuning_ask.read, prepare, manifest, news=news)


async def _data(run: RunDirectory, fetching: Fetching, note: Note) -> Provenance:
    """Writes the training and validation data; says where they came from, but for the base model."""
    ask = _ask(run)
    uses = []
    for index, source in enumerate(ask.sources):
        target = run.source_data(index) if ask.is_composed else run.training_data
        uses.append(await fetching.dataset(source.dataset, target, source.weight, note))
    validation, held_out = None, 0
    if ask.validation_dataset:
        validation = await fetching.dataset(ask.validation_dataset, run.validation_data, 1.0, note)
    if ask.is_composed:
        counts = await _compose(run, note)
        uses = [dataclasses.replace(use, rows=rows) for use, rows in zip(uses, counts.training, strict=True)]
        held_out = counts.validation
    only = uses[0].sha256 if len(uses) == 1 else ""
    return Provenance("", "", only, tuple(uses), validation, ask.validation_split_ratio, held_out)


async def _compose(run: RunDirectory, note: Note) -> RowCounts:
    ask = _ask(run)
    parts = [Part(run.source_data(index), source.weight) for index, source in enumerate(ask.sources)]
    unwanted = threading.Event()
    composer = Composer(parts, seed=ask.seed, should_stop=unwanted.is_set)
    try:
        counts = await asyncio.to_thread(composer.compose, ask.validation_split_ratio, run.training_data, run.validation_data)
    finally:
        # A thread does not notice that nobody waits for it any more.
        unwanted.set()
    held_out = f", {counts.validation:,} held out for validation" if counts.validation else ""
    note(f"composed {sum(counts.training):,} training rows of {len(parts)} dataset{'s' if len(parts) > 1 else ''}{held_out}")
    return counts


def training_config(run: RunDirectory, base_model: Bundle, initial: Bundle | None) -> dict[str, Any]:
    """What the training process reads as config.json."""
    ask = _ask(run)
    has_validation_data = bool(ask.validation_dataset) or ask.validation_split_ratio is not None
    return {
        "run": str(run.request.name),
        "base_model": base_model.name,
        "base_model_dir": str(base_model.directory.resolve()),
        "train_file": str(run.training_data),
        "validation_file": str(run.validation_data) if has_validation_data else None,
        "output_dir": str(run.output),
        "sample_prompts": list(ask.sample_prompts) or None,
        "method": ask.method,
        "tuning": ask.tuning,
        "initial_weights": initial and {"directory": str(initial.directory.resolve()), "kind": initial.kind},
        "hyperparameters": dict(ask.hyperparameters),
    }


def _ask(run: RunDirectory) -> FineTuning:
    return cast(FineTuning, run.request.ask)


def _use(use: DatasetUse) -> artifact_pb2.DatasetUse:
    return artifact_pb2.DatasetUse(dataset=use.dataset, sha256=use.sha256, rows_sha256=use.rows_sha256, weight=use.weight)
