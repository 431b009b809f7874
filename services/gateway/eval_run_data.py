"""The dataset of a run: its rows stream to storage while its items are read, from the body or from a file; used by eval_runs."""

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.gateway import identifiers
from services.gateway.eval_rows import item_in
from services.gateway.eval_run_request import RunSource
from services.gateway.eval_run_rows import RunRows
from services.gateway.failures import placed, refused
from services.gateway.file_conversion import EVALS, purpose_of, stored_name
from services.gateway.lines import line_of, lines_in
from services.gateway.peers import Peers
from tunesmith.v1 import dataset_service_pb2 as api
from tunesmith.v1.dataset_pb2 import Dataset

_SOURCE = "data_source.source"
_KEPT_SECONDS = 30 * 86_400
"""The longest time there is; output items do not need the dataset."""
_MAX_CHUNK = 1024 * 1024
_SECONDS = 3600.0


async def store(peers: Peers, name: str, source: RunSource, rows: RunRows) -> Dataset:
    """Keeps the rows of the run `name` for 30 days; raises InvalidArgument naming the first item that makes none."""
    given = _of_file(peers, source.file, rows) if source.file else _of_body(source.items, rows)
    try:
        async with contextlib.aclosing(given), contextlib.aclosing(_messages(name, given)) as messages:
            dataset: Dataset = await peers.storage.upload(peers.datasets.UploadDataset, messages, _SECONDS)
    except ServiceError as error:
        if not error.violations:
            raise
        # Storage knows rows, which are as many as the items.
        told = [Violation(_place(each.field), each.description) for each in error.violations]
        raise InvalidArgument(*told, reason=error.reason, hint=error.hint) from error
    return dataset


async def _of_body(items: Sequence[Any], rows: RunRows) -> AsyncGenerator[bytes]:
    for index, item in enumerate(items):
        with placed(f"{_SOURCE}.content[{index}]."):
            row = rows.row(item)
        yield line_of(row)


async def _of_file(peers: Peers, file: str, rows: RunRows) -> AsyncGenerator[bytes]:
    request = api.DownloadDatasetRequest(name=(await _file(peers, file)).name)
    stream = peers.storage.stream(peers.datasets.DownloadDataset, request, _SECONDS)
    number = 0
    async with contextlib.aclosing(stream):
        async for line in lines_in(message.chunk async for message in stream):
            number += 1
            with placed(f"{_SOURCE}.id: item {number}: "):
                row = rows.row(item_in(json.loads(line)))
            yield line_of(row)


async def _file(peers: Peers, file: str) -> Dataset:
    """Raises InvalidArgument, also for one that does not exist: it is the body's mistake."""
    try:
        request = api.GetDatasetRequest(name=identifiers.dataset_name(file))
        found: Dataset = await peers.storage.call(peers.datasets.GetDataset, request)
    except ServiceError as error:
        if error.status != "NOT_FOUND":
            raise
        raise refused(f"{_SOURCE}.id", error.message) from error
    if purpose_of(found) != EVALS:
        raise refused(f"{_SOURCE}.id", f"{file!r} is no file of purpose {EVALS}")
    return found


async def _messages(name: str, rows: AsyncIterable[bytes]) -> AsyncGenerator[api.UploadDatasetRequest]:
    header = api.DatasetHeader(display_name=stored_name(f"{name}.jsonl", EVALS), sha256_follows=True)
    header.lifetime_seconds = _KEPT_SECONDS
    yield api.UploadDatasetRequest(header=header)
    digest = hashlib.sha256()
    async for row in rows:
        digest.update(row)
        for start in range(0, len(row), _MAX_CHUNK):
            yield api.UploadDatasetRequest(chunk=row[start : start + _MAX_CHUNK])
    yield api.UploadDatasetRequest(sha256=digest.hexdigest())


def _place(field: str) -> str:
    return field if field.startswith(_SOURCE) else f"{_SOURCE}: {field}"
