"""When a run ends before its last planned step because its task says so: time is up, or the validation loss gets no better."""

from collections.abc import Callable

from services.trainer.training.config import Hyperparameters
from services.trainer.training.diagnosis.observation import Finding
from services.trainer.training.progress import Progress

TIME_LIMIT_REACHED = "TIME_LIMIT_REACHED"
EARLY_STOPPED = "EARLY_STOPPED"


class EarlyEnd:
    """One attempt's. `clock` gives seconds; what earlier attempts took and saw is in `progress`."""

    def __init__(self, numbers: Hyperparameters, progress: Progress, clock: Callable[[], float]) -> None:
        self._limit = numbers.time_limit_seconds
        self._patience = numbers.early_stopping_patience
        self._delta = numbers.early_stopping_min_delta or 0.0
        self._progress = progress
        self._clock = clock
        self._began = clock() - progress.seconds

    def is_out_of_time(self) -> bool:
        """Whether this rank's clock says so; clocks differ, so the ranks have to agree on it."""
        self._progress.seconds = self._clock() - self._began
        return self._limit is not None and self._progress.seconds >= self._limit

    def again(self, total: int) -> Finding | None:
        """What an earlier attempt ended with, if this attempt's numbers, `total` steps among them, still say so."""
        progress, before = self._progress, self._progress.ended
        progress.ended = ""
        if progress.done >= total:
            return None
        if before == TIME_LIMIT_REACHED and self._limit is not None and progress.seconds >= self._limit:
            return self.out_of_time(progress.done, total)
        if before == EARLY_STOPPED and self._is_out_of_patience():
            return self._stopped(progress.done, progress.metrics["eval_loss"])
        return None

    def out_of_time(self, step: int, total: int) -> Finding:
        """To be called once the ranks agree; ends the run."""
        self._progress.ended = TIME_LIMIT_REACHED
        message = f"the time limit of {self._limit:g} s was reached after step {step} of {total}"
        return Finding(TIME_LIMIT_REACHED, message, step)

    def evaluated(self, step: int, loss: float) -> Finding | None:
        """To be called with every validation loss, before it may become the best so far; a finding ends the run."""
        best = self._progress.best_eval_loss
        is_gain = best is None or loss < best - self._delta
        self._progress.evaluations_without_gain = 0 if is_gain else self._progress.evaluations_without_gain + 1
        return self._stopped(step, loss) if self._is_out_of_patience() else None

    def _is_out_of_patience(self) -> bool:
        return self._patience is not None and self._progress.evaluations_without_gain >= self._patience

    def _stopped(self, step: int, loss: float) -> Finding:
        """Ends the run; nobody runs out of patience before there is a best loss."""
        best = self._progress.best_eval_loss
        assert best is not None
        self._progress.ended = EARLY_STOPPED
        times = self._progress.evaluations_without_gain
        message = f"the validation loss did not become better {times} time{'s' if times > 1 else ''} in a row; it is {loss:.4g} "
        message += f"after step {step}, the best was {best:.4g} after step {self._progress.best_step}"
        return Finding(EARLY_STOPPED, message, step)
