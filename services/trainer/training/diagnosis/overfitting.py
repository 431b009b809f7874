"""A validation loss that turns up while training goes on."""

from services.trainer.training.diagnosis.observation import Finding

_IN_A_ROW = 2
_CLEARLY = 0.01


class Overfitting:
    """The validation loss is more than 1 % above its best for the second time in a row, and rising; told once for each best."""

    def __init__(self) -> None:
        self._best: tuple[float, int] | None = None
        self._before = 0.0
        self._worse = 0

    def evaluation(self, step: int, loss: float) -> Finding | None:
        """What to say after this measurement; `loss` is finite."""
        if self._best is None or loss < self._best[0]:
            self._best, self._worse, self._before = (loss, step), 0, loss
            return None
        best, best_step = self._best
        rises = loss > max(best * (1 + _CLEARLY), self._before)
        self._worse = self._worse + 1 if rises else 0
        self._before = loss
        if self._worse != _IN_A_ROW:
            return None
        text = f"the validation loss turns up: {best:.4g} after step {best_step}, {loss:.4g} after step {step}"
        hint = f"Train for {best_step} steps or set early_stopping_patience; the best checkpoint is that of step {best_step}."
        return Finding("OVERFITTING", text, step, suggestion=hint)
