"""What a page says of totals: what was counted, and whether there may be more."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.task_manager.domain.task import State, Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filtered_totals import Total
from services.task_manager.task_pages import TaskPages
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2


@dataclasses.dataclass
class Listing:
    """No tasks, whatever is asked for, but totals."""

    found: Mapping[State, Total]
    counted: list[TaskFilter] = dataclasses.field(default_factory=list)

    async def page(self, wanted: TaskFilter, after: object, limit: int) -> list[Task]:
        return []

    async def totals(self, wanted: TaskFilter) -> Mapping[State, Total]:
        self.counted.append(wanted)
        return self.found


class Outlook:
    """Has nothing to tell."""

    async def tell(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks


FOUND = {State.RUNNING: Total(3), State.SUCCEEDED: Total(2_000, at_least=True), State.FAILED: Total(0, at_least=True)}


async def page(listing: Listing, **request: object) -> api.ListTasksResponse:
    return await TaskPages(listing, Outlook()).page(api.ListTasksRequest(**request))  # type: ignore[arg-type]


async def test_a_total_that_may_be_more_says_so_even_when_it_is_none() -> None:
    listing = Listing(FOUND)
    answer = await page(listing, include_totals=True, filter=api.TaskFilter(text="a"))
    assert [(total.state, total.task_count, total.at_least) for total in answer.totals] == [
        (task_pb2.Task.RUNNING, 3, False),
        (task_pb2.Task.SUCCEEDED, 2_000, True),
        (task_pb2.Task.FAILED, 0, True),
    ]
    assert listing.counted == [TaskFilter(text="a")]


async def test_nothing_is_counted_for_who_does_not_ask() -> None:
    listing = Listing(FOUND)
    answer = await page(listing)
    assert not answer.totals
    assert listing.counted == []
