"""`python -m services.trainer.training CONFIG.json`: one rank of a training run, started by the trainer's supervisor.

The environment says which rank (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) and where events go
(TUNESMITH_EVENTS_FD); everything else is in CONFIG.json.

Exit codes: 0 = the result is saved, 1 = failed (an event says why), 143 = stopped by SIGTERM, after the step under way and a
checkpoint. Started again in the same directory, it continues from the newest whole checkpoint there.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from services.common.rendering import Renderer
from services.trainer.training.config import TrainConfig, load_config
from services.trainer.training.data import Dataset, load_dataset
from services.trainer.training.events import BeatSink, EventSink, FdSink
from services.trainer.training.failures import as_failure
from services.trainer.training.kept_base import renderer_of
from services.trainer.training.objectives.forms import FORMS
from services.trainer.training.progress import Progress, Result
from services.trainer.training.schedule import total_steps

if TYPE_CHECKING:
    from services.trainer.training.verdict import HeadVerdict

_STOPPED = 128 + signal.SIGTERM
_log = logging.getLogger("tunesmith.training")


def main() -> int:
    """Run and report; returns the exit code."""
    # Until the loop runs there is nothing to finish first: leave at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_STOPPED))
    rank = int(os.environ["RANK"])
    reports = FdSink(int(os.environ["TUNESMITH_EVENTS_FD"]))
    # The first rank tells the story; the others speak up only when something is wrong.
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, stream=sys.stdout, format="%(message)s")
    # The supervisor asks for the stacks of a rank that does not move.
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    progress = Progress()
    try:
        stopped = run(load_config(Path(sys.argv[1])), reports if rank == 0 else BeatSink(reports), progress)
    except Exception as error:  # the top of the process: whatever it is becomes a failure of the catalogue
        failure = as_failure(error, progress.longest_row)
        if failure is not error:
            traceback.print_exc()
        reports.failure(failure, progress.step)
        _log.error("failed: %s: %s", failure.reason, failure.message)
        return 1
    return _STOPPED if stopped else 0


def run(config: TrainConfig, sink: EventSink, progress: Progress) -> bool:
    """The whole run on this rank; returns whether it was stopped early. Torch loads only after the data has proved usable."""
    renderer = renderer_of(config.base_model_dir)
    training, validation = _load_data(config, renderer, progress)
    from services.trainer.training import imports  # noqa: F401 - first: it prepares what the others import
    from services.trainer.training.assembly import assemble
    from services.trainer.training.loop import train
    from services.trainer.training.rehearsal import rehearse
    from services.trainer.training.resume import identity, resume, with_best_weights
    from services.trainer.training.room import check_room
    from services.trainer.training.samples import Samples
    from services.trainer.training.saver import Saver

    rank = assemble(config, training, validation)
    engine, numbers, device = rank.engine, rank.config.hyperparameters, rank.device.type
    engine.alive = lambda: sink.beat(progress.step, "busy")
    directory, belongs_to = config.output_dir.parent / "checkpoints", identity(rank.config, rank.training)
    resumed = resume(engine, directory, belongs_to, progress)
    check_room(config, directory, (rank.trained, rank.parameters), sink)
    rehearse(engine, rank.training, numbers, rank.model.config)
    sink.started(_plan(rank.config, rank.training, rank.trained, rank.parameters, device) | {"resumed_step": resumed})
    with Saver(directory, belongs_to, numbers, sink=sink, clock=time.monotonic) as saver:
        result = train(
            engine=engine,
            training=rank.training,
            validation=rank.validation,
            samples=Samples.asked_by(config, renderer),
            numbers=numbers,
            sink=sink,
            progress=progress,
            saver=saver,
            should_stop=_sigterm(),
            clock=time.monotonic,
        )
    result = with_best_weights(result, engine, directory, belongs_to, progress)
    evaluation = None if result.stopped else _verdict(rank, result)
    sink.beat(result.step, "end")
    if not result.stopped:
        _export(rank, config, result, evaluation)
    engine.close()
    return result.stopped


def _sigterm() -> Callable[[], bool]:
    """Whether it was sent; from now on it only asks."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop.is_set


def _verdict(rank: Any, result: Result) -> "HeadVerdict | None":
    """How good a head of labels is; None of everything else, which inference is asked about."""
    if rank.config.method != "classification" or rank.validation is None:
        return None
    from services.trainer.training.verdict import head_verdict

    numbers = rank.config.hyperparameters
    answers = rank.engine.answers(rank.validation, numbers)
    found = head_verdict(rank.training, rank.validation, answers, result.step, numbers.seed)
    _log.info("%s", found.result["summary"])
    return found


def _export(rank: Any, config: TrainConfig, result: Result, evaluation: "HeadVerdict | None") -> None:
    with rank.engine.whole_weights():
        if rank.engine.rank == 0:
            _save(rank, config, result, evaluation)


def _save(rank: Any, config: TrainConfig, result: Result, evaluation: "HeadVerdict | None") -> None:
    from services.trainer.training.export import save_adapter, save_model, save_result

    if config.has_adapter:
        save_adapter(rank.model, config.output_dir)
    else:
        save_model(rank.model, config.base_model_dir, config.output_dir)
    kind, run = "ADAPTER" if config.has_adapter else "MODEL", config.output_dir.parent
    if evaluation is not None and config.validation_file is not None:
        evaluation.save_rows(config.validation_file, run / "evaluation" / "rows.jsonl")
    found = evaluation.result if evaluation else None
    save_result(result, kind, rank.training.rendered_rows_sha256, run / "result.json", found)
    _log.info("%s saved after step %s", kind.lower(), result.step)


def _load_data(config: TrainConfig, renderer: Renderer, progress: Progress) -> tuple[Dataset, Dataset | None]:
    limit, form = config.hyperparameters.max_seq_length, FORMS[config.method]
    if form.answers:
        renderer.check()
    training = load_dataset(config.train_file, renderer, limit, form)
    progress.longest_row = max(training.lengths)
    counts = (len(training.examples), training.token_count, training.target_token_count)
    _log.info("%s examples, %s tokens, %s targets to learn from", *(f"{count:,}" for count in counts))
    if training.cuts.cut_count or training.cuts.left_out:
        _log.warning("%s", training.cuts.describe(limit))
    return training, load_dataset(config.validation_file, renderer, limit, form) if config.validation_file else None


def _plan(config: TrainConfig, training: Dataset, trained: int, parameters: int, device: str) -> dict[str, Any]:
    numbers = config.hyperparameters
    return {
        "total_steps": total_steps(numbers, len(training.examples)),
        "example_count": len(training.examples),
        "token_count": training.token_count,
        "target_token_count": training.target_token_count,
        "cut_example_count": training.cuts.cut_count,
        "left_out_example_count": len(training.cuts.left_out),
        "trainable_parameter_count": trained,
        "parameter_count": parameters,
        "num_processes": numbers.num_processes,
        "device": device,
        "precision": numbers.precision,
    }


def leave(code: int) -> NoReturn:
    """Ends the process here. All is saved and said; native threads of the tensor library that are still there could abort an
    orderly exit, and a run that went well would count as failed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
