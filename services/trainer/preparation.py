"""Brings together what a run needs before its first process starts; used by the keeper."""

import pathlib
from collections.abc import Callable
from typing import Any, Protocol

from services.common.bundles import Bundle
from services.trainer.persistence import Note, disk_trouble_named, is_not_transient, persist
from services.trainer.run_directory import Provenance, RunDirectory


class Datasets(Protocol):
    """Where datasets come from."""

    async def fetch_dataset(self, name: str, target: pathlib.Path, on_download: Callable[[], None]) -> str:
        """As StorageClient's."""


class BaseModels(Protocol):
    """Where base models come from."""

    async def base_model(self, name: str) -> Bundle:
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
            request = run.request
            sha256 = await self._dataset(request.dataset, run.training_data, note)
            if request.validation_dataset:
                await self._dataset(request.validation_dataset, run.validation_data, note)
            bundle = await self._base_model(request.base_model, note)
            provenance = Provenance(bundle.name, bundle.base_model_revision, sha256)
            run.record_preparation(provenance, training_config(run, bundle))

    async def _dataset(self, name: str, target: pathlib.Path, note: Note) -> str:
        return await persist(
            lambda: self._datasets.fetch_dataset(name, target, lambda: note(f"downloading dataset {name}")),
            is_final=is_not_transient,
            note=note,
            clock=self._clock,
        )

    async def _base_model(self, name: str, note: Note) -> Bundle:
        note(f"fetching base model {name}")
        return await persist(lambda: self._base_models.base_model(name), is_final=is_not_transient, note=note, clock=self._clock)


def training_config(run: RunDirectory, base_model: Bundle) -> dict[str, Any]:
    """What the training process reads as config.json."""
    request = run.request
    return {
        "run": str(request.name),
        "base_model": base_model.name,
        "base_model_dir": str(base_model.directory.resolve()),
        "train_file": str(run.training_data),
        "validation_file": str(run.validation_data) if request.validation_dataset else None,
        "output_dir": str(run.output),
        "method": request.method,
        "tuning": request.tuning,
        "hyperparameters": dict(request.hyperparameters),
    }
