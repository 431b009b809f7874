"""Brings datasets, base models and artifacts from storage, and waits for it as long as it takes; used by every kind of run."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol

from services.common.bundles import Bundle
from services.trainer.persistence import Note, is_not_transient, persist
from services.trainer.run_directory import DatasetUse
from services.trainer.storage_client import DatasetDigests


class Datasets(Protocol):
    """Where datasets come from."""

    async def trained_on(self, model: str) -> Sequence[tuple[str, int]]:
        """As StorageClient's."""

    async def fetch_dataset(self, name: str, target: pathlib.Path, on_download: Callable[[], None]) -> DatasetDigests:
        """As StorageClient's."""


class BaseModels(Protocol):
    """Where base models, artifacts and versions of registered models come from."""

    async def base_model(self, name: str) -> Bundle:
        """As BundleStore's."""

    async def artifact(self, name: str) -> Bundle:
        """As BundleStore's."""

    async def model_version(self, name: str) -> Bundle:
        """As BundleStore's."""


class Fetching:
    """Every method raises what cannot be helped by waiting. `clock` is monotonic."""

    def __init__(self, datasets: Datasets, base_models: BaseModels, clock: Callable[[], float]) -> None:
        self._datasets = datasets
        self._base_models = base_models
        self._clock = clock

    async def dataset(self, name: str, target: pathlib.Path, weight: float, note: Note) -> DatasetUse:
        """Its rows at `target`."""
        digests = await persist(
            lambda: self._datasets.fetch_dataset(name, target, lambda: note(f"downloading dataset {name}")),
            is_final=is_not_transient,
            note=note,
            clock=self._clock,
        )
        return DatasetUse(name, digests.sha256, digests.rows_sha256, weight)

    async def trained_on(self, model: str, note: Note) -> Sequence[tuple[str, int]]:
        """Names and sizes in bytes of the datasets that a model was trained on and that are still there."""
        return await persist(lambda: self._datasets.trained_on(model), is_final=is_not_transient, note=note, clock=self._clock)

    async def base_model(self, name: str, note: Note) -> Bundle:
        """Its files."""
        note(f"fetching base model {name}")
        return await persist(lambda: self._base_models.base_model(name), is_final=is_not_transient, note=note, clock=self._clock)

    async def artifact(self, name: str, note: Note) -> Bundle:
        """Its files, held for as long as a download may take."""
        note(f"fetching {name}")
        return await persist(lambda: self._base_models.artifact(name), is_final=is_not_transient, note=note, clock=self._clock)

    async def weights(self, name: str, note: Note) -> Bundle:
        """The files of `artifacts/{uuid}`, held as by `artifact`, or of `models/{id}/versions/{version}`, which do not expire."""
        if not name.startswith("models/"):
            return await self.artifact(name, note)
        note(f"fetching {name}")
        stored = self._base_models
        return await persist(lambda: stored.model_version(name), is_final=is_not_transient, note=note, clock=self._clock)
