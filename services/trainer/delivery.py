"""Brings the result of a finished run to storage; used by the keeper."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

from services.common.errors import ServiceError
from services.trainer.journal import Event
from services.trainer.kinds.kind import Uploads
from services.trainer.kinds.table import KINDS
from services.trainer.persistence import Note, loses_the_result, persist
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import Adapter, StoredAdapter, adapter_files


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """What storage has now, and what else is to be told of it."""

    stored: StoredAdapter
    news: Sequence[Event]


class Delivery:
    """Uploads, and keeps trying. `clock` is monotonic."""

    def __init__(self, adapters: Uploads, clock: Callable[[], float]) -> None:
        self._adapters = adapters
        self._clock = clock

    async def deliver(self, run: RunDirectory, note: Note) -> Delivered:
        """Until storage has it; raises STALE_EPOCH, and TRAINING_FAILED when there is nothing to deliver."""
        adapter = await asyncio.to_thread(adapter_of, run)
        size = sum(file.size_bytes for file in adapter.files)
        note(f"uploading {adapter.result.kind.lower()}, {len(adapter.files)} files, {size / 1e6:.1f} MB")
        kind = KINDS[run.request.kind]
        news = await persist(lambda: kind.news(run, self._adapters), is_final=_is_hopeless, note=note, clock=self._clock)
        stored = await persist(
            lambda: self._adapters.upload_adapter(adapter), is_final=loses_the_result, note=note, clock=self._clock
        )
        return Delivered(stored, news)

    async def leave(self, run: RunDirectory, note: Note) -> StoredAdapter:
        """Stores what a cancelled run has made until then; raises as `deliver`."""
        adapter = await asyncio.to_thread(adapter_of, run)
        return await persist(
            lambda: self._adapters.upload_adapter(adapter), is_final=loses_the_result, note=note, clock=self._clock
        )


def _is_hopeless(error: ServiceError) -> bool:
    """What the process has not left will not be there the next time either."""
    return error.reason == "TRAINING_FAILED" or loses_the_result(error)


def adapter_of(run: RunDirectory) -> Adapter:
    """What the run has made; raises TRAINING_FAILED when the training process left no result."""
    result, files = run.result(), adapter_files(run.output)
    if result is None or not files:
        raise ServiceError("TRAINING_FAILED", "the training process ended without an error and without a result")
    return Adapter(
        directory=run.output,
        files=files,
        task=f"tasks/{run.request.name.task_id}",
        provenance=run.provenance(),
        result=result,
        request=run.request,
        # The same for every try of this run, so that storage stores it once.
        request_id=str(run.request.name),
    )
