"""What is known of a task that can work; a plan is made of it."""

import dataclasses

from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import Inputs, Tokens
from services.task_manager.domain.throughput import RunKind
from services.task_manager.domain.training_data import RowCounts


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """The ask, the answers of storage, and what follows from both."""

    ask: FineTuning
    inputs: Inputs
    rows: RowCounts
    effective: Hyperparameters
    tokens: Tokens

    @property
    def max_seq_length(self) -> int:
        """Tokens of a row that training sees."""
        return self.effective.max_seq_length or 0

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.ask.tuning == "FULL"

    @property
    def run_kind(self) -> RunKind:
        """What makes the task comparable with earlier runs."""
        effective = self.effective
        return RunKind(
            base_model=self.ask.base_model,
            method=self.ask.method,
            tuning=self.ask.tuning,
            processes=effective.num_processes or 1,
            precision=effective.precision or "",
            lora_rank=effective.lora.rank or 0,
            target_modules=effective.lora.places,
            batch_size=effective.per_device_train_batch_size or 1,
        )
