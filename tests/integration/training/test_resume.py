"""A run that dies at any point and starts again ends as if nothing had happened: equal losses, equal adapter, to the bit."""

import asyncio
import errno
import itertools
import os
import shutil
import signal
import uuid
from types import SimpleNamespace

import pytest
from tiny_model import make_tiny_model
from training_in_process import TIMING, Killed, configured, run, weights_sha256
from training_ranks import Ranks
from training_rows import rows

from services.trainer.checkpoint_files import checkpoints, step_of
from services.trainer.kinds.fine_tuning_ask import FineTuning
from services.trainer.restoring import Restoring
from services.trainer.storage_client import AdapterFile, StoredCheckpoint
from services.trainer.training import assembly, engine, lanes

pytestmark = pytest.mark.integration

STEPS = 12
NUMBERS = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "eval_steps": 4,
    "logging_steps": 2,
    "save_steps": 3,
    "lora": {"dropout": 0.1},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", params=[0, 2], ids=["zero0", "zero2"])
def unbroken(request, tmp_path_factory, model):
    """(the changes it runs with, its values, its adapter)."""
    changes = NUMBERS | {"zero_stage": request.param}
    config = configured(tmp_path_factory.mktemp("unbroken"), model, **changes)
    recorder, died = run(config)
    assert not died
    return changes, recorder.values, weights_sha256(config)


def die_in_call(monkeypatch, owner, name, number, *, after=False):
    """The `number`th call of a method, from 1, ends the process before or after its work."""
    method, calls = getattr(owner, name), iter(range(1, 1_000_000))

    def dying(*args, **kwargs):
        count = next(calls)
        if count == number and not after:
            raise Killed
        result = method(*args, **kwargs)
        if count == number:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


POINTS = [
    *(("accumulate", step, True) for step in range(1, STEPS + 1, 2)),
    *(("apply", step, True) for step in range(2, STEPS + 1, 2)),
    *(("evaluate", number, False) for number in (1, 2, 3)),
]
if os.environ.get("TUNESMITH_EVERY_KILL_POINT"):  # `make bench`
    METHODS = ("accumulate", "measure", "apply")
    POINTS = [(method, step, after) for method in METHODS for step in range(1, STEPS + 1) for after in (False, True)]
    POINTS += [("evaluate", number, after) for number in (1, 2, 3) for after in (False, True)]


@pytest.mark.parametrize(("method", "number", "after"), POINTS, ids=str)
def test_a_run_that_dies_anywhere_continues_to_the_same_end(tmp_path, monkeypatch, model, unbroken, method, number, after):
    from services.trainer.training.engine import Engine

    changes, values, adapter = unbroken
    config = configured(tmp_path, model, **changes)
    with monkeypatch.context() as patch:
        die_in_call(patch, Engine, method, number, after=after)
        first, died = run(config)
    assert died
    second, died = run(config)
    assert not died
    assert second.plan["resumed_step"] == max(first.saved, default=0)
    # What was reported before the death and is reported again is equal too: both are compared with the unbroken run.
    assert first.values.items() <= values.items()
    assert first.values | second.values == values
    assert weights_sha256(config) == adapter


@pytest.fixture
def two_lanes(monkeypatch):
    """Every micro-batch is divided, however small it is; returns how often that was done."""
    divisions, divided = [], engine.divided
    monkeypatch.setattr(lanes, "_WORTH_A_LANE", 1)
    monkeypatch.setattr(assembly, "most_lanes", lambda *_, **__: 2)
    monkeypatch.setattr(engine, "divided", lambda *given: divisions.append(1) or divided(*given))
    return divisions


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_rows_on_two_threads_give_the_same_bits_after_a_death_and_what_one_thread_gives(
    tmp_path, monkeypatch, model, two_lanes, zero_stage
):
    changes = NUMBERS | {"zero_stage": zero_stage, "lora": {"dropout": 0.0}}
    config = configured(tmp_path / "unbroken", model, **changes)
    unbroken, _ = run(config)
    assert len(two_lanes) > STEPS
    again = configured(tmp_path / "killed", model, **changes)
    with monkeypatch.context() as patch:
        die_in_call(patch, engine.Engine, "apply", 7)
        assert run(again)[1]
    second, died = run(again)
    assert not died
    assert second.values.items() <= unbroken.values.items()
    assert weights_sha256(again) == weights_sha256(config)

    monkeypatch.setattr(assembly, "most_lanes", lambda *_, **__: 1)
    alone, _ = run(configured(tmp_path / "alone", model, **changes))
    assert alone.values.keys() == unbroken.values.keys()
    for place, value in alone.values.items():
        assert float.fromhex(value) == pytest.approx(float.fromhex(unbroken.values[place]), rel=1e-3, abs=1e-5), place


def asked(config):
    """What the run was asked for, as the trainer keeps it."""
    numbers = config["hyperparameters"]
    return FineTuning("baseModels/tiny", (), "", None, config["method"], config["tuning"], numbers, ())


