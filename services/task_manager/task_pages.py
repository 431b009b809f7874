"""Pages of tasks with keyset tokens; used by ListTasks."""

import datetime
import uuid

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.common.paging import decode_token, encode_token, page_size
from services.task_manager.conversion import state_from_proto, task_to_proto
from services.task_manager.domain.task import State, Task
from services.task_manager.repository import TaskFilter, TaskRepository
from tunesmith.v1 import task_manager_service_pb2 as api


class TaskPages:
    """Raises InvalidArgument for a bad page size, token, state or dataset."""

    def __init__(self, repository: TaskRepository) -> None:
        self._repository = repository

    async def page(self, request: api.ListTasksRequest) -> api.ListTasksResponse:
        """One page, newest first."""
        size = page_size(request.page_size)
        wanted = TaskFilter(_states(request), _text(request.display_name_contains), _dataset(request.dataset))
        states = sorted(state.value for state in wanted.states)
        filter_text = repr((states, wanted.display_name_contains, str(wanted.dataset or "")))
        after = _position(decode_token(request.page_token, filter_text))
        # One more than asked for tells whether there is a next page.
        tasks = await self._repository.list(wanted, after, size + 1)
        token = encode_token(_key(tasks[size - 1]), filter_text) if len(tasks) > size else ""
        return api.ListTasksResponse(tasks=[task_to_proto(task) for task in tasks[:size]], next_page_token=token)


def _states(request: api.ListTasksRequest) -> tuple[State, ...]:
    states = [state_from_proto(number) for number in request.states]
    bad = [Violation(f"states[{index}]", "is not a state") for index, state in enumerate(states) if state is None]
    if bad:
        raise InvalidArgument(*bad)
    return tuple(state for state in states if state)


def _text(text: str) -> str:
    if "\0" in text:
        raise InvalidArgument(Violation("display_name_contains", "contains the character NUL"))
    return text


def _dataset(name: str) -> uuid.UUID | None:
    return resource_uuid(name, "datasets", "dataset") if name else None


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
