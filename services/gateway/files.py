"""/v1/files: training data is a dataset, the results of a job are written from its metrics."""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.gateway import bodies, identifiers, lists
from services.gateway.batch_files import BatchFiles
from services.gateway.batch_request import given_in
from services.gateway.bodies import Body
from services.gateway.eval_rows import item_in
from services.gateway.failures import refused
from services.gateway.file_conversion import (
    BATCH,
    BATCH_OUTPUT,
    EVALS,
    FINE_TUNE,
    RESULTS,
    file_object,
    purpose_of,
    results_object,
)
from services.gateway.lines import line_of, lines_in
from services.gateway.peers import Peers
from services.gateway.results_file import results_csv
from services.gateway.settings import GatewaySettings
from services.gateway.upload_form import upload_requests
from tunesmith.v1 import dataset_service_pb2 as api
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.task_manager_service_pb2 import GetTaskRequest

_UPLOAD_SECONDS = 3600.0
_LONGEST_LIST = 10_000
_PAGE = 1000
_BYTES = "application/octet-stream"
_GIVEN: Mapping[str, Callable[[Body], Body]] = {BATCH: given_in, EVALS: item_in}
"""What rows were made of."""


class Files:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings) -> None:
        self._peers = peers
        self._settings = settings
        self._batches = BatchFiles(peers)

    async def create(self, request: Request) -> Response:
        """POST: the file streams to storage, which checks every row, while it arrives."""
        form = upload_requests(request, self._settings.max_file_bytes, bodies.request_id(request, "files"))
        async with contextlib.aclosing(form):
            dataset = await self._peers.storage.upload(self._peers.datasets.UploadDataset, form, _UPLOAD_SECONDS)
        return JSONResponse(file_object(dataset))

    async def index(self, request: Request) -> Response:
        """GET: newest first unless `order=asc`."""
        limit = bodies.whole_number(request, "limit", _LONGEST_LIST, _LONGEST_LIST)
        order = bodies.choice(request, "order", "desc", ("asc", "desc"))
        purpose = request.query_params.get("purpose", "")
        if purpose in (RESULTS, BATCH_OUTPUT):
            raise refused("purpose", "result files are not listed; a job and a batch name their own")
        if purpose not in ("", FINE_TUNE, BATCH, EVALS):  # no file of another purpose can exist
            return JSONResponse(lists.page_of([], has_more=False))
        behind = self._behind(request.query_params.get("after", ""), order, purpose)
        datasets, has_more = await lists.take(behind, limit)
        return JSONResponse(lists.page_of([file_object(dataset) for dataset in datasets], has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        identifier = request.path_params["file_id"]
        if task := identifiers.results_task(identifier):
            return JSONResponse(await self._results_object(task))
        if identifiers.batch_file_task(identifier):
            return JSONResponse(await self._batches.file_object(identifier))
        return JSONResponse(file_object(await self._dataset(identifiers.dataset_name(identifier))))

    async def delete(self, request: Request) -> Response:
        """DELETE; a file that a live job needs is refused."""
        identifier = request.path_params["file_id"]
        if identifiers.results_task(identifier):
            raise refused("file_id", "the results of a job stay as long as the job")
        if identifiers.batch_file_task(identifier):
            raise refused("file_id", "the results of a batch end by themselves, see expires_at")
        name = identifiers.dataset_name(identifier)
        await self._peers.storage.call(self._peers.datasets.DeleteDataset, api.DeleteDatasetRequest(name=name))
        return JSONResponse({"id": identifier, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """GET the bytes as uploaded; of batches and evals what was uploaded one a line, which is the same but for white space."""
        identifier = request.path_params["file_id"]
        if task := identifiers.results_task(identifier):
            await self._peers.task_manager.call(self._peers.tasks.GetTask, GetTaskRequest(name=task))
            return StreamingResponse(results_csv(self._peers, task), media_type="text/csv")
        if identifiers.batch_file_task(identifier):
            return StreamingResponse(await self._batches.content(identifier), media_type=_BYTES)
        dataset = await self._dataset(identifiers.dataset_name(identifier))
        if given := _GIVEN.get(purpose_of(dataset)):
            return StreamingResponse(_given(self._bytes(dataset.name), given), media_type=_BYTES)
        headers = {"content-length": str(dataset.size_bytes)}
        return StreamingResponse(self._bytes(dataset.name), media_type=_BYTES, headers=headers)

    async def _bytes(self, name: str) -> AsyncGenerator[bytes]:
        request = api.DownloadDatasetRequest(name=name)
        stream = self._peers.storage.stream(self._peers.datasets.DownloadDataset, request, _UPLOAD_SECONDS)
        async with contextlib.aclosing(stream):
            async for message in stream:
                yield message.chunk

    async def _dataset(self, name: str) -> Dataset:
        found: Dataset = await self._peers.storage.call(self._peers.datasets.GetDataset, api.GetDatasetRequest(name=name))
        return found

    async def _results_object(self, task: str) -> dict[str, object]:
        """Its size is only known once it has been written."""
        found = await self._peers.task_manager.call(self._peers.tasks.GetTask, GetTaskRequest(name=task))
        size = 0
        async for line in results_csv(self._peers, task):
            size += len(line.encode())
        return results_object(task, size=size, created_at=found.end_time.seconds)

    async def _behind(self, after: str, order: str, purpose: str) -> AsyncGenerator[Dataset]:
        """The files of a purpose (empty = any) behind the file `after`, found by its id: new ones shift nothing."""
        wanted = identifiers.dataset_name(after) if after else ""
        passed = not wanted
        async for dataset in self._all() if order == "desc" else _backwards(self._all()):
            if passed and purpose in ("", purpose_of(dataset)):
                yield dataset
            passed = passed or dataset.name == wanted
        if not passed:
            raise lists.unknown_cursor(after)

    async def _all(self) -> AsyncGenerator[Dataset]:
        """Newest first."""
        token = ""
        while True:
            request = api.ListDatasetsRequest(page_size=_PAGE, page_token=token)
            page = await self._peers.storage.call(self._peers.datasets.ListDatasets, request)
            for dataset in page.datasets:
                yield dataset
            if not (token := page.next_page_token):
                return


async def _backwards(datasets: AsyncIterator[Dataset]) -> AsyncGenerator[Dataset]:
    for dataset in reversed([dataset async for dataset in datasets]):
        yield dataset


async def _given(rows: AsyncIterable[bytes], given: Callable[[Body], Body]) -> AsyncGenerator[bytes]:
    """What the rows of a dataset were made of, a line each."""
    async with contextlib.aclosing(lines_in(rows)) as lines:
        async for line in lines:
            yield line_of(given(json.loads(line)))
