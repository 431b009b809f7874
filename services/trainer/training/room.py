"""Whether the disk has room for all that a run will write, judged before its first step; used by `__main__`."""

from pathlib import Path

from services.trainer.training.config import TrainConfig
from services.trainer.training.diagnosis.disk import foreseen
from services.trainer.training.events import EventSink

# A trained weight and the two moments of AdamW, fp32; the result has the weight alone.
_CHECKPOINT_BYTES, _RESULT_BYTES = 12, 4


def check_room(config: TrainConfig, checkpoints: Path, counts: tuple[int, int], sink: EventSink) -> None:
    """An anomaly when it will be tight; raises ServiceError DISK_FULL when not even one checkpoint and the result fit.

    `counts` are the model's numbers: trained, all.
    """
    trained, parameters = counts
    finding = foreseen(
        checkpoints,
        checkpoint=_CHECKPOINT_BYTES * trained,
        kept=config.hyperparameters.save_total_limit,
        result=_RESULT_BYTES * (trained if config.has_adapter else parameters),
    )
    if finding is not None:
        sink.anomaly(finding.reason, finding.message, finding.step)
