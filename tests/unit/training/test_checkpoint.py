"""A checkpoint is whole or it is not one: dying or failing at every system call of a save, and damage to every byte."""

import errno
import json
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from training_configs import numbers

from services.trainer.checkpoint_files import SHARED, FileEntry, Manifest, Torn, check, checkpoints, rank_file
from services.trainer.training import checkpoint, parts
from services.trainer.training.checkpoint import read_tensors, write_tensors
from services.trainer.training.durable import exchange
from services.trainer.training.parts import Part, Trouble, announce
from services.trainer.training.progress import Progress
from services.trainer.training.resume import newest
from services.trainer.training.retention import prune, unfinished
from services.trainer.training.saver import Saver
from services.trainer.training.snapshot import Snapshot

IDENTITY = {"method": "sft", "seed": 1}
CALLS = ("open", "write", "fsync", "close", "rename", "mkdir", "unlink", "rmdir")


class Killed(BaseException):
    """The process dies here."""


class FakeEngine:
    """Weights that tell their step; `others` says what the other ranks write: (entries, trouble) each."""

    rank = 0

    def __init__(self, directory, others=()):
        self.step = 0
        self._directory = directory
        self._others = list(others)

    def snapshot(self):
        return Snapshot({"weight/a": torch.full((8,), float(self.step))}, {"random/cpu": torch.arange(16)})

    def exchange(self, values):
        work = unfinished(self._directory, self.step, values[0])
        for rank, (entries, trouble) in enumerate(self._others, 1):
            work.mkdir(parents=True, exist_ok=True)
            announce(Part(work, rank, 0, None, None), entries, trouble)
        return [list(values), *([0] for _ in self._others)]


@dataclass
class ListSink:
    saved: list = field(default_factory=list)
    anomalies: list = field(default_factory=list)
    beats: list = field(default_factory=list)

    def checkpoint_saved(self, step, name, size_bytes, metrics):
        self.saved.append((step, name, size_bytes, dict(metrics)))

    def beat(self, step, phase=""):
        self.beats.append((step, phase))

    def anomaly(self, reason, message, step):
        self.anomalies.append((reason, message, step))


class Run:
    """Saves checkpoints of steps into a directory."""

    def __init__(self, directory, *, others=(), clock=lambda: 0.0, identity=IDENTITY, **changes):
        self.directory, self.sink, self.engine = directory, ListSink(), FakeEngine(directory, others)
        self.saver = Saver(directory, identity, numbers(**changes), sink=self.sink, clock=clock)

    def save(self, step, *, eval_loss=None):
        self.engine.step = step
        metrics = {"loss": math.nan} | ({} if eval_loss is None else {"eval_loss": eval_loss})
        evaluated = 0 if eval_loss is None else step
        self.saver.save(self.engine, Progress(step=step, done=step, evaluated=evaluated, metrics=metrics))
        self.saver.wait()

    @property
    def saved(self):
        return [step for step, *_ in self.sink.saved]


def newest_step(directory):
    """The step a new process would continue from, after a look at what it would load."""
    manifest = newest(directory, IDENTITY)
    if manifest is None:
        return 0
    path = directory / f"step-{manifest.step}"
    assert read_tensors(path, manifest, SHARED)["weight/a"].tolist() == [float(manifest.step)] * 8
    assert read_tensors(path, manifest, rank_file(0))["random/cpu"].tolist() == list(range(16))
    assert manifest.progress["done"] == manifest.step
    return manifest.step


