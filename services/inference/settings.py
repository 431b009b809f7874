"""Settings of the inference service; read by `__main__` under the prefix TUNESMITH_INFERENCE_."""

import dataclasses
import pathlib

from services.common.config import ConfigError, Secret
from services.common.server import ServerSettings

PREFIX = "TUNESMITH_INFERENCE_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSettings(ServerSettings):
    """What the inference service can be told."""

    storage_address: str
    """The storage service as host:port."""
    storage_api_key: Secret = Secret("")
    """Key to send to storage; empty = none."""
    storage_tls_ca: pathlib.Path | None = None
    """PEM certificate that storage's certificate is checked against; absent = no TLS."""
    cache_dir: pathlib.Path
    """Where fetched files of base models and artifacts are kept."""
    max_loaded_bytes: int = 4 * 1024**3
    """Weights in memory at most; the least recently used models make room. One model may be larger: then it is alone."""
    threads: int = 0
    """CPU threads of the tensor library; 0 = one per core."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        if self.max_loaded_bytes <= 0:
            raise ConfigError(f"{PREFIX}MAX_LOADED_BYTES={self.max_loaded_bytes}: expected more than 0")
        if self.threads < 0:
            raise ConfigError(f"{PREFIX}THREADS={self.threads}: expected 0 or more")
