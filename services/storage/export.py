"""From an artifact to a version of a registered model: hold, verify every byte, write the card, commit; used by the servicer."""

import dataclasses
import hashlib
import io
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog

from services.common.errors import NotFound, ServiceError
from services.storage.artifact import Artifact
from services.storage.artifact_repository import ArtifactRepository
from services.storage.base_model_repository import BaseModelRepository
from services.storage.file import File, StoredFile
from services.storage.model_card import PATH, model_card
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import PendingObjects, pending_objects
from services.storage.registered_model import ExportDraft, Lineage, ModelVersion, fitting_format
from services.storage.registry_repository import RegistryRepository
from services.storage.retention_change import Hold
from tunesmith.checksum import Checksum

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """How many of how many bytes have been read and hashed."""

    done: int
    total: int


class Export:
    """Makes versions. `read_lineage` understands the manifests that callers have serialised."""

    def __init__(
        self,
        *,
        registry: RegistryRepository,
        artifacts: ArtifactRepository,
        base_models: BaseModelRepository,
        store: ObjectStore,
        pending: PendingObjectRepository,
        new_id: Callable[[], uuid.UUID],
        read_lineage: Callable[[bytes], Lineage],
    ) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._base_models = base_models
        self._store = store
        self._pending = pending
        self._new_id = new_id
        self._read_lineage = read_lineage

    async def export(self, draft: ExportDraft) -> ModelVersion:
        """The last of `steps`."""
        version: ModelVersion | None = None
        async for step in self.steps(draft):
            version = step if isinstance(step, ModelVersion) else None
        assert version is not None, "steps end with the version"
        return version

    async def steps(self, draft: ExportDraft) -> AsyncGenerator[Verified | ModelVersion]:
        """How far the check is, then the next version, or the first of the same request_id.

        The hold keeps the artifact for the time of the check, the commit asks again under the row's lock: an export of something
        that is expiring wins whole or fails clean. Raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED), CHECKSUM_MISMATCH,
        REQUEST_ID_REUSED, EXPORT_FORMAT_UNFIT, UPLOAD_EXPIRED and Unavailable.
        """
        earlier = await self._registry.find(draft) if draft.request_id else None
        if earlier is not None:
            yield earlier
            return
        assert draft.artifact is not None, "only an artifact is exported"
        artifact = await self._artifacts.change(draft.artifact, Hold())
        draft = dataclasses.replace(draft, format=fitting_format(draft, artifact.name, artifact.kind))
        files = [file for file in artifact.files if file.path != PATH]
        verified, total = 0, sum(file.size_bytes for file in files)
        for file in files:
            async for size_bytes in self._verify(file):
                verified += size_bytes
                yield Verified(verified, total)
        async with pending_objects(self._store, self._pending) as pending:
            files.append(await self._write_card(draft, artifact, pending))
            keys = {file.sha256: file.object_key for file in files}
            version = await pending.commit(self._registry.add(draft, [*map(_plain, files)], keys))
            pending.keep(file.object_key for file in version.files)
        log.info("artifact.exported", artifact=artifact.name, model_version=version.name, size_bytes=version.size_bytes)
        yield version

    async def _write_card(self, draft: ExportDraft, artifact: Artifact, pending: PendingObjects) -> StoredFile:
        lineage = self._read_lineage(artifact.manifest)
        content = model_card(draft, lineage, await self._license(lineage.base_model))
        file = StoredFile(PATH, len(content), hashlib.sha256(content).hexdigest(), f"blobs/{self._new_id()}")
        await pending.put(file.object_key, io.BytesIO(content), file.size_bytes)
        async for _ in self._verify(file):
            pass
        return file

    async def _license(self, base_model: str) -> str:
        try:
            return (await self._base_models.get(base_model.removeprefix("baseModels/"))).license
        except NotFound:
            return ""

    async def _verify(self, file: StoredFile) -> AsyncIterator[int]:
        """Sizes of the pieces it has read; raises ServiceError (CHECKSUM_MISMATCH) at the end."""
        comparison = Checksum.of(file).begin()
        async for chunk in self._store.read(file.object_key, 0, file.size_bytes):
            comparison.update(chunk)
            yield len(chunk)
        if not comparison.fits:
            message = f"the stored bytes of {file.path} have {comparison.difference}"
            raise ServiceError("CHECKSUM_MISMATCH", message, hint="Run the task again; what was stored is damaged.")


def _plain(file: StoredFile) -> File:
    return File(file.path, file.size_bytes, file.sha256, file.blake3)
