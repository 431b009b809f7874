"""/v1/evals/{eval_id}/runs/{run_id}/output_items: rows of the artifact of a run, read up to what is asked for."""

import collections
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import NotFound, ServiceError
from services.gateway import bodies, identifiers, lists
from services.gateway.eval_item_conversion import ItemConversion, Json
from services.gateway.eval_lookup import EvalLookup
from services.gateway.lines import lines_in
from services.gateway.peers import Peers
from tunesmith.v1.artifact_service_pb2 import DownloadArtifactRequest
from tunesmith.v1.task_pb2 import Task

_ROWS = "rows.jsonl"
"""As an evaluation writes it: a line for every row."""
_DEFAULT_LIMIT, _LONGEST_LIST = 20, 100
_SECONDS = 3600.0
_ROW = "datasource_item_id"


class EvalOutputItems:
    """The resource. There are no items before a run has ended well."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lookup = EvalLookup(peers)

    async def index(self, request: Request) -> Response:
        """GET: in the order of the items unless `order=desc`."""
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        order = bodies.choice(request, "order", "asc", ("asc", "desc"))
        status = bodies.choice(request, "status", "", ("", "pass", "fail"))
        kept, task = await self._lookup.run(request)
        after = _row(request.query_params.get("after", ""), task)
        async with contextlib.aclosing(self._items(task, ItemConversion(task, kept))) as items:
            wanted = (item async for item in items if status in ("", item["status"]))
            in_order = _behind(wanted, after) if order == "asc" else _backwards(wanted, after, limit + 1)
            page, has_more = await lists.take(in_order, limit)
        return JSONResponse(lists.page_of(page, has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        kept, task = await self._lookup.run(request)
        given = request.path_params["output_item_id"]
        row = identifiers.output_item_row(given, task.name)
        async with contextlib.aclosing(self._items(task, ItemConversion(task, kept))) as items:
            async for item in items:
                if item[_ROW] == row:
                    return JSONResponse(item)
        raise NotFound("OUTPUT_ITEM_NOT_FOUND", given[:200], message=f"{given[:200]!r} is no output item of the run")

    async def _items(self, task: Task, conversion: ItemConversion) -> AsyncGenerator[Json]:
        if not task.artifact:
            return
        request = DownloadArtifactRequest(name=task.artifact, path=_ROWS)
        stream = self._peers.storage.stream(self._peers.artifacts.DownloadArtifact, request, _SECONDS)
        try:
            async with contextlib.aclosing(stream):
                async for line in lines_in(message.chunk async for message in stream):
                    yield conversion.item(json.loads(line))
        except ServiceError as error:
            if error.status != "NOT_FOUND":
                raise
            raise NotFound("OUTPUT_ITEM_NOT_FOUND", task.artifact, message=error.message) from error


def _row(after: str, task: Task) -> int:
    """The number of the last row that was told, from 1; 0 = none. Raises InvalidArgument for one that the run does not have."""
    row = identifiers.output_item_row(after, task.name) if after else 0
    if row is None or row > task.evaluation_result.row_count:
        raise lists.unknown_cursor(after)
    return row


async def _behind(items: AsyncIterator[Json], after: int) -> AsyncGenerator[Json]:
    async for item in items:
        if item[_ROW] > after:
            yield item


async def _backwards(items: AsyncIterator[Json], before: int, most: int) -> AsyncGenerator[Json]:
    """The last ones before the row `before` (0 = of all), the last first."""
    last: collections.deque[Json] = collections.deque(maxlen=most)
    async for item in items:
        if before and item[_ROW] >= before:
            break
        last.append(item)
    for item in reversed(last):
        yield item
