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
    """A line a step; what was not measured is empty. It is the curve that led to the result: what an attempt measured behind the
    step from which a later one went on is not told."""
    yield ",".join(("step", *_COLUMNS)) + "\n"
    undone = _Undone([event async for event in _events(peers, task, TaskEvent.TRAINING_STARTED)])
    step, values = 0, dict[str, float]()
    async with contextlib.aclosing(_events(peers, task, TaskEvent.STEP_METRICS)) as events:
        async for event in events:
            metrics = event.step_metrics
            if metrics.step < step or undone.covers(event):
                continue
            if metrics.step > step:
                if values:
                    yield _line(step, values)
                step, values = metrics.step, {}
            values.update(metrics.values)
    if values:
        yield _line(step, values)


class _Undone:
    """Which points were taken back because a later attempt went on from before them."""

    def __init__(self, starts: list[TaskEvent]) -> None:
        """`starts`: every TrainingStarted of the task, in order."""
        self._bounds: list[tuple[int, int]] = []
        lowest = float("inf")
        for start in reversed(starts):
            if start.training_started.resumed_step < lowest:
                lowest = start.training_started.resumed_step
                self._bounds.append((start.sequence, int(lowest)))

    def covers(self, point: TaskEvent) -> bool:
        """Whether a start behind this point goes on from a step before it; points are asked about in order."""
        while self._bounds and self._bounds[-1][0] < point.sequence:
            self._bounds.pop()
        return bool(self._bounds) and point.step_metrics.step > self._bounds[-1][1]


async def _events(peers: Peers, task: str, kind: TaskEvent.Kind.ValueType) -> AsyncGenerator[TaskEvent]:
    after = 0
    while True:
        request = ListEventsRequest(name=task, after_sequence=after, page_size=_PAGE, kinds=[kind])
        page = await peers.task_manager.call(peers.tasks.ListEvents, request)
        for event in page.events:
            yield event
        if not (after := page.next_after_sequence):
            return


def _line(step: int, values: Mapping[str, float]) -> str:
    return ",".join([str(step), *(str(values[name]) if name in values else "" for name in _COLUMNS.values())]) + "\n"
