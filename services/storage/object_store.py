"""Bytes under keys: what the service asks of an object store, and S3 as one; the only place that knows the MinIO SDK."""

import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import BinaryIO, Protocol

import minio
import urllib3
from minio.error import MinioException

from services.common.errors import Unavailable
from services.storage.blocking import in_thread
from services.storage.bucket_lifecycle import abort_abandoned_uploads
from services.storage.sweep import StoredObject

CHUNK_BYTES = 2**20
# S3 parts are held in memory one at a time; 10,000 of them make the largest object 160 GB.
_PART_BYTES = 16 * 2**20
_CONNECTIONS = 32


class ObjectStore(Protocol):
    """Bytes under keys. Every method raises Unavailable (OBJECT_STORE_UNAVAILABLE) when the store is away."""

    async def prepare(self) -> None:
        """Makes the bucket when it is missing."""

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores `size_bytes` bytes of `content`, from its current position; all or nothing."""

    def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` to the end of an object of `size_bytes`, in pieces of at most 1 MiB."""

    async def remove(self, key: str) -> None:
        """Removes an object; nothing happens when there is none."""

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """Every object whose key starts with `prefix`."""


class MinioObjectStore:
    """An S3 bucket. The endpoint is `http://host:port` or `https://host:port`."""

    def __init__(self, endpoint: str, *, access_key: str, secret_key: str, bucket: str, region: str = "us-east-1") -> None:
        address = urllib.parse.urlsplit(endpoint)
        self._bucket = bucket
        self._client = minio.Minio(
            address.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=address.scheme == "https",
            # With a region given, no call is spent on asking for it.
            region=region,
            http_client=urllib3.PoolManager(
                maxsize=_CONNECTIONS,
                timeout=urllib3.Timeout(connect=3.0, read=60.0),
                # Callers are told soon and try again themselves; long retries here would only hide the outage.
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            ),
        )

    async def prepare(self) -> None:
        """Makes the bucket when it is missing; several processes may do so at once."""
        with _translated():
            if not await in_thread(self._client.bucket_exists, self._bucket):
                await in_thread(self._make_bucket)
            await in_thread(abort_abandoned_uploads, self._client, self._bucket)

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores the bytes in parts of 16 MiB; the object appears when the last part has arrived."""
        with _translated():
            await in_thread(
                self._client.put_object,
                self._bucket,
                key,
                content,
                size_bytes,
                part_size=_PART_BYTES,
                num_parallel_uploads=1,
            )

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on; raises Unavailable also when the object ends too early."""
        missing = size_bytes - offset
        if missing <= 0:
            return
        with _translated():
            response = await in_thread(self._client.get_object, self._bucket, key, offset=offset)
            try:
                while missing > 0 and (chunk := await in_thread(response.read, CHUNK_BYTES)):
                    missing -= len(chunk)
                    yield chunk
            finally:
                response.close()
                response.release_conn()
        if missing:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", f"the S3 server sent {missing} bytes less than were stored")

    async def remove(self, key: str) -> None:
        """Removes the object; S3 calls a missing one removed."""
        with _translated():
            await in_thread(self._client.remove_object, self._bucket, key)

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """Every object whose key starts with `prefix`, 1,000 a request."""
        with _translated():
            return await in_thread(self._list, prefix)

    def _list(self, prefix: str) -> Sequence[StoredObject]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        return [StoredObject(item.object_name, item.size) for item in found]

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except minio.S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (MinioException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Unavailable("OBJECT_STORE_UNAVAILABLE", f"the S3 server did not do its part: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    if isinstance(error, minio.S3Error):
        return f"{error.code}: {error.message}"
    return str(error)[:300] or type(error).__name__
