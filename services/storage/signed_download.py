"""URLs by which callers read stored files straight from the object store; used by the artifact and the model servicer."""

import datetime
from collections.abc import Callable

from services.common.errors import ServiceError
from services.storage.artifact_conversion import timestamp
from services.storage.file import StoredFile
from services.storage.object_store import ObjectStore
from services.storage.retention import HOLD
from services.storage.verified_read import damaged
from tunesmith.v1 import artifact_service_pb2


def utc_now() -> datetime.datetime:
    """The clock by which URLs are signed, which is also the S3 server's."""
    return datetime.datetime.now(datetime.UTC)


class SignedDownloads:
    """A URL is good for an hour, as long as the hold that goes with it."""

    def __init__(self, store: ObjectStore, now: Callable[[], datetime.datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    def sign(self, file: StoredFile, owner: str) -> artifact_service_pb2.SignedDownload:
        """Raises ServiceError (FILE_DAMAGED, PRESIGNED_DOWNLOADS_OFF)."""
        if file.damage:
            raise damaged(file, owner, file.damage)
        until, url = self._now() + HOLD, self._store.read_url(file.object_key, HOLD)
        if url is None:
            raise ServiceError("PRESIGNED_DOWNLOADS_OFF", "callers of this service cannot reach its object store")
        return artifact_service_pb2.SignedDownload(
            url=url, size_bytes=file.size_bytes, sha256=file.sha256, blake3=file.blake3, expire_time=timestamp(until)
        )
