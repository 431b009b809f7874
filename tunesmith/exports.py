"""Verbs on other forms of what tasks have learned; part of `tunesmith.Client`."""

import uuid
from pathlib import PurePosixPath

from tunesmith.artifacts import ArtifactVerbs
from tunesmith.names import bare_id, enum_value, resource_name
from tunesmith.tasks import TaskVerbs
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.export_pb2 import Export
from tunesmith.v1.task_manager_service_pb2 import CreateTaskRequest
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

_DEFAULT_TYPE = "F16"


class ExportVerbs(TaskVerbs, ArtifactVerbs):
    """Merged models and GGUF files are made by tasks; their results are artifacts like all others."""

    def create_export(
        self, artifact: str, format: str, *, gguf_type: str = "", name: str = "", request_id: str | None = None
    ) -> Task:
        """Queue a task that makes another form of an artifact: `format` is `merged` or `gguf`.

        `artifact` is `artifacts/ID`, `tasks/ID` (its result) or `tasks/ID@step-N` (a checkpoint); `gguf_type` is `f16` (the
        default), `f32` or `q8_0`; `name` is what people call the task.

        Raises:
            InvalidArgument: FORMAT_UNKNOWN, GGUF_TYPE_UNKNOWN, NAME_INVALID; from the server, what has no such form.
        """
        source = artifact if artifact.startswith("tasks/") else resource_name("artifacts", artifact)
        asked = Export(artifact=source, format=enum_value(Export.Format, format, "FORMAT_UNKNOWN"))
        if gguf_type:
            asked.gguf_type = enum_value(Export.GgufType, gguf_type, "GGUF_TYPE_UNKNOWN")
        task = Task(display_name=name or f"{format.lower()} of {bare_id(source)}"[:128], spec=TaskSpec(export=asked))
        request = CreateTaskRequest(task=task, request_id=request_id or str(uuid.uuid4()))
        return self.connection("task_manager").call(self._tasks.CreateTask, request)

    def find_export(self, artifact: str, format: str, *, gguf_type: str = "") -> Artifact | None:
        """The newest artifact that an earlier export has made of this one in the same form; None when there is none any more."""
        source, wanted = resource_name("artifacts", artifact), (gguf_type or _DEFAULT_TYPE).lower()
        for found in self.list_artifacts(kind=format):
            if found.manifest.parent != source:
                continue
            names = [PurePosixPath(file.path).stem.lower() for file in found.manifest.files]
            if format.lower() != "gguf" or f"model-{wanted}" in names:
                return found
        return None
