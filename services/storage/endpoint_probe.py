"""Asks an S3 server at start whether it keeps the promises this service lives by; used by the S3 object store.

Servers that call themselves S3 differ: some let two conditional writes win, take wrong checksums, or join parts in the order of
their arrival. What is found here would otherwise be found by a user, as lost bytes. The objects lie below `blobs/`, so that the
sweeper collects those of a probe that was killed.
"""

import base64
import dataclasses
import hashlib
import uuid
from collections.abc import Callable, Collection

import structlog
from minio.datatypes import Part
from minio.error import S3Error

from services.common.errors import ServiceError
from services.storage.s3_client import S3Client, writing_only_new

log = structlog.get_logger()

_SMALL = bytes(range(256)) * 16
# S3 takes no smaller part but the last.
_PART = b"\xa5" * (5 * 2**20)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where the objects of one probe lie."""

    client: S3Client
    bucket: str
    prefix: str

    def put(self, name: str, content: bytes, **headers: str) -> None:
        """One request, with headers whose names have `_` for `-`."""
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        self.client._put_object(self.bucket, self.prefix + name, content, given)

    def get(self, name: str, offset: int = 0, length: int = 0) -> bytes | None:
        """The bytes, None when there are none."""
        try:
            response = self.client.get_object(self.bucket, self.prefix + name, offset=offset, length=length)
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return None
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def remove(self, name: str) -> None:
        """Removes one."""
        self.client.remove_object(self.bucket, self.prefix + name)

    def names(self) -> list[str]:
        """Every name there is."""
        found = self.client.list_objects(self.bucket, prefix=self.prefix, recursive=True)
        return [item.object_name.removeprefix(self.prefix) for item in found]


@dataclasses.dataclass(frozen=True, slots=True)
class _Promise:
    """What is asked of a server; without a fatal one the service does not start. `find` returns what is wrong, empty = none."""

    name: str
    is_fatal: bool
    find: Callable[[_Place], str]


def probe(client: S3Client, bucket: str) -> Collection[str]:
    """Warns of every broken promise this service can live without; returns by which methods the server writes only new objects.

    Raises:
        ServiceError: OBJECT_STORE_UNFIT naming all of those it cannot.
        S3Error, HTTPError: the server is away or overloaded, and may be asked again.
    """
    place = _Place(client, bucket, f"blobs/probe-{uuid.uuid4()}/")
    try:
        with writing_only_new(client, ()):
            broken = [(promise, found) for promise in _PROMISES if (found := _found(promise, place))]
    finally:
        _clean(place)
    for promise, found in broken:
        log.warning("object_store.degraded", promise=promise.name, found=found, fatal=promise.is_fatal)
    if fatal := [f"{promise.name}: {found}" for promise, found in broken if promise.is_fatal]:
        raise ServiceError("OBJECT_STORE_UNFIT", f"the S3 server does not keep what S3 promises: {'; '.join(fatal)}")
    return {method for method, condition in _CONDITIONS.items() if all(promise is not condition for promise, _ in broken)}


def _found(promise: _Promise, place: _Place) -> str:
    try:
        return promise.find(place)
    except S3Error as error:
        if error.response.status in (500, 502, 503, 504):
            raise
        return f"the server answers {error.code}: {error.message}"


def _clean(place: _Place) -> None:
    try:
        for name in place.names():
            place.remove(name)
    except S3Error as error:
        log.warning("object_store.probe_left", prefix=place.prefix, error=str(error)[:300])


def _storing(place: _Place) -> str:
    place.put("a", b"first")
    place.put("a", _SMALL)
    return "" if place.get("a") == _SMALL else "what was stored last does not come back"


def _ranges(place: _Place) -> str:
    if place.get("a", offset=1000) != _SMALL[1000:]:
        return "a read from an offset does not begin there"
    return "" if place.get("a", offset=7, length=9) == _SMALL[7:16] else "a read of a range has other bytes"


def _listing(place: _Place) -> str:
    place.put("b", b"")
    found = place.names()
    return "" if found == ["a", "b"] else f"of the objects a and b it lists {found[:5]}"


def _removal(place: _Place) -> str:
    place.remove("b")
    place.remove("b")
    return "a removed object is still there" if place.get("b") is not None or "b" in place.names() else ""


def _parts(place: _Place) -> str:
    """The second part goes first, as it may when somebody sends them at once."""
    client, bucket, key = place.client, place.bucket, place.prefix + "parts"
    upload = client._create_multipart_upload(bucket, key, {})
    etags = {number: client._upload_part(bucket, key, data, {}, upload, number) for number, data in ((2, b"end"), (1, _PART))}
    if place.get("parts") is not None:
        return "the object is there before its parts are joined"
    if [part.part_number for part in client._list_parts(bucket, key, upload).parts] != [1, 2]:
        return "the parts are not listed"
    client._complete_multipart_upload(bucket, key, upload, [Part(number, etags[number]) for number in (1, 2)])
    return "" if place.get("parts", offset=len(_PART) - 1) == _PART[-1:] + b"end" else "the joined object has other bytes"


def _checksums(place: _Place) -> str:
    wrong = base64.b64encode(hashlib.sha256(b"other bytes").digest()).decode()
    return _refused(lambda: place.put("damaged", _SMALL, x_amz_checksum_sha256=wrong), "bytes whose SHA-256 is wrong are taken")


def _conditions(place: _Place) -> str:
    with writing_only_new(place.client, {"PUT"}):
        return _refused(lambda: place.put("a", b"late"), "If-None-Match is ignored: a second writer wins")


def _conditional_joins(place: _Place) -> str:
    client, bucket, key = place.client, place.bucket, place.prefix + "a"
    upload = client._create_multipart_upload(bucket, key, {})
    part = Part(1, client._upload_part(bucket, key, b"late", {}, upload, 1))
    with writing_only_new(client, {"POST"}):
        found = _refused(
            lambda: client._complete_multipart_upload(bucket, key, upload, [part]),
            "If-None-Match is ignored where parts are joined: a second writer wins",
        )
    if not found:
        client._abort_multipart_upload(bucket, key, upload)
    return found


def _refused(write: Callable[[], object], otherwise: str) -> str:
    try:
        write()
    except S3Error as error:
        return "" if 400 <= error.response.status < 500 else f"the server answers {error.code}: {error.message}"
    return otherwise


_CONDITIONS = {
    "PUT": _Promise("conditional writes", False, _conditions),
    "POST": _Promise("conditional joins", False, _conditional_joins),
}
"""By the method that a server which keeps the promise is sent conditions with."""
# In this order: each relies on the ones before.
_PROMISES = (
    _Promise("storing", True, _storing),
    _Promise("reading ranges", True, _ranges),
    _Promise("listing", True, _listing),
    _Promise("removing", True, _removal),
    _Promise("uploads in parts", True, _parts),
    _Promise("checksums", False, _checksums),
    *_CONDITIONS.values(),
)
