"""Settings of the gateway; read by `__main__` under the prefix TUNESMITH_GATEWAY_."""

import dataclasses
import datetime
import pathlib

from services.common.config import ConfigError, Secret
from services.common.server import ServerSettings

PREFIX = "TUNESMITH_GATEWAY_"
MIB = 1024**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewaySettings(ServerSettings):
    """What the gateway can be told."""

    task_manager_address: str
    """The task manager as host:port."""
    storage_address: str
    """The storage service as host:port."""
    inference_address: str
    """The inference service as host:port."""
    peer_api_key: Secret = Secret("")
    """Key to send to the other services; empty = none."""
    peer_tls_ca: pathlib.Path | None = None
    """PEM certificate that the certificates of the other services are checked against; absent = no TLS."""
    organization: str = "tunesmith"
    """What stands for the organization in jobs and in names of tuned models: letters, digits, - and _."""
    max_body_bytes: int = 8 * MIB
    """Largest JSON body."""
    max_file_bytes: int = 512 * MIB
    """Largest file of one upload."""
    max_upload_bytes: int = 8 * 1024 * MIB
    """Largest file of an upload in parts."""
    requests_per_second: float = 200.0
    """Requests a second for each key, or for each address when no key is asked for; as many may come at once. 0 = no limit."""
    address_requests_per_second: float = 1000.0
    """Requests a second from one address, counted before the key is looked at; as many may come at once. 0 = no limit."""
    max_connections: int = 2000
    """Connections open at the same time; further ones are closed at once."""
    max_requests: int = 1000
    """Requests answered at the same time, streams included."""
    header_timeout: datetime.timedelta = datetime.timedelta(seconds=15)
    """A connection that has not sent the head of a request after this time is closed."""
    body_timeout: datetime.timedelta = datetime.timedelta(seconds=30)
    """A request whose body pauses longer than this is refused."""
    call_timeout: datetime.timedelta = datetime.timedelta(seconds=60)
    """Deadline of a call to another service that neither trains nor answers."""
    chat_timeout: datetime.timedelta = datetime.timedelta(minutes=10)
    """Deadline of an answer; the first one of a model includes loading it."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        for name in ("max_body_bytes", "max_file_bytes", "max_upload_bytes", "max_requests", "max_connections"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{PREFIX}{name.upper()}={getattr(self, name)}: expected more than 0")
        for name in ("requests_per_second", "address_requests_per_second"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{PREFIX}{name.upper()}={getattr(self, name)}: expected 0 or more")
        if not self.organization.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{PREFIX}ORGANIZATION={self.organization!r}: expected letters, digits, - and _")
