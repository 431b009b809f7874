"""From a stream of files to a committed artifact; used by the artifact servicer."""

from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from services.storage.artifact import Artifact, ArtifactDraft
from services.storage.artifact_repository import ArtifactRepository
from services.storage.file import File
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import pending_objects
from services.storage.upload import FileUpload, Item

log = structlog.get_logger()


class ArtifactUpload:
    """Stores artifacts under the epoch of their attempt."""

    def __init__(
        self, repository: ArtifactRepository, store: ObjectStore, pending: PendingObjectRepository, files: FileUpload
    ) -> None:
        self._repository = repository
        self._store = store
        self._pending = pending
        self._files = files

    async def receive(
        self,
        draft: ArtifactDraft,
        items: AsyncIterator[Item],
        completed: Callable[[ArtifactDraft, Sequence[File]], ArtifactDraft],
    ) -> Artifact:
        """Stores the files and commits the artifact; a repeat is answered without reading its bytes.

        `completed` writes into the draft the files as they have arrived, with the SHA-256 of each.

        Raises ServiceError: STALE_EPOCH, UPLOAD_MALFORMED, CHECKSUM_MISMATCH, DISK_FULL, Unavailable.
        """
        stored = await self._repository.find(draft.task, draft.epoch, draft.request_id)
        if stored is not None:
            return stored
        async with pending_objects(self._store, self._pending) as pending:
            files, keys = await self._files.receive(draft.files, items, pending)
            artifact = await pending.commit(self._repository.add(completed(draft, files), keys))
            pending.keep(file.object_key for file in artifact.files)
        log.info("artifact.stored", artifact=artifact.name, size_bytes=artifact.size_bytes, repeated=artifact.id != draft.id)
        return artifact
