"""Verbs on runners, the trainers that take tasks; part of `tunesmith.Client`."""

from collections.abc import Sequence

from tunesmith.connection import Connections
from tunesmith.v1.task_manager_service_pb2 import ListRunnersRequest, Runner
from tunesmith.v1.task_manager_service_pb2_grpc import TaskManagerServiceStub


class RunnerVerbs(Connections):
    """Who could take a task."""

    def list_runners(self) -> Sequence[Runner]:
        """The runners that the task manager knows, as they are now, sorted by name."""
        connection = self.connection("task_manager")
        return connection.call(connection.stub(TaskManagerServiceStub).ListRunners, ListRunnersRequest()).runners
