"""What the training benchmark makes of its measurements; the measurements themselves are `make bench`'s."""

from argparse import Namespace

import pytest
from training_examples import example

from tests.bench.training.accuracy import configuration, interval
from tests.bench.training.gate import verdicts
from tests.bench.training.job import Job, Measured, write_rows
from tests.bench.training.report import table
from tests.bench.training.result import Result, same_curve
from tests.bench.training.work import Sizes, flops

JOB = Job("Tunesmith", "lora", "model", "rows.jsonl", 32, 8, 4)


def measured(*seconds, targets=(100, 200), rss=10**9):
    return Measured(seconds, tuple(2 * each for each in seconds), targets, (2.0, 1.0), rss)


def result(speed, rss=10**9, losses=(2.0, 1.0)):
    return Result(speed, losses, rss, 1.0, 1.5)


def test_of_every_step_the_least_disturbed_time_counts():
    found = Result.of([measured(1.0, 9.0), measured(5.0, 2.0, rss=3 * 10**9)])
    assert found.targets_per_second == 100
    assert found.seconds_per_step == 1.5
    assert found.cpu_seconds_per_step == 3
    assert found.peak_rss == 3 * 10**9


def test_rounds_of_different_length_are_no_rounds():
    with pytest.raises(ValueError, match="zip"):
        Result.of([measured(1.0, 9.0), measured(5.0)])


def test_jobs_and_measurements_come_back_as_they_were():
    assert Job.from_json(JOB.to_json()) == JOB
    printed = '{"seconds": [1.5], "cpu_seconds": [2.5], "targets": [3], "losses": [2.0], "peak_rss": 5}'
    assert Measured.from_json(printed) == Measured((1.5,), (2.5,), (3,), (2.0,), 5)


def test_a_job_is_a_configuration_of_the_product(tmp_path):
    from services.trainer.training.config import parse_config

    config = parse_config(JOB.config(tmp_path))
    assert config.hyperparameters.gradient_accumulation_steps == 4
    assert config.hyperparameters.lora.rank == 8


def test_rows_are_the_first_of_the_training_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_BENCH_DATA", str(tmp_path))
    (tmp_path / "train.jsonl").write_text("a\nb\nc\n")
    write_rows(tmp_path / "rows.jsonl", 2)
    assert (tmp_path / "rows.jsonl").read_text() == "a\nb\n"
    with pytest.raises(SystemExit, match="4 are needed"):
        write_rows(tmp_path / "rows.jsonl", 4)


def test_without_data_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESMITH_BENCH_DATA", raising=False)
    with pytest.raises(SystemExit, match="TUNESMITH_BENCH_DATA"):
        write_rows(tmp_path / "rows.jsonl", 1)


@pytest.mark.parametrize(
    ("theirs", "same"), [((2.0, 1.01), True), ((2.0, 1.1), False), ((2.0,), False)], ids=["near", "far", "shorter"]
)
def test_curves_are_the_same_step_by_step(theirs, same):
    assert same_curve((2.0, 1.0), theirs, 0.02) is same


def test_work_counts_computed_tokens_only():
    texts = [example(range(20), [15, 16]).texts[0], example(range(30), [29]).texts[0]]
    # A shared prefix of 10, then 6 and 19 tokens: the last target is predicted, not read.
    assert flops(texts, 10, Sizes(body=1000, adapter=10, head=100), "lora") == 35 * (4000 + 60) + 3 * 400
    assert flops(texts, 10, Sizes(body=1000, adapter=0, head=100), "full") == 35 * 6000 + 3 * 600


def test_the_table_compares_with_ours():
    shown = table({"Tunesmith": result(90.0), "other": result(30.0, rss=2 * 10**9)}, "Tunesmith")
    assert "| other | 30.0 | 3.00x | 1.00 | 1.50 | 2.00 | 2.000 1.000 |" in shown.splitlines()


def test_an_option_of_ours_is_a_row_that_is_judged_by_the_same_goals():
    option = "Tunesmith, adapters in the last 8 layers"
    lora = {"Tunesmith": result(90.0), option: result(120.0), "best": result(30.0), "defaults": result(20.0)}
    assert f"| {option} | 120.0 |  | 1.00 | 1.50 | 1.00 | 2.000 1.000 |" in table(lora, "Tunesmith").splitlines()
    found = list(verdicts(lora, {"Tunesmith": result(30.0), "other": result(15.0)}, "Tunesmith", "defaults", 0.8))
    assert found[:5] == [
        "reached LoRA beside the best peer, best: 3.00x of 2.5x",
        "MISSED  LoRA beside defaults: 4.50x of 6x",
        "reached share of the fp32 matrix peak: 0.80 of 0.75",
        f"reached {option}, beside defaults: 6.00x of 6x",
        f"reached {option}, beside the best peer: 4.00x of 2.5x",
    ]


def test_a_job_s_adapters_are_in_the_layers_it_names(tmp_path):
    job = Job("Tunesmith, adapters in the last 8 layers", "lora", "model", "rows.jsonl", 32, 8, 4, last_layers=8)
    assert job.config(tmp_path)["hyperparameters"]["lora"]["last_layers"] == 8


@pytest.mark.parametrize(
    ("right", "count", "expected"), [(0, 200, (0.0, 0.0188)), (180, 200, (0.8506, 0.9343)), (200, 200, (0.9812, 1.0))]
)
def test_the_interval_of_a_share_is_wilson_s(right, count, expected):
    assert interval(right, count) == pytest.approx(expected, abs=1e-4)


def test_accuracy_is_measured_of_what_the_product_trains_by_default(tmp_path):
    options = Namespace(last_layers=6, steps=100, learning_rate=2e-4)
    config = configuration(tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "output", options)
    numbers = config.hyperparameters
    assert (numbers.learning_rate, numbers.warmup_steps, numbers.lr_scheduler_type) == (2e-4, 5, "cosine")
    assert (numbers.global_batch_size, numbers.max_steps, numbers.lora.rank, numbers.lora.last_layers) == (16, 100, 16, 6)


def test_goals_are_judged_by_the_best_peer():
    lora = {"Tunesmith": result(90.0), "slow": result(10.0), "best": result(30.0, rss=2 * 10**9), "defaults": result(20.0)}
    full = {"Tunesmith": result(30.0), "TRL padding_free": result(25.0, losses=(2.0, 9.0))}
    assert list(verdicts(lora, full, "Tunesmith", "defaults", 0.8)) == [
        "reached LoRA beside the best peer, best: 3.00x of 2.5x",
        "MISSED  LoRA beside defaults: 4.50x of 6x",
        "reached share of the fp32 matrix peak: 0.80 of 0.75",
        "reached memory of best over ours: 2.00x of 1x",
        "MISSED  full tuning beside TRL padding_free: 1.20x of 1.5x",
        "full tuning: ANOTHER loss curve as TRL padding_free",
    ]
