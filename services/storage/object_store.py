"""Bytes under keys: what the service asks of an object store, and S3 as one; the only place that knows the MinIO SDK."""

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import BinaryIO, Protocol

import minio
import urllib3
from minio.datatypes import Part
from minio.error import MinioException

from services.common.blocking import in_thread
from services.common.errors import ServiceError, Unavailable
from services.common.failpoints import around
from services.storage.bucket_lifecycle import abort_abandoned_uploads
from services.storage.endpoint_probe import probe
from services.storage.s3_client import s3_client
from services.storage.sweep import StoredObject

CHUNK_BYTES = 2**20
OWN_PREFIXES = ("blobs", "events", "pieces")
"""What the keys of this service begin with, up to the first slash."""
# S3 takes at most 10,000 parts; the SDK holds one at a time in memory, a few times over.
_PART_BYTES, _MAX_PARTS = 8 * 2**20, 10_000
_TAKEN = "PreconditionFailed"


class ObjectStore(Protocol):
    """Bytes under keys. Every method raises Unavailable (OBJECT_STORE_UNAVAILABLE) when the store is away.

    Keys are new with every object. A method that makes one raises ServiceError (OBJECT_EXISTS) when another has its key, as far
    as the store can tell.
    """

    async def prepare(self) -> None:
        """Makes the bucket when it is missing."""

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores `size_bytes` bytes of `content`, from its current position; all or nothing."""

    def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` to the end of an object of `size_bytes`, in pieces of at most 1 MiB."""

    def read_url(self, key: str, lifetime: datetime.timedelta) -> str | None:
        """Where somebody without a key may read the object by HTTP GET, in ranges; None when callers cannot reach the store."""

    async def remove(self, key: str) -> None:
        """Removes an object and what uploads in parts have left of it; nothing happens when there is none."""

    async def size(self, key: str) -> int | None:
        """Bytes of an object, None when there is none."""

    async def begin_parts(self, key: str) -> str:
        """Begins an upload in parts; returns the store's name of it. The object appears when they are joined."""

    def part_url(self, key: str, multipart_id: str, number: int, lifetime: datetime.timedelta) -> str | None:
        """Where somebody without a key may send one part by HTTP PUT; None when callers cannot reach the store."""

    async def arrived_parts(self, key: str, multipart_id: str) -> Sequence[tuple[int, int]]:
        """Numbers and sizes in bytes of the parts that have arrived; none when the upload is joined or gone."""

    async def join_parts(self, key: str, multipart_id: str) -> None:
        """Makes an object of the parts that have arrived, at most 1,000; nothing happens when they are joined or gone."""

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | memoryview) -> str:
        """Stores one part, numbered from 1, of at least 5 MiB unless it is the last; returns the store's mark of it."""

    async def complete_parts(self, key: str, multipart_id: str, marks: Sequence[str]) -> None:
        """Makes an object of the parts 1, 2, … with these marks, at most 10,000; of others it makes none."""

    async def list(self, prefix: str, limit: int | None = None) -> Sequence[StoredObject]:
        """Objects whose keys start with `prefix`, the first `limit` by key; None = all."""


