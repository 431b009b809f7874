"""The MinIO SDK's client as this service uses it: timeouts, retries, and no second checksum where the way protects the bytes."""

import datetime
import urllib.parse
from typing import Any

import minio
import urllib3

from services.common.addresses import is_loopback

_CONNECTIONS = 32
# Of smaller bodies the checksum costs nothing, and some servers insist on it for their own documents.
_LARGE_BYTES = 2**16


class _Client(minio.Minio):  # type: ignore[misc]
    """Signs requests without the checksum of large bodies, on a way that loses no byte by itself.

    The SDK computes SHA-256 of every body for the signature, MD5 over TLS. Uploads have been compared with the SHA-256 of the
    whole file before an object appears; over TLS, which checks each record, and on loopback, which has no wire, one more checksum
    tells nothing.
    """

    is_protected = False

    def _build_headers(
        self, host: str, headers: dict[str, Any] | None = None, body: bytes | memoryview | None = None, creds: Any = None
    ) -> tuple[dict[str, Any], datetime.datetime]:
        if not self.is_protected or body is None or len(body) < _LARGE_BYTES:
            return super()._build_headers(host, headers, body, creds)  # type: ignore[no-any-return]
        built, date = super()._build_headers(host, headers, None, creds)
        built.pop("Content-MD5", None)
        built |= {"Content-Length": str(len(body)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        return built, date


def s3_client(endpoint: str, access_key: str, secret_key: str, region: str) -> minio.Minio:
    """A client of `http://host:port` or `https://host:port`; it connects when it is first asked something."""
    address = urllib.parse.urlsplit(endpoint)
    client = _Client(
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