class Faults:
    """Counts the calls that change the disk; the `at`th fails or is the last thing the process does.

    A write gets half of its bytes down first. A death takes with it what was written and not yet fsynced, as a machine's would.
    """

    def __init__(self, monkeypatch, at, error=None):
        self.count, self._at, self._error = 0, at, error
        self._real = {name: getattr(os, name) for name in CALLS}
        self._unsynced = {}
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name))

    @property
    def happened(self):
        return self.count >= self._at

    def _wrapped(self, name):
        def call(*args, **kwargs):
            self.count += 1
            if self.count == self._at:
                self._break(name, args)
            result = self._real[name](*args, **kwargs)
            if name == "open" and args[1] & os.O_CREAT:
                self._unsynced[result] = Path(args[0])
            elif name == "fsync":
                self._unsynced.pop(args[0], None)
            return result

        return call

    def _break(self, name, args):
        if name == "write":
            self._real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
        if self._error:
            raise OSError(self._error, os.strerror(self._error))
        for path in self._unsynced.values():
            if path.exists():
                os.truncate(path, 0)
        raise Killed


def every_fault(tmp_path, monkeypatch, error=None):
    """(number of the call, run) after a good save of step 1 and a save of step 2 in which that call went wrong."""
    for at in range(1, 1000):
        run = Run(tmp_path / str(at), save_total_limit=1)
        run.save(1)
        with monkeypatch.context() as patch:
            faults = Faults(patch, at, error)
            try:
                run.save(2)
            except Killed:
                assert error is None
        yield at, run
        if not faults.happened:
            return


def test_dying_at_any_system_call_of_a_save_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch):
    found = []
    for _, run in every_fault(tmp_path, monkeypatch):
        found.append(newest_step(run.directory))
        if 2 in run.saved:
            assert found[-1] == 2, "what was announced is there"
        run.save(3)
        assert newest_step(run.directory) == 3
        assert [path.name for path in run.directory.iterdir()] == ["step-3"], "what was cut short is cleared away"
    assert len(found) > 20
    assert found == sorted(found), "one call decides"
    assert set(found) == {1, 2}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_system_call_of_a_save_is_reported_and_the_next_save_works(tmp_path, monkeypatch, error):
    failures, reason = 0, "DISK_FULL" if error == errno.ENOSPC else "CHECKPOINT_FAILED"
    for at, run in every_fault(tmp_path, monkeypatch, error):
        assert newest_step(run.directory) in (1, 2), at
        told = [(found, step) for found, _, step in run.sink.anomalies]
        assert told == ([] if 2 in run.saved else [(reason, 2)]), at
        assert all(os.strerror(error) in message for _, message, _ in run.sink.anomalies)
        failures += bool(told)
        run.save(3)
        assert newest_step(run.directory) == 3
    assert failures > 10


@pytest.fixture
def two(tmp_path):
    """Two good checkpoints."""
    run = Run(tmp_path / "checkpoints")
    run.save(1)
    run.save(2)
    assert newest_step(run.directory) == 2
    return run.directory


@pytest.mark.parametrize("name", [SHARED, rank_file(0), "manifest.json"])
def test_a_flipped_bit_anywhere_is_found(two, name):
    path = two / "step-2" / name
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :])
        with pytest.raises(Torn):
            check(two / "step-2")
    assert newest_step(two) == 1


@pytest.mark.parametrize("name", [SHARED, rank_file(0), "manifest.json"])
def test_a_file_that_is_cut_is_found(two, name):
    path = two / "step-2" / name
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert newest_step(two) == 1
    path.unlink()
    assert newest_step(two) == 1


def test_a_checkpoint_under_another_name_is_not_one(two):
    (two / "step-2").rename(two / "step-9")
    assert newest_step(two) == 1


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"sha256": "", "body": {}}', '{"body": 1}', "[" * 100_000])
def test_a_manifest_that_is_something_else_is_no_manifest(two, text):
    (two / "step-2/manifest.json").write_text(text)
    assert newest_step(two) == 1


def test_names_that_are_no_checkpoints_are_not_looked_at(two):
    for name in ("latest", "step-", "step-0", "step-01", "step-x", ".step-3.part"):
        shutil.copytree(two / "step-2", two / name)
    assert [path.name for path in checkpoints(two)] == ["step-2", "step-1"]
    assert checkpoints(two / "missing") == []


