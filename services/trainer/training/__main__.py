"""`python -m services.trainer.training CONFIG.json`: one rank of a training run, started by the trainer's supervisor.

The environment says which rank (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) and where events go
(TUNESMITH_EVENTS_FD); everything else is in CONFIG.json.

Exit codes: 0 = the result is saved, 1 = failed (an event says why), 143 = stopped by SIGTERM, after the step under way and a
checkpoint. Started again in the same directory, it continues from the newest whole checkpoint there.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.common.rendering import Renderer
from services.trainer.training.allocation import keep_freed_memory
from services.trainer.training.config import TrainConfig, load_config
from services.trainer.training.data import Dataset, load_dataset
from services.trainer.training.deepspeed_config import deepspeed_config
from services.trainer.training.events import EventSink, FdSink, NullSink
from services.trainer.training.failures import as_failure
from services.trainer.training.objectives.forms import FORMS
from services.trainer.training.progress import Progress, Result
from services.trainer.training.quiet import quiet_libraries
from services.trainer.training.schedule import total_steps

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
    progress = Progress()
    try:
        stopped = run(load_config(Path(sys.argv[1])), reports if rank == 0 else NullSink(), progress)
    except Exception as error:  # the top of the process: whatever it is becomes a failure of the catalogue
        failure = as_failure(error)
        if failure is not error:
            traceback.print_exc()
        reports.failure(failure, progress.step)
        _log.error("failed: %s: %s", failure.reason, failure.message)
        return 1
    return _STOPPED if stopped else 0


def run(config: TrainConfig, sink: EventSink, progress: Progress) -> bool:
    """The whole run on this rank; returns whether it was stopped early. Torch loads only after the data has proved usable."""
    training, validation = _load_data(config)
    quiet_libraries()
    keep_freed_memory()
    # Threads that wait for each other must sleep, not spin: beside any other busy process, spinning made a step 7 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from services.trainer.training.engine import Engine, local_device
    from services.trainer.training.export import save_json
    from services.trainer.training.fast import fast_decoder, merged
    from services.trainer.training.loop import train
    from services.trainer.training.model import ObjectiveModule, autocast_dtype, load_model, parameter_counts
    from services.trainer.training.objectives.registry import OBJECTIVES
    from services.trainer.training.precision import with_precision
    from services.trainer.training.resume import identity, resume
    from services.trainer.training.saver import Saver

    device = local_device()
    config = with_precision(config, device)
    numbers = config.hyperparameters
    objective = OBJECTIVES[config.method](training, numbers)
    training, validation = objective.arrange(training), validation and objective.arrange(validation)
    model = load_model(config, training.labels, device)
    trained, parameters = parameter_counts(model)
    _log.info("%s loaded: %s parameters, %s of them are trained", config.base_model, f"{parameters:,}", f"{trained:,}")
    decoder = fast_decoder(model, config)
    if decoder:
        numbers = merged(numbers, training.lengths, decoder.bytes_per_token)
        config = replace(config, hyperparameters=numbers)
    module = ObjectiveModule(model, objective, autocast_dtype(config), decoder)
    engine = Engine.start(module, objective, config, device)
    # The reference is the model before training: it is asked before a checkpoint takes its place.
    if objective.has_reference and config.tuning == "full":
        training = engine.with_reference(training, numbers)
        validation = validation and engine.with_reference(validation, numbers)
    _log.info("engine ready: %s on %s, %s, ZeRO stage %s", numbers.num_processes, device, numbers.precision, numbers.zero_stage)
    if engine.rank == 0:
        save_json(deepspeed_config(config), config.output_dir.parent / "deepspeed.json")
    directory, belongs_to = config.output_dir.parent / "checkpoints", identity(config, training)
    resumed = resume(engine, directory, belongs_to, progress)
    if resumed:
        _log.info("continuing from the checkpoint of step %s", resumed)
    sink.started(_plan(config, training, trained, parameters, str(device.type)) | {"resumed_step": resumed})
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    result = train(
        engine=engine,
        training=training,
        validation=validation,
        numbers=numbers,
        sink=sink,
        progress=progress,
        saver=Saver(directory, belongs_to, numbers, sink=sink, clock=time.monotonic),
        should_stop=stop.is_set,
        clock=time.monotonic,
    )
    if not result.stopped:
        with engine.whole_weights():
            if engine.rank == 0:
                _export(model, config, result, training)
    engine.close()
    return result.stopped


def _export(model: Any, config: TrainConfig, result: Result, training: Dataset) -> None:
    from services.trainer.training.export import save_adapter, save_model, save_result

    if config.tuning == "lora":
        save_adapter(model, config.output_dir)
    else:
        save_model(model, config.base_model_dir, config.output_dir)
    kind = "ADAPTER" if config.tuning == "lora" else "MODEL"
    save_result(result, kind, training.rendered_rows_sha256, config.output_dir.parent / "result.json")
    _log.info("%s saved after step %s", kind.lower(), result.step)


def _load_data(config: TrainConfig) -> tuple[Dataset, Dataset | None]:
    renderer = Renderer.from_directory(config.base_model_dir)
    limit, form = config.hyperparameters.max_seq_length, FORMS[config.method]
    if form.answers:
        renderer.check()
    training = load_dataset(config.train_file, renderer, limit, form)
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


if __name__ == "__main__":
    sys.exit(main())
