"""From a stream of chunks to a stored dataset, or to a report; used by the dataset servicer."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable

import structlog

from services.common.errors import ServiceError
from services.storage.blocking import in_thread
from services.storage.checking.client import CheckerProcess, Outcome
from services.storage.checking.refusal import refusal
from services.storage.dataset import Dataset, DatasetDraft, DatasetStatistics
from services.storage.dataset_repository import DatasetRepository
from services.storage.object_store import ObjectStore
from services.storage.pending_objects import pending_objects
from services.storage.spool import Spool
from tunesmith.v1 import dataset_pb2

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetHeader:
    """What a caller says before the bytes come."""

    display_name: str
    sha256: str
    """Of the whole file; empty = the caller does not say."""
    request_id: uuid.UUID | None


class DatasetUpload:
    """Checks and stores datasets."""

    def __init__(self, repository: DatasetRepository, store: ObjectStore, new_id: Callable[[], uuid.UUID]) -> None:
        self._repository = repository
        self._store = store
        self._new_id = new_id

    async def receive(self, header: DatasetHeader, chunks: AsyncIterator[bytes]) -> Dataset:
        """Stores a file whose every row is good.

        Raises ServiceError: DATASET_INVALID and its kin, CHECKSUM_MISMATCH, REQUEST_ID_REUSED, DISK_FULL, Unavailable.
        """
        with Spool() as spool:
            outcome = await _checked(chunks, spool)
            if header.sha256 and header.sha256 != spool.sha256:
                message = f"the file arrived with SHA-256 {spool.sha256}, the header says {header.sha256}"
                raise ServiceError("CHECKSUM_MISMATCH", message)
            if not outcome.accepted:
                raise refusal(outcome.report)
            return await self._stored(header, spool, outcome.report.statistics)

    async def _stored(self, header: DatasetHeader, spool: Spool, statistics: dataset_pb2.DatasetStatistics) -> Dataset:
        identifier = self._new_id()
        draft = DatasetDraft(
            id=identifier,
            display_name=header.display_name,
            size_bytes=spool.size_bytes,
            sha256=spool.sha256,
            object_key=f"datasets/{identifier}",
            statistics=_counted(statistics),
            request_id=header.request_id,
        )
        async with pending_objects(self._store) as pending:
            await pending.put(draft.object_key, spool.content(), draft.size_bytes)
            dataset = await pending.commit(self._repository.add(draft))
            pending.keep([dataset.object_key])
        log.info("dataset.stored", dataset=dataset.name, size_bytes=dataset.size_bytes, repeated=dataset.id != identifier)
        return dataset


async def check(chunks: AsyncIterator[bytes]) -> dataset_pb2.DatasetReport:
    """The report on a file; nothing is kept."""
    return (await _checked(chunks, None)).report


async def _checked(chunks: AsyncIterator[bytes], spool: Spool | None) -> Outcome:
    async with CheckerProcess.start() as checker:
        async for chunk in chunks:
            if spool is not None:
                await in_thread(spool.write, chunk)
            await checker.feed(chunk)
        return await checker.finish()


def _counted(statistics: dataset_pb2.DatasetStatistics) -> DatasetStatistics:
    return DatasetStatistics(
        example_count=statistics.example_count,
        message_count=statistics.message_count,
        messages_by_role=dict(statistics.messages_by_role),
        assistant_character_count=statistics.assistant_character_count,
        without_system_count=statistics.without_system_count,
        duplicate_count=statistics.duplicate_count,
    )
