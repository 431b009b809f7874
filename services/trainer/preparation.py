"""Brings together what a run needs before its first process starts; used by the keeper."""

import asyncio
import dataclasses
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any, Protocol

from services.common.bundles import Bundle
from services.trainer.composition import Composer, Part, RowCounts
from services.trainer.persistence import Note, disk_trouble_named, is_not_transient, persist
from services.trainer.run_directory import DatasetUse, Provenance, RunDirectory
from services.trainer.storage_client import DatasetDigests


class Datasets(Protocol):
    """Where datasets come from."""

    async def fetch_dataset(self, name: str, target: pathlib.Path, on_download: Callable[[], None]) -> DatasetDigests:
        """As StorageClient's."""


class BaseModels(Protocol):
    """Where base models come from."""

    async def base_model(self, name: str) -> Bundle:
        """As BundleStore's."""

    async def artifact(self, name: str) -> Bundle:
        """As BundleStore's."""


class Preparation:
    """Datasets, base model and configuration. `clock` is monotonic."""

    def __init__(self, datasets: Datasets, base_models: BaseModels, clock: Callable[[], float]) -> None:
        self._datasets = datasets
        self._base_models = base_models
        self._clock = clock

    async def prepare(self, run: RunDirectory, note: Note) -> None:
        """Until the directory is prepared; waits for storage as long as it takes. Raises what cannot be helped by waiting."""
        if run.is_prepared():
            return
        with disk_trouble_named():
            provenance = await self._data(run, note)
            bundle = await self._base_model(run.request.base_model, note)
            provenance = dataclasses.replace(provenance, base_model=bundle.name, base_model_revision=bundle.base_model_revision)
            initial = await self._initial(run.request.initial_artifact, note)
            run.record_preparation(provenance, training_config(run, bundle, initial))
            # What was composed of them is there to stay.
            await asyncio.to_thread(shutil.rmtree, run.sources, ignore_errors=True)

    async def _data(self, run: RunDirectory, note: Note) -> Provenance:
        """Writes the training and validation data; says where they came from, but for the base model."""
        request = run.request
        uses = []
        for index, source in enumerate(request.sources):
            target = run.source_data(index) if request.is_composed else run.training_data
            uses.append(await self._dataset(source.dataset, target, source.weight, note))
        validation, held_out = None, 0
        if request.validation_dataset:
            validation = await self._dataset(request.validation_dataset, run.validation_data, 1.0, note)
        if request.is_composed:
            counts = await self._compose(run, note)
            uses = [dataclasses.replace(use, rows=rows) for use, rows in zip(uses, counts.training, strict=True)]
            held_out = counts.validation
        only = uses[0].sha256 if len(uses) == 1 else ""
        return Provenance("", "", only, tuple(uses), validation, request.validation_split_ratio, held_out)

    async def _compose(self, run: RunDirectory, note: Note) -> RowCounts:
        request = run.request
        parts = [Part(run.source_data(index), source.weight) for index, source in enumerate(request.sources)]
        unwanted = threading.Event()
        composer = Composer(parts, seed=request.seed, should_stop=unwanted.is_set)
        try:
            counts = await asyncio.to_thread(
                composer.compose, request.validation_split_ratio, run.training_data, run.validation_data
            )
        finally:
            # A thread does not notice that nobody waits for it any more.
            unwanted.set()
        held_out = f", {counts.validation:,} held out for validation" if counts.validation else ""
        note(f"composed {sum(counts.training):,} training rows of {len(parts)} dataset{'s' if len(parts) > 1 else ''}{held_out}")
        return counts

    async def _dataset(self, name: str, target: pathlib.Path, weight: float, note: Note) -> DatasetUse:
        digests = await persist(
            lambda: self._datasets.fetch_dataset(name, target, lambda: note(f"downloading dataset {name}")),
            is_final=is_not_transient,
            note=note,
            clock=self._clock,
        )
        return DatasetUse(name, digests.sha256, digests.rows_sha256, weight)

    async def _initial(self, name: str, note: Note) -> Bundle | None:
        if not name:
            return None
        note(f"fetching the weights to start from, {name}")
        return await persist(lambda: self._base_models.artifact(name), is_final=is_not_transient, note=note, clock=self._clock)

    async def _base_model(self, name: str, note: Note) -> Bundle:
        note(f"fetching base model {name}")
        return await persist(lambda: self._base_models.base_model(name), is_final=is_not_transient, note=note, clock=self._clock)


def training_config(run: RunDirectory, base_model: Bundle, initial: Bundle | None) -> dict[str, Any]:
    """What the training process reads as config.json."""
    request = run.request
    has_validation_data = bool(request.validation_dataset) or request.validation_split_ratio is not None
    return {
        "run": str(request.name),
        "base_model": base_model.name,
        "base_model_dir": str(base_model.directory.resolve()),
        "train_file": str(run.training_data),
        "validation_file": str(run.validation_data) if has_validation_data else None,
        "output_dir": str(run.output),
        "sample_prompts": list(request.sample_prompts) or None,
        "method": request.method,
        "tuning": request.tuning,
        "initial_weights": initial and {"directory": str(initial.directory.resolve()), "kind": initial.kind},
        "hyperparameters": dict(request.hyperparameters),
    }
