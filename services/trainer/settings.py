"""What the trainer can be told, as `TUNESMITH_TRAINER_<NAME>`; read by `__main__`."""

import dataclasses
import datetime
import os
import pathlib

from services.common.config import ConfigError, Secret
from services.common.server import ServerSettings


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
    processes: int = dataclasses.field(default_factory=_cores)
    """Ranks that may run at once over all runs."""
    threads: int = 0
    """OMP_NUM_THREADS of a rank; 0 = cores divided by the run's processes."""
    stop_grace: datetime.timedelta = datetime.timedelta(seconds=10)
    """Time between SIGTERM and SIGKILL when a run is ended."""
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
        if self.threads < 0:
            raise ConfigError(f"TUNESMITH_TRAINER_THREADS={self.threads}: expected 0 or more")

    def inference_environment(self) -> dict[str, str]:
        """What a process that asks models is told of the inference service."""
        told = {"ADDRESS": self.inference_address, "API_KEY": str(self.inference_api_key)}
        told |= {"TLS_CA": str(self.inference_tls_ca.resolve()) if self.inference_tls_ca else ""}
        told |= {"QUESTIONS": str(self.inference_questions)}
        return {f"TUNESMITH_RUN_INFERENCE_{name}": value for name, value in told.items() if value}

    def threads_for(self, processes: int) -> int:
        """OMP_NUM_THREADS for each rank of a run with so many."""
        return self.threads or max(1, _cores() // processes)
