"""From a stream of files made elsewhere to a version of a registered model; used by the model servicer."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

import structlog

from services.common.errors import InvalidArgument, Violation
from services.storage.adapter_fit import CONFIG, WEIGHTS, adapter_violations, read_adapter_config, unfit
from services.storage.base_model import BaseModel, missing_files
from services.storage.base_model_repository import BaseModelRepository
from services.storage.blob_repository import BlobRepository
from services.storage.file import File
from services.storage.model_safety import refuse_unsafe_content, refuse_unsafe_names
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import pending_objects
from services.storage.registered_model import ExportDraft, ModelVersion, same_export
from services.storage.registry_repository import RegistryRepository
from services.storage.safetensors_header import Tensor, read_first_tensors, read_tensors
from services.storage.upload import FileUpload, Item

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class ImportDraft:
    """What somebody wants to keep that was made elsewhere."""

    model: str
    base_model: str
    """Id of the base model of an adapter; empty = of a whole model."""
    alias: str
    """Empty = none."""
    description: str
    request_id: str
    """Empty = none."""
    files: tuple[File, ...]

    @property
    def format(self) -> str:
        """What the files are."""
        return "ADAPTER" if any(file.path == CONFIG for file in self.files) else "MODEL"

    def as_export(self, manifest: bytes = b"") -> ExportDraft:
        """The same as the registry takes it."""
        return ExportDraft(None, self.model, self.format, self.alias, self.description, self.request_id, manifest)


class ModelImport:
    """Makes versions of files. `write_manifest` serialises the base model's name and revision, both empty when there is none."""

    def __init__(
        self,
        *,
        registry: RegistryRepository,
        base_models: BaseModelRepository,
        blobs: BlobRepository,
        store: ObjectStore,
        pending: PendingObjectRepository,
        new_id: Callable[[], uuid.UUID],
        write_manifest: Callable[[str, str], bytes],
    ) -> None:
        self._registry = registry
        self._base_models = base_models
        self._blobs = blobs
        self._store = store
        self._pending = pending
        self._new_id = new_id
        self._write_manifest = write_manifest

    async def receive(self, draft: ImportDraft, items: AsyncIterator[Item]) -> ModelVersion:
        """The next version, or the first of the same request_id without reading its bytes.

        Raises InvalidArgument (INVALID_FIELD, MODEL_UNFIT), BASE_MODEL_UNSAFE, BASE_MODEL_NOT_FOUND, REQUEST_ID_REUSED,
        UPLOAD_MALFORMED, CHECKSUM_MISMATCH, DISK_FULL, Unavailable; nothing is left behind then.
        """
        refuse_unsafe_names([file.path for file in draft.files])
        _refuse_incomplete(draft)
        if draft.request_id and (earlier := await self._registry.find(draft.as_export())):
            return _same_files(earlier, draft)
        base = await self._base_models.get(draft.base_model) if draft.base_model else None
        look = _Look()
        async with pending_objects(self._store, self._pending) as pending:
            upload = FileUpload(self._blobs, self._new_id, inspect=look)
            files, keys = await upload.receive(draft.files, items, pending)
            if base is not None:
                await self._require_fit(look, base)
            manifest = self._write_manifest(base.name if base else "", base.revision if base else "")
            version = await pending.commit(self._registry.add(draft.as_export(manifest), files, keys))
            pending.keep(file.object_key for file in version.files)
        log.info("model.imported", model_version=version.name, format=version.format, size_bytes=version.size_bytes)
        return version

    async def _require_fit(self, look: "_Look", base: BaseModel) -> None:
        beneath: dict[str, Tensor] = {}
        for file in base.files:
            if file.path.endswith(".safetensors"):
                head = self._store.read(file.object_key, 0, file.size_bytes)
                beneath |= await read_first_tensors(head, file.size_bytes)
        violations = [*adapter_violations(read_adapter_config(look.adapter_config), look.tensors, beneath)]
        if violations:
            raise unfit(*violations)


class _Look:
    """Looks into every file as it arrives, and remembers what the whole is judged by."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.adapter_config = b""

    def __call__(self, file: File, content: BinaryIO) -> None:
        refuse_unsafe_content(file, content)
        content.seek(0)
        if file.path == CONFIG:
            self.adapter_config = content.read()
        elif file.path.endswith(".safetensors"):
            self.tensors |= read_tensors(content, file.size_bytes)


def _refuse_incomplete(draft: ImportDraft) -> None:
    if draft.format == "MODEL":
        violations = [*missing_files([file.path for file in draft.files], "header.files")]
        if draft.base_model:
            violations.append(Violation("header.base_model", f"is set, but the files have no {CONFIG}: they are no adapter"))
    else:
        violations = [] if draft.base_model else [Violation("header.base_model", "is required for an adapter")]
        if WEIGHTS not in {file.path for file in draft.files}:
            violations.append(Violation("header.files", f"{WEIGHTS} is missing"))
    if violations:
        raise InvalidArgument(*violations)


def _same_files(version: ModelVersion, draft: ImportDraft) -> ModelVersion:
    same = {(file.path, file.sha256) for file in version.files} == {(file.path, file.sha256) for file in draft.files}
    return version if same else same_export(version, dataclasses.replace(draft.as_export(), format="other files"))