class Shelf:
    """What the face has brought to storage of the run in a directory; `damaged` steps arrive with other bytes."""

    def __init__(self, checkpoints, damaged=()):
        self._checkpoints = checkpoints
        self._damaged = damaged

    async def list_checkpoints(self, task):
        return [self._stored(path) for path in checkpoints(self._checkpoints)]

    async def fetch_file(self, artifact, file, target):
        data = (self._checkpoints / artifact / file.path).read_bytes()
        target.write_bytes(data[:-1] if step_of(artifact) in self._damaged else data)

    def _stored(self, path):
        files = tuple(AdapterFile(file.name, file.stat().st_size, "") for file in path.iterdir())
        return StoredCheckpoint(path.name, step_of(path.name), 1, files, 0.0)


@pytest.mark.parametrize(("damaged", "step"), [((), 6), ((6,), 4), ((6, 4), 0)], ids=["whole", "newest damaged", "all damaged"])
def test_a_run_whose_trainer_is_gone_continues_on_another_to_the_same_end(tmp_path, monkeypatch, model, unbroken, damaged, step):
    from services.trainer.training.engine import Engine

    changes, values, adapter = unbroken
    lost = configured(tmp_path / "lost", model, **changes)
    with monkeypatch.context() as patch:
        die_in_call(patch, Engine, "apply", 7, after=True)
        first, _ = run(lost)
    elsewhere = configured(tmp_path / "elsewhere", model, **changes)
    request = SimpleNamespace(name=SimpleNamespace(task_id=uuid.UUID(int=1), attempt=2), first_attempt=0, ask=asked(elsewhere))
    directory = SimpleNamespace(request=request, checkpoints=tmp_path / "elsewhere/checkpoints")
    restoring = Restoring(Shelf(tmp_path / "lost/checkpoints", damaged))
    assert asyncio.run(restoring.restore(directory, lambda text, severity="INFO": None)) == step
    shutil.rmtree(tmp_path / "lost")
    second, _ = run(elsewhere)
    assert second.plan["resumed_step"] == step
    assert (first.values | second.values, weights_sha256(elsewhere)) == (values, adapter)


