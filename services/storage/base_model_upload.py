"""From a stream of files to a registered base model; used by the model servicer."""

import dataclasses
from collections.abc import AsyncIterator, Sequence

import structlog

from services.storage.base_model import BaseModel, BaseModelDraft
from services.storage.base_model_files import BaseModelFiles
from services.storage.base_model_repository import BaseModelRepository
from services.storage.file import StoredFile, stored
from services.storage.model_safety import refuse_unsafe_names
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import pending_objects
from services.storage.token_port import Tokens
from services.storage.upload import FileUpload, Item
from services.storage.weight_format import dtype_of

log = structlog.get_logger()


class BaseModelUpload:
    """Registers base models; `files` inspects every file for code, `tokens` whether the chat template can train."""

    def __init__(
        self,
        repository: BaseModelRepository,
        store: ObjectStore,
        pending: PendingObjectRepository,
        *,
        files: FileUpload,
        small_files: BaseModelFiles,
        tokens: Tokens,
    ) -> None:
        self._repository = repository
        self._store = store
        self._pending = pending
        self._files = files
        self._small_files = small_files
        self._tokens = tokens

    async def receive(self, draft: BaseModelDraft, items: AsyncIterator[Item]) -> BaseModel:
        """Stores the files and commits the base model; a repeat is answered without reading its bytes.

        Raises ServiceError: BASE_MODEL_UNSAFE, BASE_MODEL_EXISTS, UPLOAD_MALFORMED, CHECKSUM_MISMATCH, DISK_FULL, Unavailable.
        """
        refuse_unsafe_names([file.path for file in draft.files])
        registered = await self._repository.find(draft)
        if registered is not None:
            return registered
        async with pending_objects(self._store, self._pending) as pending:
            arrived, keys = await self._files.receive(draft.files, items, pending)
            draft = dataclasses.replace(draft, files=arrived)
            files = [stored(file, keys[file.sha256]) for file in arrived]
            problem, dtype = await self._chat_template_problem(draft, files), await dtype_of(self._store, files)
            model = await pending.commit(self._repository.add(draft, keys, problem, dtype))
            pending.keep(file.object_key for file in model.files)
        log.info("base_model.registered", base_model=model.name, size_bytes=model.size_bytes, revision=model.revision)
        return model

    async def _chat_template_problem(self, draft: BaseModelDraft, files: Sequence[StoredFile]) -> str:
        async with self._small_files.directory(draft.revision, files) as directory:
            return await self._tokens.gate(directory)
