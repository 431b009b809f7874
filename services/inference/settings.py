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
    cache_max_bytes: int = 32 * 1024**3
    """Fetched files at most; those used longest ago go, but none that was used within the last hour. 0 = without limit."""
    max_loaded_bytes: int = 4 * 1024**3
    """Weights in memory at most; the least recently used models make room. One model may be larger: then it is alone."""
    ahead_max_bytes: int = 2 * 1024**3
    """Models that take at most so many bytes in memory are loaded before anybody asks them where a caller wants it, as trainers
    do for the base models of their fine-tunings: within `max_loaded_bytes`, without another being unloaded, in at most half of
    the memory that the machine, and a GPU that vLLM takes, have left. 0 = none."""
    pack_up_to_bytes: int = 1024**3
    """Base models of at most so many bytes in fp32 are kept twice, the second time in the order that a CPU reads fastest for
    several questions at once; 0 = none."""
    engine: str = "transformers"
    """What computes: `transformers` (CPU, exact as trained) or `vllm` (a GPU, or its CPU build), see docs/how-to/chat.md."""
    engine_python: pathlib.Path | None = None
    """Interpreter of the environment that the engine's process runs in; absent = this service's own. vLLM needs another."""
    vllm_cache_bytes: int = 4 * 1024**3
    """Memory that vLLM sets aside for keys and values, for each base model."""
    precision: str = "float32"
    """`float32`, or `bfloat16`: products with base weights are rounded to 8 bits of mantissa, which on CPUs with bf16
    instructions may take less time and changes some answers, see docs/benchmarks/inference.md. Of the engine
    `transformers`, for models within `pack_up_to_bytes`."""
    threads: int = 0
    """CPU threads of the tensor library; 0 = one per core."""
    max_running: int = 16
    """Questions that are answered at the same time; the others wait in the order they came."""
    max_waiting: int = 256
    """Questions that wait at most; more are refused with TOO_MANY_QUESTIONS."""
    prefix_tokens: int = 2048
    """Prompt tokens of each base model whose keys and values are remembered: the same beginning is read once; 0 = none."""
    pinned_models: tuple[str, ...] = ()
    """Models that are loaded at the start and stay, separated by commas, as in requests: base models, artifacts, tasks, …"""
    idle_unload_seconds: int = 1800
    """A model that has not been used for so long is unloaded; 0 = never."""
    max_batch_tokens: int = 65536
    """Tokens of conversation and answer that are kept at the same time, each question counted as long as the longest."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        if self.max_loaded_bytes <= 0:
            raise ConfigError(f"{PREFIX}MAX_LOADED_BYTES={self.max_loaded_bytes}: expected more than 0")
        for name, known in (("engine", ("transformers", "vllm")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{PREFIX}{name.upper()}={getattr(self, name)}: expected {' or '.join(known)}")
        for name in (
            "threads",
            "max_waiting",
            "prefix_tokens",
            "idle_unload_seconds",
            "pack_up_to_bytes",
            "cache_max_bytes",
            "ahead_max_bytes",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{PREFIX}{name.upper()}={getattr(self, name)}: expected 0 or more")
        for name in ("max_running", "max_batch_tokens", "vllm_cache_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{PREFIX}{name.upper()}={getattr(self, name)}: expected more than 0")