VARIANTS = {
    "dpo": {"method": "dpo"},
    "dpo of all weights": {"method": "dpo", "tuning": "full", "learning_rate": 1e-3},
    "kto": {"method": "kto"},
    "classification": {"method": "classification"},
    "all weights": {"tuning": "full", "learning_rate": 1e-3},
    "all weights, zero 2": {"tuning": "full", "learning_rate": 1e-3, "zero_stage": 2},
    "all weights, zero 3": {"tuning": "full", "learning_rate": 1e-3, "zero_stage": 3},
    "fp16": {"precision": "fp16"},
    "dora": {"lora": {"dropout": 0.1, "use_dora": True}},
    "the last layer": {"lora": {"dropout": 0.1, "last_layers": 1}},
    "zero 3": {"zero_stage": 3},
    "zero 3, weights in parts": {
        "zero_stage": 3,
        "deepspeed_overrides": '{"zero_optimization": {"stage3_param_persistence_threshold": 1}}',
    },
    "zero 2, optimizer on the host": {
        "zero_stage": 2,
        "deepspeed_overrides": '{"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}',
    },
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def variant(request, tmp_path_factory, model):
    """The same of another method or tuning, its log never read between two checkpoints."""
    changes = NUMBERS | {"logging_steps": 5} | request.param
    changes["rows"] = rows(changes.get("method", "sft"))
    config = configured(tmp_path_factory.mktemp("variant"), model, **changes)
    recorder, died = run(config)
    assert not died
    return changes, recorder.values, weights_sha256(config)


@pytest.mark.parametrize(("method", "number", "after"), [("accumulate", 2, True), ("evaluate", 2, False), ("apply", 8, True)])
def test_what_a_method_or_tuning_has_learned_and_counted_survives(tmp_path, monkeypatch, model, variant, method, number, after):
    from services.trainer.training.engine import Engine

    changes, values, weights = variant
    config = configured(tmp_path, model, **changes)
    with monkeypatch.context() as patch:
        die_in_call(patch, Engine, method, number, after=after)
        first, died = run(config)
    assert died
    second, _ = run(config)
    assert second.plan["resumed_step"] == max(first.saved, default=0)
    assert first.values.items() <= values.items()
    assert first.values | second.values == values
    assert weights_sha256(config) == weights


def test_a_run_that_dies_again_and_again_still_comes_to_the_same_end(tmp_path, monkeypatch, model, unbroken):
    from services.trainer.training.engine import Engine

    changes, values, adapter = unbroken
    config, told, deaths = configured(tmp_path, model, **changes), {}, 0
    while True:
        with monkeypatch.context() as patch:
            die_in_call(patch, Engine, "apply", 4, after=True)
            recorder, died = run(config)
        told |= recorder.values
        if not died:
            break
        deaths += 1
    assert deaths == 3  # four steps a life, the fourth is lost each time
    assert (told, weights_sha256(config)) == (values, adapter)


def test_a_run_that_is_stopped_continues_behind_the_step_under_way_and_owes_no_validation(tmp_path, monkeypatch, model, unbroken):
    from services.trainer.training.engine import Engine

    changes, values, adapter = unbroken
    config, told = configured(tmp_path, model, **changes), {}
    for resumed, stop in ((0, 4), (4, 1), (5, 3), (8, 4)):
        with monkeypatch.context() as patch:
            term_after(patch, Engine, stop)
            recorder, _ = run(config)
        assert recorder.plan["resumed_step"] == resumed
        assert recorder.saved[-1] == resumed + stop
        assert not (tmp_path / "output").exists()
        told |= recorder.values
    recorder, _ = run(config)
    assert recorder.plan["resumed_step"] == STEPS
    assert (told | recorder.values, weights_sha256(config)) == (values, adapter)


def term_after(monkeypatch, engine, number):
    """SIGTERM comes while the `number`th step is worked on."""
    method, calls = engine.accumulate, itertools.count(1)

    def accumulate(*args):
        if next(calls) == number:
            signal.raise_signal(signal.SIGTERM)
        return method(*args)

    monkeypatch.setattr(engine, "accumulate", accumulate)


def test_a_checkpoint_of_other_numbers_is_left_out(tmp_path, model):
    config = configured(tmp_path, model, **NUMBERS)
    assert run(config)[0].saved
    other, _ = run(configured(tmp_path, model, **NUMBERS | {"weight_decay": 0.1, "seed": 43}))
    assert other.plan["resumed_step"] == 0
    often, _ = run(configured(tmp_path, model, **NUMBERS | {"seed": 43, "logging_steps": 1, "save_steps": 5}))
    assert often.plan["resumed_step"] == STEPS, "how often things are written down does not matter"


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
@pytest.mark.parametrize("name", ["shared.safetensors", "rank-0.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_costs_steps_and_nothing_else(tmp_path, monkeypatch, model, unbroken, name, damage):
    from services.trainer.training.engine import Engine

    changes, values, adapter = unbroken
    config = configured(tmp_path, model, **changes)
    with monkeypatch.context() as patch:
        die_in_call(patch, Engine, "apply", 7, after=True)
        first, _ = run(config)
    assert first.saved == [3, 4, 6]
    harm(tmp_path / "checkpoints/step-6" / name, damage)
    second, _ = run(config)
    assert second.plan["resumed_step"] == 4
    assert (first.values | second.values, weights_sha256(config)) == (values, adapter)


def harm(path, damage):
    data = path.read_bytes()
    path.unlink()
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        path.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])


def test_the_newest_few_and_the_best_checkpoint_stay(tmp_path, model):
    config = configured(tmp_path, model, **NUMBERS | {"save_steps": 1, "eval_steps": 2, "save_total_limit": 3})
    recorder, _ = run(config)
    assert recorder.saved == list(range(1, STEPS + 1))
    losses = {step: float.fromhex(value) for (step, name), value in recorder.values.items() if name == "eval_loss"}
    best = min(losses, key=losses.__getitem__)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {f"step-{step}" for step in {10, 11, 12, best}}


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch, model, unbroken):
    from services.trainer.training import durable

    changes, values, adapter = unbroken
    config, full = configured(tmp_path, model, **changes), iter([True] * 2)
    write = os.write

    def failing(descriptor, data):
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(durable.os, "write", failing)
    recorder, _ = run(config)
    assert [(reason, step) for reason, _, step in recorder.anomalies] == [("DISK_FULL", 3), ("DISK_FULL", 4)]
    assert "No space left" in recorder.anomalies[0][1]
    assert recorder.saved[0] == 6
    assert (recorder.values, weights_sha256(config)) == (values, adapter)


def reported(outcome):
    """As Recorder.values."""
    return {
        (event["step"], name): float(value).hex()
        for event in outcome.of_kind("metrics")
        for name, value in event["values"].items()
        if name not in TIMING
    }


@pytest.mark.parametrize(("processes", "stage"), [(1, 0), (2, 2), (2, 3)])
def test_processes_killed_with_sigkill_continue_to_the_same_end(tmp_path, model, processes, stage):
    changes = NUMBERS | {"num_processes": processes, "zero_stage": stage, "per_device_train_batch_size": 4 // processes}
    whole = configured(tmp_path / "whole", model, **changes)
    broken = configured(tmp_path / "broken", model, **changes)
    with Ranks(tmp_path / "whole", whole) as ranks:
        unbroken = ranks.finish()
    assert unbroken.exit_codes == [0] * processes, unbroken.log
    with Ranks(tmp_path / "broken", broken) as ranks:
        ranks.wait_for("checkpoint_saved", count=2)
        ranks.kill()
        killed = ranks.finish()
    assert killed.exit_codes == [-signal.SIGKILL] * processes
    with Ranks(tmp_path / "broken", broken) as ranks:
        resumed = ranks.finish()
    assert resumed.exit_codes == [0] * processes, resumed.log
    (started,) = resumed.of_kind("training_started")
    assert started["resumed_step"] >= 4
    assert reported(killed) | reported(resumed) == reported(unbroken)
    assert weights_sha256(broken) == weights_sha256(whole)