def test_a_checkpoint_of_something_else_is_left_out(two):
    assert newest(two, IDENTITY | {"seed": 2}) is None


def test_numbers_that_are_not_finite_survive(two):
    assert math.isnan(check(two / "step-2").progress["metrics"]["loss"])


def test_what_is_announced_is_what_is_there(two, tmp_path):
    run = Run(tmp_path / "other")
    run.save(4, eval_loss=2.5)
    ((step, name, size, metrics),) = run.sink.saved
    files = [path for path in (run.directory / name).iterdir() if path.name != "manifest.json"]
    assert (step, name, size) == (4, "step-4", sum(path.stat().st_size for path in files))
    assert metrics["eval_loss"] == 2.5


def test_a_torn_checkpoint_of_the_same_step_is_replaced(two):
    (two / "step-2" / SHARED).write_bytes(b"")
    run = Run(two)
    run.save(2)
    assert run.saved == [2]
    assert newest_step(two) == 2


def test_the_newest_and_the_best_stay(tmp_path):
    run = Run(tmp_path / "c", save_total_limit=2)
    for step, loss in ((1, 3.0), (2, 1.0), (3, math.nan), (4, None), (5, 2.0)):
        run.save(step, eval_loss=loss)
    assert [path.name for path in checkpoints(run.directory)] == ["step-5", "step-4", "step-2"]


def test_a_validation_loss_of_other_weights_makes_no_checkpoint_the_best(tmp_path):
    run = Run(tmp_path / "c", save_total_limit=1)
    run.save(1, eval_loss=5.0)
    run.engine.step = 2
    run.saver.save(run.engine, Progress(step=2, done=2, evaluated=1, metrics={"eval_loss": 5.0}))
    run.save(3)
    assert [path.name for path in checkpoints(run.directory)] == ["step-3", "step-1"]


def test_a_torn_checkpoint_never_counts_among_those_that_stay(tmp_path):
    run = Run(tmp_path / "c", save_total_limit=2)
    for step in (1, 2, 3):
        run.save(step)
    (run.directory / "step-3/manifest.json").write_bytes(b"{")
    prune(run.directory, 2, IDENTITY)
    assert [path.name for path in checkpoints(run.directory)] == ["step-2"]


def test_checkpoints_of_other_numbers_never_push_out_those_of_the_run(tmp_path):
    before = Run(tmp_path / "c", identity=IDENTITY | {"seed": 2}, save_total_limit=9)
    before.save(7, eval_loss=0.1)
    before.save(9)
    run = Run(tmp_path / "c", save_total_limit=1)
    run.save(3, eval_loss=2.0)
    assert [path.name for path in checkpoints(run.directory)] == ["step-3"]
    run.save(4, eval_loss=3.0)
    assert [path.name for path in checkpoints(run.directory)] == ["step-4", "step-3"]


def again(tmp_path, monkeypatch, *, without_exchange):
    """(run, whether it died) after a save of step 2 over a good one of step 2, dying at one call after the other."""
    for at in range(1, 1000):
        run = Run(tmp_path / str(at))
        run.save(1)
        run.save(2)
        with monkeypatch.context() as patch:
            if without_exchange:
                patch.setattr(checkpoint, "exchange", not_here)
            faults = Faults(patch, at)
            died = False
            try:
                run.save(2, eval_loss=1.0)
            except Killed:
                died = True
        yield run, died
        if not faults.happened:
            return


def not_here(one, other):
    raise OSError(errno.EINVAL, "not on this file system")


@pytest.mark.parametrize(("without_exchange", "worst"), [(False, 2), (True, 1)])
def test_a_good_checkpoint_that_is_saved_again_is_there_whenever_the_process_dies(tmp_path, monkeypatch, without_exchange, worst):
    found, losses = [], []
    for run, died in again(tmp_path, monkeypatch, without_exchange=without_exchange):
        found.append(newest_step(run.directory))
        losses.append(newest(run.directory, IDENTITY).eval_loss)
        if died:
            run.save(3)
            assert {path.name for path in run.directory.iterdir()} <= {"step-3", "step-2", "step-1"}
    assert min(found) == worst
    assert (losses[0], losses[-1]) == (None, 1.0)


