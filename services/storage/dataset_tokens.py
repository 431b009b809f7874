"""What base models make of datasets: previews of rows, token statistics, and rows that two datasets share.

Used by the dataset servicer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.storage.base_model import BaseModel
from services.storage.base_model_files import BaseModelFiles
from services.storage.dataset import Dataset, Json
from services.storage.dataset_repository import DatasetRepository
from services.storage.object_store import ObjectStore
from services.storage.renderer_version import renderer_version
from services.storage.row_reader import read_rows
from services.storage.shared_work import SharedWork
from services.storage.token_port import Tokens
from services.storage.token_statistics_repository import StatisticsKey, TokenStatisticsRepository

_DEFAULT_LENGTH = 2048
_PREVIEWS = 4


class DatasetTokens:
    """At most `analyses` counts and comparisons run at once.

    Equal counts are made once, and go on when nobody waits for them: whoever asks later finds the answer.
    """

    def __init__(
        self,
        *,
        datasets: DatasetRepository,
        statistics: TokenStatisticsRepository,
        store: ObjectStore,
        files: BaseModelFiles,
        tokens: Tokens,
        analyses: int,
    ) -> None:
        self._datasets = datasets
        self._statistics = statistics
        self._store = store
        self._files = files
        self._tokens = tokens
        self._analyses = asyncio.Semaphore(analyses)
        self._previews = asyncio.Semaphore(_PREVIEWS)
        self._counts: SharedWork[StatisticsKey, Json] = SharedWork()

    async def preview(self, dataset: Dataset, model: BaseModel, first: int, count: int, max_seq_length: int) -> Sequence[Json]:
        """At most `count` rows from row `first` on, each a tunesmith.v1.RowPreview.

        Raises ServiceError: ROW_OUT_OF_RANGE, CHAT_TEMPLATE_UNUSABLE, Unavailable, and as Tokens does.
        """
        refuse_row(dataset, first)
        refuse_template(dataset, model)
        length = sequence_length(max_seq_length, model)
        known, offset = await self._datasets.nearest_row(dataset.rows.sha256, first)
        rows = await read_rows(self._store, dataset.rows, offset, first - known, count)
        async with self._previews, self._files.directory(model.revision, model.files) as directory:
            return await self._tokens.preview(directory, rows, first, length)

    async def statistics(self, dataset: Dataset, model: BaseModel, max_seq_length: int) -> Json:
        """A tunesmith.v1.TokenStatistics, counted or remembered.

        Raises ServiceError: CHAT_TEMPLATE_UNUSABLE, Unavailable, and as Tokens does.
        """
        refuse_template(dataset, model)
        length = sequence_length(max_seq_length, model)
        key = StatisticsKey(dataset.rows.sha256, model.revision, length, renderer_version())
        counted = await self._counts.of(key, lambda: self._remembered(key, dataset, model))
        # Two ids may have one revision.
        return {**counted, "base_model": model.name, "base_model_revision": model.revision}

    async def overlap(self, dataset: Dataset, against: Dataset) -> Json:
        """A tunesmith.v1.DatasetOverlap; raises Unavailable, and as Tokens does."""
        async with self._analyses, self._chunks(dataset) as chunks, self._chunks(against) as other:
            counted = await self._tokens.overlap(chunks, other, dataset.rows.size_bytes + against.rows.size_bytes)
        return {**counted, "against": against.name}

    async def _remembered(self, key: StatisticsKey, dataset: Dataset, model: BaseModel) -> Json:
        counted = await self._statistics.find(key)
        if counted is None:
            counted = await self._count(dataset, model, key.max_seq_length)
            await self._statistics.add(key, counted)
        return counted

    async def _count(self, dataset: Dataset, model: BaseModel, length: int) -> Json:
        async with (
            self._analyses,
            self._files.directory(model.revision, model.files) as directory,
            self._chunks(dataset) as chunks,
        ):
            return await self._tokens.analyze(directory, chunks, length, dataset.rows.size_bytes)

    @contextlib.asynccontextmanager
    async def _chunks(self, dataset: Dataset) -> AsyncIterator[AsyncIterator[bytes]]:
        rows = dataset.rows
        chunks = self._store.read(rows.object_key, 0, rows.size_bytes)
        try:
            yield chunks
        finally:
            await chunks.aclose()  # type: ignore[attr-defined] # they are generators


def sequence_length(requested: int, model: BaseModel) -> int:
    """Tokens per example; raises InvalidArgument when the base model cannot attend to so many."""
    if not requested:
        return min(_DEFAULT_LENGTH, model.context_length or _DEFAULT_LENGTH)
    if requested < 0 or 0 < model.context_length < requested:
        limit = f"from 1 to {model.context_length}, the context length of {model.name}" if model.context_length else "above 0"
        raise InvalidArgument(Violation("max_seq_length", f"{requested} is not {limit}"))
    return requested


def refuse_row(dataset: Dataset, row: int) -> None:
    """Raises ServiceError (ROW_OUT_OF_RANGE) for a row the dataset does not have."""
    if not 1 <= row <= dataset.example_count:
        message = f"row {row} is not from 1 to {dataset.example_count}"
        metadata = {"row": str(row), "example_count": str(dataset.example_count)}
        raise ServiceError("ROW_OUT_OF_RANGE", message, metadata=metadata)


def refuse_template(dataset: Dataset, model: BaseModel) -> None:
    """Raises ServiceError (CHAT_TEMPLATE_UNUSABLE) when conversations would be rendered by a template that cannot train."""
    if model.chat_template_problem and dataset.format != "TEXT":
        message = f"the chat template of {model.name} cannot train: {model.chat_template_problem}"
        raise ServiceError("CHAT_TEMPLATE_UNUSABLE", message, metadata={"base_model": model.name})
