"""The files of batches: what was asked, answers, and what could not be answered, written while they are read; used by files."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from services.common.errors import NotFound, ServiceError
from services.gateway import batch_conversion, identifiers
from services.gateway.file_conversion import BATCH_OUTPUT, made_object
from services.gateway.lines import line_of, lines_in
from services.gateway.peers import Peers
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.artifact_service_pb2 import DownloadArtifactRequest, GetArtifactRequest
from tunesmith.v1.task_manager_service_pb2 import GetTaskRequest
from tunesmith.v1.task_pb2 import Task

_ANSWERS = "answers.jsonl"
"""As a generation writes it: a line for every row, answered or not."""
_SECONDS = 3600.0


class BatchFiles:
    """Both files of a batch are made of one file of its artifact, and end with it."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def file_object(self, identifier: str) -> dict[str, Any]:
        """The file of this id; its size is only known once it has been written. Raises NotFound."""
        task, artifact = await self._found(identifier)
        size = 0
        async for line in self._lines(identifier, task, artifact):
            size += len(line)
        ends = artifact.expire_time.seconds if artifact.HasField("expire_time") else None
        name = f"{identifiers.batch_id(task.name)}_{'output' if _is_output(identifier, task) else 'errors'}.jsonl"
        return made_object(identifier, name, BATCH_OUTPUT, size=size, created_at=task.end_time.seconds, expires_at=ends)

    async def content(self, identifier: str) -> AsyncGenerator[bytes]:
        """The lines of the file of this id, in the order of the requests. Raises NotFound before there is a line."""
        return self._lines(identifier, *await self._found(identifier))

    async def _lines(self, identifier: str, task: Task, artifact: Artifact) -> AsyncGenerator[bytes]:
        wanted = _is_output(identifier, task)
        request = DownloadArtifactRequest(name=artifact.name, path=_ANSWERS)
        stream = self._peers.storage.stream(self._peers.artifacts.DownloadArtifact, request, _SECONDS)
        async with contextlib.aclosing(stream):
            async for line in lines_in(message.chunk async for message in stream):
                told = json.loads(line)
                if ("text" in told) == wanted:
                    yield line_of(batch_conversion.result(task, told))

    async def _found(self, identifier: str) -> tuple[Task, Artifact]:
        name = identifiers.batch_file_task(identifier) or ""
        try:
            task: Task = await self._peers.task_manager.call(self._peers.tasks.GetTask, GetTaskRequest(name=name))
            if identifier not in batch_conversion.files(task):
                raise NotFound("DATASET_NOT_FOUND", identifier)
            request = GetArtifactRequest(name=batch_conversion.answers_artifact(task))
            artifact: Artifact = await self._peers.storage.call(self._peers.artifacts.GetArtifact, request)
        except ServiceError as error:
            if error.status != "NOT_FOUND":
                raise
            raise NotFound("DATASET_NOT_FOUND", identifier, message=f"{identifier!r}: {error.message}") from error
        return task, artifact


def _is_output(identifier: str, task: Task) -> bool:
    return identifier == identifiers.output_id(task.name)
