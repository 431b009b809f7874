"""The MinIO SDK's client as this service uses it: timeouts, retries, conditional writes, and no second checksum where the way
protects the bytes."""

import contextlib
import datetime
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import minio
import urllib3

from services.common.addresses import is_loopback

_CONNECTIONS = 32
# Of smaller bodies the checksum costs nothing, and some servers insist on it for their own documents.
_LARGE_BYTES = 2**16


class S3Client(minio.Minio):  # type: ignore[misc]
    """Writes only new objects where it is told to, and signs no checksum of large bodies on a way that loses no byte by itself.

    The SDK computes SHA-256 of every body for the signature, MD5 over TLS. Uploads have been compared with the SHA-256 of the
    whole file before an object appears; over TLS, which checks each record, and on loopback, which has no wire, one more checksum
    tells nothing.
    """

    is_protected = False
    new_only: Collection[str] = ()
    """Methods whose requests carry `If-None-Match: *` when they make an object: PUT of a whole one, POST that joins parts."""

    # The SDK's uploads take no headers, and all of them come through here.
    def _execute(
        self,
        method: str,
        bucket_name: str | None = None,
        object_name: str | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        query_params: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        if method in self.new_only and object_name and _makes_object(method, query_params or {}):
            headers = {**(headers or {}), "If-None-Match": "*"}
        return super()._execute(method, bucket_name, object_name, headers=headers, query_params=query_params, **options)

    def _build_headers(
        self, host: str, headers: dict[str, Any] | None = None, body: bytes | memoryview | None = None, creds: Any = None
    ) -> tuple[dict[str, Any], datetime.datetime]:
        if not self.is_protected or body is None or len(body) < _LARGE_BYTES:
            return super()._build_headers(host, headers, body, creds)  # type: ignore[no-any-return]
        built, date = super()._build_headers(host, headers, None, creds)
        built.pop("Content-MD5", None)
        built |= {"Content-Length": str(len(body)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        return built, date


@contextlib.contextmanager
def writing_only_new(client: S3Client, methods: Collection[str]) -> Iterator[None]:
    """Inside the block requests by these methods refuse a key that is taken, and by others none."""
    before, client.new_only = client.new_only, methods
    try:
        yield
    finally:
        client.new_only = before


def s3_client(endpoint: str, access_key: str, secret_key: str, region: str) -> S3Client:
    """A client of `http://host:port` or `https://host:port`; it connects when it is first asked something."""
    address = urllib.parse.urlsplit(endpoint)
    client = S3Client(
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
    client.is_protected = address.scheme == "https" or is_loopback(address.netloc)
    return client


def _makes_object(method: str, query: Mapping[str, str]) -> bool:
    return not query if method == "PUT" else "uploadId" in query
