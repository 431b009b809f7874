"""Faults put into real runs of the training process: what it says, what it does about them, and that nothing else changes."""

import json
import math
from pathlib import Path

import pytest
from tiny_model import make_tiny_model
from training_in_process import ROWS, Killed, configured, run, weights_sha256
from training_ranks import Ranks

from services.common.errors import ServiceError
from services.trainer.training import batch_cut
from services.trainer.training.engine import Engine

pytestmark = pytest.mark.integration

NUMBERS = {"max_steps": 8, "lora": {"dropout": 0.1}}
"""Dropout: whoever draws a random number too many learns something else."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, model):
    """A run to which nothing happens: (values, sha256 of the weights)."""
    config = configured(tmp_path_factory.mktemp("plain") / "run", model, **NUMBERS)
    recorder, _ = run(config)
    return recorder.values, weights_sha256(config)


def losses(recorder):
    return {step: float.fromhex(value) for (step, name), value in recorder.values.items() if name == "loss"}


@pytest.fixture
def broken(monkeypatch):
    """Makes the given windows not finite, each as often as it comes; `kill_before` ends the process instead of a step once."""
    accumulate, seen = Engine.accumulate, {"windows": 0}

    def start(*steps, first=1, kill_before=None):
        seen["windows"] = first - 1

        def poisoned(engine, micro_batches, units):
            seen["windows"] += 1
            if seen["windows"] == kill_before:
                raise Killed
            sums = accumulate(engine, micro_batches, units)
            if seen["windows"] in steps:
                trained = [each for each in engine._engine.module.parameters() if each.grad is not None]
                trained[0].grad.fill_(math.nan)
            return sums

        monkeypatch.setattr(Engine, "accumulate", poisoned)

    return start


def test_a_gradient_that_is_not_finite_fails_the_run_and_names_the_rows(tmp_path, model, broken):
    config = configured(tmp_path / "run", model, **NUMBERS)
    broken(3)
    with pytest.raises(ServiceError) as caught:
        run(config)
    assert caught.value.reason == "LOSS_NOT_FINITE"
    rows = [int(row) for row in caught.value.metadata["rows"].split(", ")]
    assert 1 <= len(rows) <= 8
    assert set(rows) <= set(range(1, len(ROWS) + 1))
    assert f"row{'s' if len(rows) > 1 else ''} {rows[0]}" in caught.value.message


def test_skipping_leaves_out_one_batch_and_goes_on_from_the_same_weights(tmp_path, model, plain, broken):
    config = configured(tmp_path / "run", model, **NUMBERS, non_finite_policy="skip")
    broken(3)
    recorder, _ = run(config)
    values, sha256 = plain
    assert [(reason, step) for reason, _, step in recorder.anomalies] == [("LOSS_NOT_FINITE", 3)]
    before = {key: value for key, value in values.items() if key[0] < 3}
    assert before.items() <= recorder.values.items()
    assert weights_sha256(config) != sha256
    assert all(math.isfinite(loss) for loss in losses(recorder).values() if not math.isnan(loss))
    assert sorted(losses(recorder)) == list(range(1, 9))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_killed_run_that_left_batches_out_ends_like_one_that_was_not_killed(tmp_path, model, broken, policy):
    # Without validation there are no checkpoints but those of every second step.
    changes = NUMBERS | {"non_finite_policy": policy, "save_steps": 2, "validation": False}
    whole = configured(tmp_path / "whole", model, **changes)
    broken(4)
    unbroken, _ = run(whole)
    for kill_before in (4, 5, 7):
        config = configured(tmp_path / f"killed-{kill_before}", model, **changes)
        broken(4, kill_before=kill_before)
        first, died = run(config)
        assert died
        broken(4, first=(kill_before - 1) // 2 * 2 + 1)
        second, _ = run(config)
        assert second.plan["resumed_step"] == (kill_before - 1) // 2 * 2
        assert first.values | second.values == unbroken.values, kill_before
        assert weights_sha256(config) == weights_sha256(whole)


def test_going_back_continues_from_the_checkpoint_with_the_batches_behind_the_bad_one(tmp_path, model, broken):
    """It learns what a run learns that leaves out the same batches one by one; without dropout, since chance differs."""
    changes = {"max_steps": 8, "validation": False}
    back = configured(tmp_path / "back", model, **changes, non_finite_policy="rollback", save_steps=2)
    broken(4)
    went_back, _ = run(back)
    [(_, message, step)] = went_back.anomalies
    assert step == 4
    assert "after step 2 again" in message
    skipping = configured(tmp_path / "skip", model, **changes, non_finite_policy="skip")
    broken(3, 4)
    skipped, _ = run(skipping)
    assert [went_back.values[step, "loss"] for step in range(5, 9)] == [skipped.values[step, "loss"] for step in range(5, 9)]
    assert weights_sha256(back) == weights_sha256(skipping)


def test_after_as_many_as_permitted_the_run_fails(tmp_path, model, broken):
    config = configured(tmp_path / "run", model, **NUMBERS, non_finite_policy="skip", max_skipped_batches=2)
    broken(2, 4, 6)
    with pytest.raises(ServiceError, match="max_skipped_batches is 2") as caught:
        run(config)
    assert caught.value.metadata["step"] == "6"


def test_a_rehearsal_changes_not_one_bit(tmp_path, model, plain):
    config = configured(tmp_path / "run", model, **NUMBERS, rehearsal="always")
    recorder, _ = run(config)
    assert (recorder.values, weights_sha256(config)) == plain


def test_memory_that_runs_out_shows_in_the_rehearsal_and_a_smaller_cut_learns_the_same(tmp_path, model, monkeypatch):
    changes = {"max_steps": 4, "rehearsal": "always"}
    whole, _ = run(configured(tmp_path / "whole", model, **changes))
    config = configured(tmp_path / "run", model, **changes)
    rehearse = Engine.rehearse

    def small_memory(engine, micro_batch):
        if len(micro_batch) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        rehearse(engine, micro_batch)

    monkeypatch.setattr(Engine, "rehearse", small_memory)
    with pytest.raises(RuntimeError, match="can't allocate"):
        run(config)
    # As the supervisor cuts it.
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    path = batch_cut.path_beside(Path(config["output_dir"]))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(cut))
    config["hyperparameters"] |= batch_cut.read(Path(config["output_dir"]))
    cut, _ = run(config)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.parametrize(("stage", "policy"), [(2, "skip"), (3, "rollback")], ids=str)
def test_what_is_not_finite_on_one_rank_is_treated_alike_on_all(tmp_path, model, broken, stage, policy):
    changes = {"max_steps": 6, "non_finite_policy": policy, "validation": False, "save_steps": 2, "rehearsal": "always"}
    sizes = {"num_processes": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "zero_stage": stage}
    config = configured(tmp_path / "two", model, **changes, **sizes) | {"sample_prompts": ["Where is my parcel?"]}
    with Ranks(tmp_path / "two", config, "poisoned_training") as ranks:
        outcome = ranks.finish()
    anomalies = outcome.of_kind("anomaly")
    assert [(told["reason"], told["step"]) for told in anomalies] == [("LOSS_NOT_FINITE", 3)], outcome.log
    assert outcome.exit_codes == [0, 0], outcome.log
    broken(3)
    alone, _ = run(configured(tmp_path / "one", model, **changes))
    assert outcome.values("loss")[3:] == pytest.approx([losses(alone)[step] for step in range(4, 7)], rel=1e-5)
    assert [told["step"] for told in outcome.of_kind("sample_generated")] == [3, 6]
    beats = [told["step"] for told in outcome.of_kind("beat") if told["phase"] == "end"]
    assert beats == [6, 6], "every rank says that it moves"


def test_a_configuration_is_read_with_its_cut(tmp_path, model):
    from services.trainer.training.config import load_config

    config = configured(tmp_path / "run", model)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(config))
    cut = batch_cut.path_beside(path)
    cut.parent.mkdir()
    cut.write_text('{"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}')
    assert load_config(path).hyperparameters.per_device_train_batch_size == 1


def test_an_early_stop_leaves_the_weights_of_the_best_measurement(tmp_path, model, monkeypatch):
    turning, measure = iter([3.0, 2.0, 2.5, 2.6]), Engine.evaluate

    def evaluate(engine, data, numbers):
        found = measure(engine, data, numbers)
        return type(found)((next(turning) * found.units[0],), found.metrics, found.units, found.names)

    changes = {"max_steps": 20, "lr_scheduler_type": "constant"}
    config = configured(tmp_path / "run", model, **changes, eval_steps=1, early_stopping_patience=2)
    monkeypatch.setattr(Engine, "evaluate", evaluate)
    recorder, _ = run(config)
    assert ("EARLY_STOPPED", 4) in [(reason, step) for reason, _, step in recorder.anomalies]
    assert max(losses(recorder)) == 4
    two = configured(tmp_path / "two", model, **changes | {"max_steps": 2}, validation=False)
    run(two)
    assert weights_sha256(config) == weights_sha256(two)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 2


def test_a_time_limit_ends_the_run_with_what_was_learned(tmp_path, model):
    config = configured(tmp_path / "run", model, max_steps=20, lr_scheduler_type="constant", time_limit_seconds=1e-9)
    recorder, died = run(config)
    assert not died
    assert [(reason, step) for reason, _, step in recorder.anomalies] == [("TIME_LIMIT_REACHED", 1)]
    assert recorder.saved == [1]
    one = configured(tmp_path / "one", model, max_steps=1, lr_scheduler_type="constant", validation=False)
    run(one)
    assert weights_sha256(config) == weights_sha256(one)


def test_samples_come_with_every_evaluation_and_change_nothing(tmp_path, model, plain):
    prompts = ["Where is my parcel?", "I want my money."]
    config = configured(tmp_path / "run", model, **NUMBERS) | {"sample_prompts": prompts}
    recorder, _ = run(config)
    assert [step for step, _ in recorder.samples] == [3, 3, 6, 6, 8, 8]
    assert (recorder.values, weights_sha256(config)) == plain


def test_a_model_that_knows_its_rows_by_heart_answers_with_them(tmp_path, model):
    config = configured(tmp_path / "run", model, rows=ROWS[:2], max_steps=40, eval_steps=40, lora={"rank": 16, "alpha": 32.0})
    config["sample_prompts"] = [ROWS[0]["messages"][0]["content"], ROWS[1]["messages"][0]["content"]]
    recorder, _ = run(config)
    assert recorder.samples == [(40, "tracking"), (40, "refund")]
