"""Changes of many tasks that outlive connections; used by `Client.watch_tasks`."""

import time
from collections.abc import Callable, Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith.errors import TunesmithError, Unreachable
from tunesmith.streams import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, PATIENCE_SECONDS
from tunesmith.v1.task_manager_service_pb2 import WatchTasksResponse
from tunesmith.v1.task_pb2 import Task


def task_changes(
    connect: Callable[[Timestamp | None], Iterator[WatchTasksResponse]],
    *,
    on_interruption: Callable[[int], None] = lambda attempts: None,
    patience_seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Task]:
    """Tasks as they change, without end; goes on from where an interrupted connection stood.

    `connect` gets the time up to which all is known. A service that cannot be reached at first is an error at once; later, only
    after `patience_seconds` without any answer.
    """
    reached: Timestamp | None = None
    answered, attempts = clock(), 0
    while True:
        try:
            for response in connect(reached):
                answered, attempts, reached = clock(), 0, response.time
                yield from response.tasks
        except TunesmithError as interruption:
            interrupted = isinstance(interruption, Unreachable) or interruption.grpc_code == "CANCELLED"
            if reached is None or not interrupted or clock() - answered >= patience_seconds:
                raise
        attempts += 1
        on_interruption(attempts)
        sleep(min(FIRST_DELAY_SECONDS * 2 ** (attempts - 1), LONGEST_DELAY_SECONDS))
