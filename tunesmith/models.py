"""Verbs on models: base models and conversations; part of `tunesmith.Client`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.connection import CHAT_SECONDS, UPLOAD_SECONDS, Connections
from tunesmith.names import model_name, resource_name
from tunesmith.server_place import server_place
from tunesmith.transfers import Progress, chunks_of, describe, receive_all
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.inference_service_pb2 import (
    ChatMessage,
    ChatRequest,
    ChatResponse,
    CompareChatRequest,
    CompareChatResponse,
    StreamChatRequest,
    StreamChatResponse,
)
from tunesmith.v1.inference_service_pb2_grpc import InferenceServiceStub
from tunesmith.v1.model_service_pb2 import (
    DownloadModelRequest,
    GetBaseModelRequest,
    ListBaseModelsRequest,
    RegisterBaseModelRequest,
    RegisterServerBaseModelRequest,
)
from tunesmith.v1.model_service_pb2_grpc import ModelServiceStub

Messages = str | Sequence[ChatMessage | Mapping[str, Any]]
"""The user's words, or a conversation: messages or `{"role": …, "content": …}`, oldest first."""


class ModelVerbs(Connections):
    """Where tuning starts, and answers of anything that can answer."""

    def get_base_model(self, name: str) -> BaseModel:
        """One base model."""
        request = GetBaseModelRequest(name=resource_name("baseModels", name))
        return self.connection("storage").call(self._models.GetBaseModel, request)

    def list_base_models(self, page_size: int = 0) -> Iterator[BaseModel]:
        """Base models by id."""
        request = ListBaseModelsRequest(page_size=page_size)
        while True:
            page = self.connection("storage").call(self._models.ListBaseModels, request)
            yield from page.base_models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def register_base_model(
        self, name: str, directory: str | Path, progress: Progress | None = None, **description: Any
    ) -> BaseModel:
        """Store every file below `directory` as a base model; `description` are the other fields of BaseModel.

        Raises:
            AlreadyExists: other files are registered under the name.
        """
        root = Path(directory)
        header = BaseModel(name=resource_name("baseModels", name), files=describe(root), **description)

        def messages() -> Iterator[RegisterBaseModelRequest]:
            yield RegisterBaseModelRequest(header=header)
            for file in header.files:
                yield RegisterBaseModelRequest(path=file.path)
                for chunk in chunks_of(root / file.path, progress):
                    yield RegisterBaseModelRequest(chunk=chunk)

        return self.connection("storage").call(self._models.RegisterBaseModel, messages(), UPLOAD_SECONDS)

    def register_server_base_model(self, name: str, *, directory: str = "", s3_prefix: str = "", **description: Any) -> BaseModel:
        """As `register_base_model`, of files that the server reads itself: in a directory or behind an S3 prefix, relative to the
        one that its operator allows. Family, parameters and context length are read from them unless `description` tells them.

        Raises:
            FailedPrecondition: SERVER_IMPORT_OFF. NotFound: IMPORT_SOURCE_NOT_FOUND. InvalidArgument: BASE_MODEL_UNSAFE.
        """
        header = BaseModel(name=resource_name("baseModels", name), **description)
        request = RegisterServerBaseModelRequest(header=header, source=server_place(directory, s3_prefix))
        return self.connection("storage").call(self._models.RegisterServerBaseModel, request, UPLOAD_SECONDS)

    def download_base_model(
        self, name: str, directory: str | Path, paths: Sequence[str] | None = None, progress: Progress | None = None
    ) -> list[Path]:
        """Fetch files of a base model into `directory`: those of `paths` that it has, default: all. Interrupted ones continue.

        Raises:
            DataLoss: CHECKSUM_MISMATCH. InvalidArgument: PATH_UNSAFE.
        """
        model = self.get_base_model(name)
        wanted = [file for file in model.files if paths is None or file.path in paths]
        return receive_all(wanted, Path(directory), partial(self._model_bytes, model.name), progress)

    def _model_bytes(self, name: str, path: str, offset: int) -> Iterator[bytes]:
        request = DownloadModelRequest(name=name, path=path, offset=offset)
        for response in self.connection("storage").stream(self._models.DownloadModel, request, UPLOAD_SECONDS):
            yield response.chunk

    def chat(self, model: str, messages: Messages, system: str | None = None, **sampling: Any) -> ChatResponse:
        """A whole answer. `sampling`: the further fields of ChatRequest, as temperature, max_tokens, stop or logit_bias."""
        request = ChatRequest(model=model_name(model), messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").call(self._inference.Chat, request, CHAT_SECONDS)

    def stream_chat(
        self, model: str, messages: Messages, system: str | None = None, **sampling: Any
    ) -> Iterator[StreamChatResponse]:
        """An answer as it is written; closing the iterator ends the generation. `sampling` as in `chat`."""
        request = StreamChatRequest(model=model_name(model), messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").stream(self._inference.StreamChat, request, CHAT_SECONDS)

    def compare_chat(
        self, models: Sequence[str], messages: Messages, system: str | None = None, **sampling: Any
    ) -> Iterator[CompareChatResponse]:
        """The answers of several models at the same time; closing the iterator ends all. `sampling` as in `chat`."""
        names = [model_name(model) for model in models]
        request = CompareChatRequest(models=names, messages=conversation(messages, system), **_given(sampling))
        return self.connection("inference").stream(self._inference.CompareChat, request, CHAT_SECONDS)

    @property
    def _models(self) -> ModelServiceStub:
        return self.connection("storage").stub(ModelServiceStub)

    @property
    def _inference(self) -> InferenceServiceStub:
        return self.connection("inference").stub(InferenceServiceStub)


def conversation(messages: Messages, system: str | None = None) -> list[ChatMessage]:
    """Messages in any accepted form as the contract's, the system message first."""
    turns: Sequence[ChatMessage | Mapping[str, Any]] = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    )
    start = [ChatMessage(role="system", content=system)] if system else []
    return start + [turn if isinstance(turn, ChatMessage) else ChatMessage(**turn) for turn in turns]


def _given(sampling: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sampling.items() if value is not None}
