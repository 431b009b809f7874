"""Brings together what a run needs before its first process starts; used by the keeper."""

from collections.abc import Callable

from services.trainer.fetching import BaseModels, Datasets, Fetching
from services.trainer.kinds.table import KINDS
from services.trainer.persistence import Note, disk_trouble_named
from services.trainer.run_directory import RunDirectory


class Preparation:
    """Files and configuration, as the kind of the run needs them. `clock` is monotonic."""

    def __init__(self, datasets: Datasets, base_models: BaseModels, clock: Callable[[], float]) -> None:
        self._fetching = Fetching(datasets, base_models, clock)

    async def prepare(self, run: RunDirectory, note: Note) -> None:
        """Until the directory is prepared; waits for storage as long as it takes. Raises what cannot be helped by waiting."""
        if run.is_prepared():
            return
        with disk_trouble_named():
            prepared = await KINDS[run.request.kind].prepare(run, self._fetching, note)
            run.record_preparation(prepared.provenance, prepared.config)
