"""The result file of a job: its metrics as CSV, written as they are read; used by files."""

import contextlib
from collections.abc import AsyncGenerator, Mapping

from services.gateway.peers import Peers
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.task_manager_service_pb2 import ListEventsRequest

_COLUMNS = {
    "train_loss": "loss",
    "train_accuracy": "token_accuracy",
    "valid_loss": "eval_loss",
    "valid_mean_token_accuracy": "eval_token_accuracy",
}
_PAGE = 1000


async def results_csv(peers: Peers, task: str) -> AsyncGenerator[str]:
    """A line a step; what was not measured is empty. A step that was done again by a later attempt is told once."""
    yield ",".join(("step", *_COLUMNS)) + "\n"
    step, values = 0, dict[str, float]()
    async with contextlib.aclosing(_metrics(peers, task)) as events:
        async for event in events:
            metrics = event.step_metrics
            if metrics.step > step:
                if values:
                    yield _line(step, values)
                step, values = metrics.step, {}
            if metrics.step == step:
                values = {**metrics.values, **values}
    if values:
        yield _line(step, values)


async def _metrics(peers: Peers, task: str) -> AsyncGenerator[TaskEvent]:
    after = 0
    while True:
        request = ListEventsRequest(name=task, after_sequence=after, page_size=_PAGE, kinds=[TaskEvent.STEP_METRICS])
        page = await peers.task_manager.call(peers.tasks.ListEvents, request)
        for event in page.events:
            yield event
        if not (after := page.next_after_sequence):
            return


def _line(step: int, values: Mapping[str, float]) -> str:
    return ",".join([str(step), *(str(values[name]) if name in values else "" for name in _COLUMNS.values())]) + "\n"
