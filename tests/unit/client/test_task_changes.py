"""Changes of many tasks go on behind an interruption, from where they stood."""

import pytest
from fake_platform import FakePlatform
from google.protobuf.timestamp_pb2 import Timestamp

from tunesmith import Client
from tunesmith.errors import TunesmithError, Unreachable
from tunesmith.task_changes import task_changes
from tunesmith.v1.task_manager_service_pb2 import WatchTasksResponse
from tunesmith.v1.task_pb2 import Task


def response(seconds, *names):
    return WatchTasksResponse(tasks=[Task(name=name) for name in names], time=Timestamp(seconds=seconds))


class Connections:
    """Scripted connections: each a list of responses, an error at its end."""

    def __init__(self, *connections):
        self.connections = list(connections)
        self.cursors = []

    def __call__(self, after):
        self.cursors.append(after.seconds if after else None)
        *responses, error = self.connections.pop(0)
        yield from responses
        raise error


def told(connections, **options):
    """Names until the script ends."""
    names = []
    with pytest.raises(TunesmithError) as caught:
        for task in task_changes(connections, sleep=lambda _: None, **options):
            names.append(task.name)
    return names, caught.value


END = TunesmithError("the end", reason="INTERNAL", grpc_code="INTERNAL")
GONE = Unreachable("away", reason="SERVER_STOPPING", grpc_code="UNAVAILABLE")


def test_it_goes_on_from_the_time_of_the_last_response():
    connections = Connections([response(5, "a"), response(7), GONE], [response(9, "b"), END])
    assert told(connections) == (["a", "b"], END)
    assert connections.cursors == [None, 7]


def test_a_service_that_was_never_there_is_an_error_at_once():
    assert told(Connections([GONE])) == ([], GONE)


def test_without_an_answer_for_long_it_gives_up():
    clock = iter(range(0, 10_000, 100))
    names, error = told(Connections([response(1, "a"), GONE], *[[GONE]] * 9), clock=lambda: next(clock), patience_seconds=600)
    assert (names, error) == (["a"], GONE)


def test_every_reconnect_is_told_and_an_answer_starts_the_count_anew():
    attempts = []
    connections = Connections([response(1), GONE], [GONE], [response(2), GONE], [END])
    told(connections, on_interruption=attempts.append)
    assert attempts == [1, 2, 1]


def test_the_client_watches_by_conditions(platform: FakePlatform):
    first, second = platform.tasks.add(Task.RUNNING), platform.tasks.add(Task.SUCCEEDED)
    platform.tasks.changes = [[(3, first), (4, None)], [(5, second)]]
    with Client() as client:
        changes = client.watch_tasks(labels={"team": "a"})
        assert [next(changes), next(changes)] == [first, second]
    assert platform.tasks.watched_after == [0, 4]
