"""Pages of tasks with keyset tokens; used by ListTasks."""

import asyncio
import datetime
import uuid
from collections.abc import Mapping

from services.common.errors import InvalidArgument, Violation
from services.common.paging import decode_token, encode_token, page_size
from services.task_manager.conversion import state_to_proto, task_to_proto
from services.task_manager.domain.task import State, Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filter_conversion import filter_of_list
from services.task_manager.filtered_totals import Total
from services.task_manager.outlook import Outlook
from services.task_manager.task_listing import TaskListing
from tunesmith.v1 import task_manager_service_pb2 as api


class TaskPages:
    """Raises InvalidArgument for a bad page size, token or filter."""

    def __init__(self, listing: TaskListing, outlook: Outlook) -> None:
        self._listing = listing
        self._outlook = outlook

    async def queue_position(self, task_id: uuid.UUID) -> int:
        """See TaskListing."""
        return await self._listing.queue_position(task_id)

    async def page(self, request: api.ListTasksRequest) -> api.ListTasksResponse:
        """One page, newest first."""
        size, wanted = page_size(request.page_size), filter_of_list(request)
        after = _position(decode_token(request.page_token, repr(wanted)))
        # One more than asked for tells whether there is a next page.
        tasks, totals = await asyncio.gather(
            self._listing.page(wanted, after, size + 1), self._totals(wanted, is_asked_for=request.include_totals)
        )
        token = encode_token(_key(tasks[size - 1]), repr(wanted)) if len(tasks) > size else ""
        return api.ListTasksResponse(
            tasks=map(task_to_proto, await self._outlook.tell(tasks[:size])),
            next_page_token=token,
            totals=[_total(state, total) for state, total in totals.items()],
        )

    async def _totals(self, wanted: TaskFilter, *, is_asked_for: bool) -> Mapping[State, Total]:
        return await self._listing.totals(wanted) if is_asked_for else {}


def _total(state: State, total: Total) -> api.StateTotal:
    return api.StateTotal(state=state_to_proto(state), task_count=total.count, at_least=total.at_least)


def _key(task: Task) -> tuple[str, str]:
    return task.create_time.isoformat(), str(task.id)


def _position(parts: tuple[str, ...] | None) -> tuple[datetime.datetime, uuid.UUID] | None:
    if parts is None:
        return None
    try:
        time, task_id = parts
        return datetime.datetime.fromisoformat(time), uuid.UUID(task_id)
    except ValueError:
        violation = Violation("page_token", "is not a token this server made")
        raise InvalidArgument(violation, reason="INVALID_PAGE_TOKEN") from None
