"""/v1/models: base models, registered models, and what jobs have made while it is kept."""

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import ServiceError
from services.common.names import registered_name
from services.gateway import identifiers
from services.gateway.identifiers import TunedModel
from services.gateway.job_conversion import JobConversion
from services.gateway.model_names import ModelNames
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.artifact_service_pb2 import ExpireArtifactRequest, GetArtifactRequest, ListArtifactsRequest
from tunesmith.v1.model_service_pb2 import (
    DeleteModelVersionRequest,
    GetBaseModelRequest,
    GetModelRequest,
    GetModelVersionRequest,
    ListBaseModelsRequest,
    ListModelsRequest,
)
from tunesmith.v1.task_manager_service_pb2 import GetTaskRequest, ListCheckpointsRequest, ListTasksRequest, TaskFilter
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

_PAGE = 1000
_REGISTERED = "models/"
_DELETED = "deleted through the gateway"


class Models:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings, names: ModelNames, conversion: JobConversion) -> None:
        self._names = names
        self._peers = peers
        self._owner = settings.organization
        self._conversion = conversion

    async def index(self, request: Request) -> Response:
        """GET all of them; OpenAI's list has no pages."""
        base = await self._all(self._peers.models.ListBaseModels, ListBaseModelsRequest(page_size=_PAGE), "base_models")
        registered = await self._all(self._peers.models.ListModels, ListModelsRequest(page_size=_PAGE), "models")
        data = [
            *(self._model(model.name.removeprefix("baseModels/"), model.create_time.seconds) for model in base),
            *(self._model(model.name, model.create_time.seconds) for model in registered if model.version_count),
            *await self._tuned(),
        ]
        return JSONResponse({"object": "list", "data": data})

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        return JSONResponse(await self._find(request.path_params["model"]))

    async def delete(self, request: Request) -> Response:
        """DELETE: what a job made (it can be restored for a while), or a version of a registered model; base models stay."""
        identifier = request.path_params["model"]
        await self._find(identifier)
        if tuned := await self._names.tuned(identifier):
            if tuned.step is not None:
                raise ServiceError("MODEL_NOT_DELETABLE", f"{identifier} is a checkpoint, which ends by itself")
            ending = ExpireArtifactRequest(name=(await self._artifact(tuned)).name, reason=_DELETED)
            await self._peers.storage.call(self._peers.artifacts.ExpireArtifact, ending)
            return _deleted(identifier)
        if not identifier.startswith(_REGISTERED) or registered_name(identifier).version is None:
            hint = "Of a registered model delete a version: models/NAME@VERSION."
            raise ServiceError("MODEL_NOT_DELETABLE", f"{identifier} cannot be deleted", hint=hint)
        request_message = DeleteModelVersionRequest(name=identifier)
        await self._peers.storage.call(self._peers.models.DeleteModelVersion, request_message)
        return _deleted(identifier)

    async def _find(self, identifier: str) -> dict[str, Any]:
        if tuned := await self._names.tuned(identifier):
            artifact = await self._artifact(tuned)
            return self._model(identifier, artifact.create_time.seconds, artifact)
        storage, models = self._peers.storage, self._peers.models
        if not identifier.startswith(_REGISTERED):
            found = await storage.call(models.GetBaseModel, GetBaseModelRequest(name=identifier))
        elif "@" in identifier:
            found = await storage.call(models.GetModelVersion, GetModelVersionRequest(name=identifier))
        else:
            found = await storage.call(models.GetModel, GetModelRequest(name=identifier))
        return self._model(identifier, found.create_time.seconds)

    async def _artifact(self, tuned: TunedModel) -> Artifact:
        """What a task has made, or a checkpoint of it; raises NotFound when that has expired or never was."""
        name = await (self._result(tuned.task) if tuned.step is None else self._checkpoint(tuned.task, tuned.step))
        artifact: Artifact = await self._peers.storage.call(self._peers.artifacts.GetArtifact, GetArtifactRequest(name=name))
        return artifact

    async def _result(self, task: str) -> str:
        found = await self._peers.task_manager.call(self._peers.tasks.GetTask, GetTaskRequest(name=task))
        if not found.artifact:
            raise ServiceError("MODEL_NOT_FOUND", f"{identifiers.job_id(task)} has made no model")
        return str(found.artifact)

    async def _checkpoint(self, task: str, step: int) -> str:
        answer = await self._peers.task_manager.call(self._peers.tasks.ListCheckpoints, ListCheckpointsRequest(name=task))
        for checkpoint in answer.checkpoints:
            if checkpoint.step == step:
                return str(checkpoint.artifact)
        raise ServiceError("MODEL_NOT_FOUND", f"{identifiers.job_id(task)} has no checkpoint of step {step}, or no more")

    async def _tuned(self) -> list[dict[str, Any]]:
        """Newest first; a result without its task has no name here, a task without its result nothing to use."""
        listing = ListArtifactsRequest(page_size=_PAGE)
        kept = {
            artifact.name: artifact for artifact in await self._all(self._peers.artifacts.ListArtifacts, listing, "artifacts")
        }
        wanted = ListTasksRequest(page_size=_PAGE, filter=TaskFilter(states=[Task.SUCCEEDED], kinds=[TaskSpec.FINE_TUNING]))
        tasks = await self._all(self._peers.tasks.ListTasks, wanted, "tasks")
        return [
            self._model(self._conversion.tuned_model(task), kept[task.artifact].create_time.seconds, kept[task.artifact])
            for task in tasks
            if task.artifact in kept
        ]

    async def _all(self, method: Any, request: Any, field: str) -> list[Any]:
        """Every item of a list."""
        peer = self._peers.task_manager if field == "tasks" else self._peers.storage
        items: list[Any] = []
        while True:
            page = await peer.call(method, request)
            items += getattr(page, field)
            if not page.next_page_token:
                return items
            request.page_token = page.next_page_token

    def _model(self, identifier: str, created: int, artifact: Artifact | None = None) -> dict[str, Any]:
        ends = artifact is not None and artifact.HasField("expire_time") and not artifact.pinned
        return {
            "id": identifier,
            "object": "model",
            "created": created,
            "owned_by": self._owner,
            "shutdown_date": _date(artifact.expire_time.seconds) if artifact is not None and ends else None,
        }


def _deleted(identifier: str) -> Response:
    return JSONResponse({"id": identifier, "object": "model", "deleted": True})


def _date(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
