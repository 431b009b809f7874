"""What the trainer can be told, as `TUNESMITH_TRAINER_<NAME>`; read by `__main__`."""

import dataclasses
import datetime
import os
import pathlib

from services.common.config import ConfigError, Secret
from services.common.labels import MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS
from services.common.server import ServerSettings
from services.trainer import four_bit
from services.trainer.contact import Fence

_FENCING = ("relaxed", "strict")
_SHORTEST_FENCE = datetime.timedelta(seconds=1)
_KILL_SECONDS = 10.0
"""In which a supervisor has killed what is left of a run."""


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerSettings(ServerSettings):
    """Everything the trainer can be told."""

    storage_address: str
    """Where storage listens, as host:port."""
    storage_api_key: Secret = Secret("")
    """Key that storage asks for; empty = none."""
    storage_tls_ca: pathlib.Path | None = None
    """PEM file of the authority that signed storage's certificate; unset = no TLS."""
    inference_address: str = ""
    """Where the inference service listens, as host:port; without it evaluations and generations fail."""
    inference_api_key: Secret = Secret("")
    """Key that the inference service asks for; empty = none."""
    inference_tls_ca: pathlib.Path | None = None
    """PEM file of the authority that signed the inference service's certificate; unset = no TLS."""
    inference_questions: int = 16
    """Questions that one evaluation or generation asks at the same time."""
    data_dir: pathlib.Path
    """Where runs live; survives restarts, belongs to one trainer."""
    cache_dir: pathlib.Path
    """Where base models are kept; may be shared and may be emptied while nothing runs."""
    cache_max_bytes: int = 32 * 1024**3
    """Fetched files at most; those used longest ago go, but none that was used within the last hour. 0 = without limit."""
    processes: int = dataclasses.field(default_factory=_cores)
    """Ranks that may run at once over all runs."""
    labels: tuple[str, ...] = ()
    """What tasks may ask of a runner, as KEY=VALUE separated by commas, for example zone=a,disk=fast."""
    threads: int = 0
    """OMP_NUM_THREADS of a rank; 0 = cores divided by the run's processes."""
    stop_grace: datetime.timedelta = datetime.timedelta(seconds=10)
    """Time between SIGTERM and SIGKILL when a run is ended."""
    fencing: str = "relaxed"
    """What a trainer does that nobody asks for anything. relaxed: its runs go on, and commit nothing when another attempt
    has begun; strict: it ends them after `fencing_after`, and they are tried again from their checkpoints."""
    fencing_after: datetime.timedelta = datetime.timedelta(minutes=1)
    """How long strict fencing waits; several times TUNESMITH_TASK_MANAGER_ORPHAN_INTERVAL, at which trainers are asked."""
    stall_floor: datetime.timedelta = datetime.timedelta(minutes=10)
    """A run without progress for 20 times its usual step, and for at least so long, is reported as stalled."""
    run_retention: datetime.timedelta = datetime.timedelta(days=1)
    """How long the directory of a finished run is kept."""
    training_module: str = "services.trainer.training"
    """What a rank runs with `python -m`."""
    warm_processes: int = 1
    """Processes that are kept ready for runs of one process, with their imports done, while no run is active; 0 = none."""
    warm_module: str = "services.trainer.training.practice"
    """What imports all that `training_module` needs, and may do beforehand what every run does first."""
    warm_base_max_bytes: int = 512 * 1024**2
    """Such a process also reads the base model of the newest run, if its files have at most so many bytes; its weights can take
    twice as many in memory, and give way to every run that does not use them. 0 = none."""
    speed_module: str = "services.trainer.training.speed"
    """What measures the machine's speed once with `python -m`, while nothing runs; empty = nothing does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.processes < 1:
            raise ConfigError(f"TUNESMITH_TRAINER_PROCESSES={self.processes}: expected at least 1")
        if self.inference_questions < 1:
            raise ConfigError(f"TUNESMITH_TRAINER_INFERENCE_QUESTIONS={self.inference_questions}: expected at least 1")
        if self.warm_processes < 0:
            raise ConfigError(f"TUNESMITH_TRAINER_WARM_PROCESSES={self.warm_processes}: expected 0 or more")
        if self.warm_base_max_bytes < 0:
            raise ConfigError(f"TUNESMITH_TRAINER_WARM_BASE_MAX_BYTES={self.warm_base_max_bytes}: expected 0 or more")
        if self.cache_max_bytes < 0:
            raise ConfigError(f"TUNESMITH_TRAINER_CACHE_MAX_BYTES={self.cache_max_bytes}: expected 0 or more")
        if self.threads < 0:
            raise ConfigError(f"TUNESMITH_TRAINER_THREADS={self.threads}: expected 0 or more")
        if self.fencing not in _FENCING:
            raise ConfigError(f"TUNESMITH_TRAINER_FENCING={self.fencing!r}: expected {' or '.join(_FENCING)}")
        if self.fencing_after < _SHORTEST_FENCE:
            raise ConfigError(f"TUNESMITH_TRAINER_FENCING_AFTER: expected at least {_SHORTEST_FENCE.total_seconds():g}s")
        self.label_map()

    def fence(self) -> Fence | None:
        """None = relaxed."""
        return Fence.within(self.data_dir, self.fencing_after.total_seconds()) if self.fencing == "strict" else None

    def label_map(self) -> dict[str, str]:
        """Value by key; raises ConfigError."""
        found: dict[str, str] = {}
        for text in self.labels:
            key, equals, value = (part.strip() for part in text.partition("="))
            if key == four_bit.LABEL:
                raise ConfigError(f"TUNESMITH_TRAINER_LABELS: {text!r}: whether it is so, the trainer finds out by itself")
            if not equals or not 1 <= len(key) <= MAX_LABEL_KEY or len(value) > MAX_LABEL_VALUE or key in found:
                raise ConfigError(
                    f"TUNESMITH_TRAINER_LABELS: {text!r} is no KEY=VALUE, has a key that was there before,"
                    f" or more than {MAX_LABEL_KEY} characters in the key or {MAX_LABEL_VALUE} in the value"
                )
            found[key] = value
        if len(found) > MAX_LABELS:
            raise ConfigError(f"TUNESMITH_TRAINER_LABELS: {len(found)} labels; at most {MAX_LABELS} are permitted")
        return found

    def fenced_after(self) -> float:
        """Seconds after the last question in which no run has a process any more; 0 = they go on."""
        fence = self.fence()
        return fence.limit + self.stop_grace.total_seconds() + _KILL_SECONDS if fence else 0.0

    def inference_environment(self) -> dict[str, str]:
        """What a process that asks models is told of the inference service."""
        told = {"ADDRESS": self.inference_address, "API_KEY": str(self.inference_api_key)}
        told |= {"TLS_CA": str(self.inference_tls_ca.resolve()) if self.inference_tls_ca else ""}
        told |= {"QUESTIONS": str(self.inference_questions)}
        return {f"TUNESMITH_RUN_INFERENCE_{name}": value for name, value in told.items() if value}

    def threads_for(self, processes: int) -> int:
        """OMP_NUM_THREADS for each rank of a run with so many."""
        return self.threads or max(1, _cores() // processes)