def test_two_directories_change_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "missing")


def test_every_ranks_file_is_in_the_manifest(tmp_path):
    run = Run(tmp_path / "c", others=[({rank_file(1): FileEntry(77, "ab" * 32)}, None)])
    run.save(1)
    body = json.loads((run.directory / "step-1/manifest.json").read_text())["body"]
    assert set(body["files"]) == {SHARED, rank_file(0), rank_file(1)}
    assert body["files"][rank_file(1)]["size"] == 77
    assert body["files"][rank_file(1)]["sha256"] == "ab" * 32
    assert newest_step(run.directory) == 0, "what the other rank claims to have written is not there"


@pytest.mark.parametrize("trouble", [Trouble("DISK_FULL", "no space"), Trouble("CHECKPOINT_FAILED", "a broken disk")], ids=str)
def test_one_rank_that_cannot_write_is_enough_for_no_checkpoint(tmp_path, trouble):
    run = Run(tmp_path / "c", others=[({}, trouble)])
    run.save(1)
    ((reason, message, step),) = run.sink.anomalies
    assert (reason, step) == (trouble.reason, 1)
    assert f"rank 1 could not write its part: {trouble.message}" in message
    assert (run.saved, list(run.directory.iterdir())) == ([], [])


def test_whatever_goes_wrong_while_writing_the_run_goes_on(tmp_path, monkeypatch):
    run = Run(tmp_path / "c")

    def without_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(parts, "write_tensors", without_memory)
        run.save(1)
    ((reason, message, step),) = run.sink.anomalies
    assert (reason, step) == ("CHECKPOINT_FAILED", 1)
    assert "MemoryError" in message
    run.save(2)
    assert run.saved == [2]


@pytest.mark.parametrize("works", [True, False])
def test_whoever_may_kill_the_process_hears_how_long_a_checkpoint_is_being_written(tmp_path, monkeypatch, works):
    run = Run(tmp_path / "c")
    if not works:
        monkeypatch.setattr(parts, "write_tensors", lambda *_: 1 / 0)
    run.save(1)
    assert run.sink.beats == [(1, "saving"), (1, "saved")]
    assert run.saved == ([1] if works else [])


def test_steps_make_a_checkpoint_due(tmp_path):
    saver = Run(tmp_path, save_steps=3).saver
    assert [step for step in range(1, 8) if saver.is_due(step)] == [3, 6]


def test_time_makes_a_checkpoint_due_and_begins_anew_after_each_even_one_that_failed(tmp_path):
    now = [100.0]
    run = Run(tmp_path, others=[({}, Trouble("DISK_FULL", "no space"))], clock=lambda: now[0], save_interval_seconds=60.0)
    now[0] += 59
    assert not run.saver.is_due(1)
    now[0] += 1
    assert run.saver.is_due(2)
    run.save(2)
    assert not run.saver.is_due(3)


def test_without_a_cadence_no_checkpoint_is_due(tmp_path):
    now = [0.0]
    saver = Run(tmp_path, clock=lambda: now[0]).saver
    now[0] = 1e9
    assert not saver.is_due(1_000_000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_tensors_of_every_kind_come_back_as_they_were(tmp_path, dtype):
    tensors = {"a": torch.arange(6).reshape(2, 3).to(dtype), "scalar": torch.tensor(3).to(dtype)}
    (tmp_path / "step-1").mkdir()
    entry = write_tensors(tmp_path / "step-1", SHARED, tensors)
    manifest = Manifest(1, IDENTITY, {}, {SHARED: entry})
    found = read_tensors(tmp_path / "step-1", manifest, SHARED)
    assert {name: value.dtype for name, value in found.items()} == {"a": dtype, "scalar": dtype}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