class MinioObjectStore:
    """An S3 bucket. The endpoint is `http://host:port` or `https://host:port`.

    `public_endpoint` is the same server as callers reach it, None when they cannot.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str = "us-east-1",
        public_endpoint: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._client = s3_client(endpoint, access_key, secret_key, region)
        # A signature covers the host, so URLs are made by a client of the address they are for; it never connects.
        self._signer = s3_client(public_endpoint, access_key, secret_key, region) if public_endpoint else None

    async def prepare(self) -> None:
        """Makes the bucket when it is missing; several processes may do so at once."""
        with _translated():
            if not await in_thread(self._client.bucket_exists, self._bucket):
                await in_thread(self._make_bucket)
            await in_thread(abort_abandoned_uploads, self._client, self._bucket)

    async def probe(self) -> None:
        """Asks whether the server keeps S3's promises; raises ServiceError (OBJECT_STORE_UNFIT).

        From then on objects are written under the conditions that the server keeps.
        """
        with _translated():
            self._client.new_only = await in_thread(probe, self._client, self._bucket)

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores the bytes in parts of 8 MiB, of an object above 80 GB in larger ones; it appears when the last has arrived."""
        with _translated(key), around("object.put"):
            await in_thread(self._put, key, content, size_bytes)

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on; raises Unavailable also when the object ends too early."""
        missing = size_bytes - offset
        if missing <= 0:
            return
        with _translated():
            response = await in_thread(self._client.get_object, self._bucket, key, offset=offset)
            # The next piece is read while the caller works on this one.
            ahead = asyncio.ensure_future(in_thread(response.read, CHUNK_BYTES))
            try:
                while missing > 0 and (chunk := await ahead):
                    missing -= len(chunk)
                    ahead = asyncio.ensure_future(in_thread(response.read, CHUNK_BYTES))
                    yield chunk
            finally:
                await asyncio.gather(ahead, return_exceptions=True)
                response.close()
                response.release_conn()
        if missing:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", f"the S3 server sent {missing} bytes less than were stored")

    def read_url(self, key: str, lifetime: datetime.timedelta) -> str | None:
        """A presigned URL of the public endpoint, None when there is none."""
        return str(self._signer.get_presigned_url("GET", self._bucket, key, lifetime)) if self._signer else None

    async def remove(self, key: str) -> None:
        """Removes the object and unfinished uploads of it; S3 calls a missing one removed."""
        with _translated():
            await in_thread(self._client.remove_object, self._bucket, key)
            await in_thread(self._abort_parts, key)

    async def size(self, key: str) -> int | None:
        """Bytes of the object, None when there is none."""
        with _translated():
            return await in_thread(self._size, key)

    # The SDK has no public calls for uploads in parts; these are what its own uploads are made of.

    async def begin_parts(self, key: str) -> str:
        """Begins an upload in parts; returns its id."""
        with _translated():
            return await in_thread(self._client._create_multipart_upload, self._bucket, key, {})

    def part_url(self, key: str, multipart_id: str, number: int, lifetime: datetime.timedelta) -> str | None:
        """A presigned URL of the public endpoint, None when there is none."""
        if self._signer is None:
            return None
        query = {"partNumber": str(number), "uploadId": multipart_id}
        return str(self._signer.get_presigned_url("PUT", self._bucket, key, lifetime, extra_query_params=query))

    async def arrived_parts(self, key: str, multipart_id: str) -> list[tuple[int, int]]:
        """Numbers and sizes of the parts that have arrived."""
        with _translated():
            parts = await in_thread(self._parts, key, multipart_id)
        return [(part.part_number, part.size or 0) for part in parts]

    async def join_parts(self, key: str, multipart_id: str) -> None:
        """Makes an object of the parts that have arrived."""
        with _translated(key):
            parts = await in_thread(self._parts, key, multipart_id)
            if parts:
                await in_thread(self._client._complete_multipart_upload, self._bucket, key, multipart_id, parts)

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | memoryview) -> str:
        """Stores one part; returns its ETag."""
        with _translated():
            return await in_thread(self._client._upload_part, self._bucket, key, content, None, multipart_id, number)

    async def complete_parts(self, key: str, multipart_id: str, marks: Sequence[str]) -> None:
        """Makes an object of the parts with these ETags."""
        parts = [Part(number, mark) for number, mark in enumerate(marks, start=1)]
        with _translated(key), around("object.put"):
            await in_thread(self._client._complete_multipart_upload, self._bucket, key, multipart_id, parts)

    def _put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        start = content.tell()
        try:
            self._client.put_object(
                self._bucket, key, content, size_bytes, part_size=part_bytes(size_bytes), num_parallel_uploads=1
            )
        except minio.S3Error as error:
            # A request whose answer is lost is repeated, and finds what it has written itself.
            content.seek(start)
            if error.code != _TAKEN or not self._holds(key, content, size_bytes):
                raise

    def _holds(self, key: str, content: BinaryIO, size_bytes: int) -> bool:
        """Whether the object is these bytes."""
        if self._size(key) != size_bytes:
            return False
        response = self._client.get_object(self._bucket, key)
        try:
            return all(piece == content.read(len(piece)) for piece in response.stream(CHUNK_BYTES))
        finally:
            response.close()
            response.release_conn()

    def _parts(self, key: str, multipart_id: str) -> list[Part]:
        try:
            return list(self._client._list_parts(self._bucket, key, multipart_id, max_parts=1000).parts)
        except minio.S3Error as error:
            if error.code != "NoSuchUpload":
                raise
            return []

    def _abort_parts(self, key: str) -> None:
        for upload in self._client._list_multipart_uploads(self._bucket, prefix=key).uploads:
            if upload.object_name == key and upload.upload_id:
                self._client._abort_multipart_upload(self._bucket, key, upload.upload_id)

    def _size(self, key: str) -> int | None:
        try:
            return int(self._client.stat_object(self._bucket, key).size)
        except minio.S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return None

    async def list(self, prefix: str, limit: int | None = None) -> Sequence[StoredObject]:
        """Objects whose keys start with `prefix`, 1,000 a request."""
        with _translated():
            return await in_thread(self._list, prefix, limit)

    def _list(self, prefix: str, limit: int | None) -> Sequence[StoredObject]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        return [StoredObject(item.object_name, item.size) for item in itertools.islice(found, limit)]

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except minio.S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


def part_bytes(size_bytes: int) -> int:
    """Size of the parts of an object, whole MiB."""
    return max(_PART_BYTES, -(-size_bytes // (_MAX_PARTS * 2**20)) * 2**20)


@contextlib.contextmanager
def _translated(key: str = "") -> Iterator[None]:
    try:
        yield
    except (MinioException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        if isinstance(error, minio.S3Error) and error.code == _TAKEN:
            raise object_exists(key) from error
        raise Unavailable("OBJECT_STORE_UNAVAILABLE", f"the S3 server did not do its part: {_cause(error)}") from error


def object_exists(key: str) -> ServiceError:
    """The error for a key, made by this service for one new object, under which another lies."""
    return ServiceError("OBJECT_EXISTS", f"the object store has an object under the new key {key}, and it was left as it is")


def _cause(error: Exception) -> str:
    if isinstance(error, minio.S3Error):
        return f"{error.code}: {error.message}"
    return str(error)[:300] or type(error).__name__
