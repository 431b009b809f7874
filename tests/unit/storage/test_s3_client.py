"""What is signed of a request: the bytes of a large body only where the way to the server does not protect them."""

import hashlib

import minio
import pytest

from services.storage.s3_client import s3_client

LARGE, SMALL = b"x" * 2**16, b"x" * (2**16 - 1)


def signed(endpoint: str, body: bytes | memoryview | None) -> dict[str, str]:
    """The headers of a request to that endpoint."""
    client = s3_client(endpoint, "access", "secret", "us-east-1")
    headers, _ = client._build_headers("host", {}, body, minio.credentials.Credentials("access", "secret"))
    return headers


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8333", "http://localhost:8333", "https://s3.example.com"])
def test_on_a_protected_way_a_large_body_has_no_second_checksum(endpoint: str) -> None:
    for body in (LARGE, memoryview(LARGE)):
        headers = signed(endpoint, body)
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert headers["Content-Length"] == str(len(LARGE))
        assert "Content-MD5" not in headers


@pytest.mark.parametrize("endpoint", ["http://10.0.0.5:8333", "http://s3.lab:8333"])
def test_on_a_plain_network_every_byte_is_signed(endpoint: str) -> None:
    for body in (LARGE, memoryview(LARGE)):
        assert signed(endpoint, body)["x-amz-content-sha256"] == hashlib.sha256(LARGE).hexdigest()


def test_a_small_body_is_signed_on_every_way() -> None:
    assert signed("http://127.0.0.1:8333", SMALL)["x-amz-content-sha256"] == hashlib.sha256(SMALL).hexdigest()
    assert "Content-MD5" in signed("https://s3.example.com", SMALL)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8333", "https://s3.example.com"])
def test_a_request_without_body_is_as_the_sdk_makes_it(endpoint: str) -> None:
    address, secure = endpoint.rpartition("/")[2], endpoint.startswith("https")
    plain = minio.Minio(address, "access", "secret", secure=secure, region="us-east-1")
    ours, theirs = signed(endpoint, None), plain._build_headers("host", {}, None, plain._provider.retrieve())[0]
    del ours["x-amz-date"], theirs["x-amz-date"]
    assert ours == theirs
