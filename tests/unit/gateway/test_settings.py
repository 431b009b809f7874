"""What the gateway can be told, and what it refuses to be told."""

import dataclasses

import pytest

from services.common.config import ConfigError, load
from services.gateway.settings import PREFIX, GatewaySettings

NEEDED = {
    "TUNESMITH_GATEWAY_LISTEN": "127.0.0.1:8080",
    "TUNESMITH_GATEWAY_TASK_MANAGER_ADDRESS": "127.0.0.1:1",
    "TUNESMITH_GATEWAY_STORAGE_ADDRESS": "127.0.0.1:2",
    "TUNESMITH_GATEWAY_INFERENCE_ADDRESS": "127.0.0.1:3",
}


def settings(**changes: str) -> GatewaySettings:
    return load(GatewaySettings, PREFIX, {**NEEDED, **{PREFIX + name.upper(): value for name, value in changes.items()}})


def test_addresses_are_enough() -> None:
    found = settings()
    assert (found.storage_address, found.organization, found.api_key) == ("127.0.0.1:2", "tunesmith", "")


@pytest.mark.parametrize("name", NEEDED)
def test_without_one_of_them_it_does_not_start(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load(GatewaySettings, PREFIX, {key: value for key, value in NEEDED.items() if key != name})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_body_bytes": "0"}, "MAX_BODY_BYTES=0"),
        ({"max_file_bytes": "-1"}, "MAX_FILE_BYTES=-1"),
        ({"max_upload_bytes": "0"}, "MAX_UPLOAD_BYTES=0"),
        ({"max_requests": "0"}, "MAX_REQUESTS=0"),
        ({"max_connections": "0"}, "MAX_CONNECTIONS=0"),
        ({"requests_per_second": "-1"}, "REQUESTS_PER_SECOND"),
        ({"address_requests_per_second": "-1"}, "ADDRESS_REQUESTS_PER_SECOND"),
        ({"address_requests_per_second": "nan"}, "ADDRESS_REQUESTS_PER_SECOND"),
        ({"organization": "a:b"}, "ORGANIZATION"),
        ({"organization": ""}, "ORGANIZATION"),
        ({"header_timeout": "soon"}, "HEADER_TIMEOUT"),
        ({"max_bodybytes": "1"}, "did you mean TUNESMITH_GATEWAY_MAX_BODY_BYTES"),
        ({"listen": "0.0.0.0:8080"}, "reachable from outside"),
        ({"listen": "0.0.0.0:8080", "api_key": "k"}, "reachable from outside"),
        ({"tls_cert": "/x"}, "TLS needs both"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(changes: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings(**changes)


def test_the_key_is_read_from_a_file_and_not_shown(tmp_path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    found = settings(api_key_file=str(tmp_path / "key"))
    assert found.api_key == "sk-secret"
    assert "sk-secret" not in repr(found)


def test_every_limit_has_a_default() -> None:
    required = {field.name for field in dataclasses.fields(GatewaySettings) if field.default is dataclasses.MISSING}
    assert required == {"listen", "task_manager_address", "storage_address", "inference_address"}
