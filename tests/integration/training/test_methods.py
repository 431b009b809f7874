"""Every method with every tuning as a real run: what it leaves behind, and that ranks, batches and ZeRO stages change nothing."""

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import make_tiny_model
from training_configs import config_json
from training_ranks import Ranks
from training_rows import rows

from tests.compat.environments import python_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WHOLE = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
TWO_RANKS = {"num_processes": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
METRICS = {
    "sft": {"token_accuracy"},
    "cpt": {"token_accuracy"},
    "dpo": {"rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy"},
    "kto": {"rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy", "kl"},
    "orpo": {"rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy"},
    "classification": {"accuracy"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def train(directory, model, method, tuning="lora", **changes):
    run = started(directory, model, method, tuning, **changes)
    assert run.exit_codes == [0] * changes.get("num_processes", 1), run.log
    return run


def started(directory, model, method, tuning, **changes):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "train.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows(method)))
    files = {"base_model_dir": str(model), "train_file": str(path), "validation_file": str(path)}
    config = config_json(paths=files | {"method": method, "tuning": tuning}, **({"max_steps": 3} | changes))
    # A warm rank looks for the kernels before there is a run that needs them.
    with Ranks(directory, config, is_cold=tuning == "qlora") as ranks:
        return ranks.finish()


def weights(run):
    (path,) = (run.directory / "output").glob("*.safetensors")
    return load_file(path)


def assert_same(run, other):
    for name in other.of_kind("metrics")[0]["values"].keys() - {"tokens_per_second"}:
        # Before the first step the model is its own reference: whose reward is above 0 is then a matter of rounding.
        first = 1 if name == "rewards_accuracy" else 0
        assert run.values(name)[first:] == pytest.approx(other.values(name)[first:], rel=1e-4, abs=1e-6), name
    assert run.values("eval_loss") == pytest.approx(other.values("eval_loss"), rel=1e-4)
    mine, others = weights(run), weights(other)
    assert mine.keys() == others.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-3, atol=1e-4)


def assert_verdict(directory, run, method):
    """Of a head of labels, and of nothing else, the run says how good it is: as good as it was measured to be."""
    result = json.loads((directory / "result.json").read_text())
    assert ("evaluation" in result) == (method == "classification")
    if method == "classification":
        base, head = result["evaluation"]["models"]
        assert head["scores"][0]["value"] == pytest.approx(run.values("eval_accuracy")[-1])
        assert (base["model"][:8], head["model"], head["step"]) == ('always "', "classifier", result["step"])
        assert result["evaluation"]["row_count"] == len(rows(method))
        kept = [json.loads(line) for line in (directory / "evaluation" / "rows.jsonl").read_text().splitlines()]
        right = sum(line["answers"][1]["scores"]["accuracy"] for line in kept)
        assert right / len(rows(method)) == pytest.approx(head["scores"][0]["value"])


@pytest.mark.parametrize("method", METRICS)
def test_ranks_and_batches_change_nothing_about_a_method(tmp_path, model, method):
    whole = train(tmp_path / "whole", model, method, **WHOLE)
    assert METRICS[method] <= whole.of_kind("metrics")[0]["values"].keys()
    assert {f"eval_{name}" for name in METRICS[method]} <= whole.of_kind("metrics")[-1]["values"].keys()
    single = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert_same(train(tmp_path / "single", model, method, **single), whole)
    assert_same(train(tmp_path / "ranks", model, method, zero_stage=2, **TWO_RANKS), whole)
    for cut in ("whole", "single", "ranks"):
        assert_verdict(tmp_path / cut, whole, method)


@pytest.mark.parametrize(("method", "stage"), [("sft", 3), ("dpo", 2), ("kto", 3), ("classification", 3)])
def test_full_tuning_is_the_same_on_two_ranks_and_leaves_a_whole_model(tmp_path, model, method, stage):
    whole = train(tmp_path / "whole", model, method, "full", learning_rate=1e-3, **WHOLE)
    ranks = train(tmp_path / "ranks", model, method, "full", learning_rate=1e-3, zero_stage=stage, **TWO_RANKS)
    assert_same(ranks, whole)
    assert_verdict(tmp_path / "ranks", whole, method)
    (started,) = whole.of_kind("training_started")
    assert started["trainable_parameter_count"] == started["parameter_count"]
    assert json.loads((ranks.directory / "result.json").read_text())["kind"] == "MODEL"
    left = {path.name for path in (ranks.directory / "output").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= left


def test_the_optimizer_may_live_on_the_host(tmp_path, model):
    plain = train(tmp_path / "plain", model, "sft", **WHOLE)
    for stage in (2, 3):
        overrides = json.dumps({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})
        moved = train(tmp_path / f"moved-{stage}", model, "sft", zero_stage=stage, deepspeed_overrides=overrides, **TWO_RANKS)
        assert_same(moved, plain)
        settings = json.loads((moved.directory / "deepspeed.json").read_text())
        assert settings["zero_optimization"] == {"stage": stage, "offload_optimizer": {"device": "cpu"}}


def test_a_classifier_leaves_its_head_and_its_labels(tmp_path, model):
    run = train(tmp_path, model, "classification", max_steps=1, **WHOLE)
    assert any(name.endswith("score.weight") for name in weights(run))
    config = json.loads((run.directory / "output" / "config.json").read_text())
    assert config["id2label"] == {"0": "cancel", "1": "payment", "2": "refund", "3": "tracking"}


def test_dora_and_rslora_train_and_are_said_in_the_adapter(tmp_path, model):
    run = train(tmp_path, model, "sft", lora={"use_dora": True, "use_rslora": True}, max_steps=1, **WHOLE)
    config = json.loads((run.directory / "output" / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == (True, True)
    assert any("magnitude" in name for name in weights(run))


def test_full_tuning_in_bf16_keeps_its_weights_in_fp32(tmp_path, model):
    run = train(tmp_path, model, "sft", "full", precision="bf16", max_steps=1, **WHOLE)
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}
    assert run.of_kind("training_started")[0]["precision"] == "bf16"


@pytest.mark.parametrize(("tuning", "stage"), [("lora", 0), ("lora", 2), ("full", 1), ("full", 3)])
def test_fp16_goes_the_way_of_fp32_and_trains_fp32(tmp_path, model, tuning, stage):
    rate = {"learning_rate": 1e-3} if tuning == "full" else {}
    cut = TWO_RANKS | {"zero_stage": stage} if stage > 1 else WHOLE | {"zero_stage": stage}
    exact, run = (train(tmp_path / each, model, "sft", tuning, precision=each, **rate, **cut) for each in ("fp32", "fp16"))
    assert run.exit_codes == [0] * len(run.exit_codes), run.log
    assert run.of_kind("training_started")[0]["precision"] == "fp16"
    assert run.values("loss") == pytest.approx(exact.values("loss"), rel=0.02)
    assert run.values("grad_norm") == pytest.approx(exact.values("grad_norm"), rel=0.05)
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


def test_the_same_seed_gives_the_same_run_with_dropout_and_another_seed_another(tmp_path, model):
    runs = [
        train(tmp_path / str(index), model, "dpo", seed=seed, lora={"dropout": 0.3}, **WHOLE)
        for index, seed in enumerate((1, 1, 2))
    ]
    assert runs[0].values("loss") == runs[1].values("loss")
    assert all(torch.equal(tensor, weights(runs[1])[name]) for name, tensor in weights(runs[0]).items())
    assert runs[0].values("loss") != runs[2].values("loss")


@pytest.fixture
def kernels(monkeypatch):
    """bitsandbytes where training processes find it, and this one does not: every import of peft would import it, too."""
    assert importlib.util.find_spec("bitsandbytes") is None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = python_of("qlora").parents[1] / "lib" / version / "site-packages"
    assert (packages / "bitsandbytes").is_dir()
    monkeypatch.setenv("PYTHONPATH", str(packages))


def test_it_learns_nearly_what_lora_learns_and_saves_an_adapter_in_fp32(tmp_path, model, kernels):
    whole = train(tmp_path / "whole", model, "sft", **WHOLE)
    four = train(tmp_path / "four", model, "sft", "qlora", **WHOLE)
    assert four.values("loss") == pytest.approx(whole.values("loss"), rel=0.1)
    assert four.values("loss") != whole.values("loss"), "its weights are rounded"
    assert {tensor.dtype for tensor in weights(four).values()} == {torch.float32}
    assert weights(four).keys() == weights(whole).keys()
    (started,) = four.of_kind("training_started")
    assert started["trainable_parameter_count"] == whole.of_kind("training_started")[0]["trainable_parameter_count"]
    assert not [line for line in four.log.splitlines() if "kernels" in line], "what its library misses is nobody's business"


def test_ranks_and_methods_go_with_it(tmp_path, model, kernels):
    alone = train(tmp_path / "alone", model, "dpo", "qlora", **WHOLE)
    ranks = train(tmp_path / "ranks", model, "dpo", "qlora", zero_stage=2, **TWO_RANKS)
    assert ranks.values("loss") == pytest.approx(alone.values("loss"), rel=1e-4)


def test_a_run_without_the_kernels_says_what_it_lacks(tmp_path, model):
    run = started(tmp_path, model, "sft", "qlora", max_steps=1, **WHOLE)
    assert run.exit_codes == [1]
    (failure,) = run.of_kind("failure")
    assert failure["reason"] == "BASE_MODEL_UNUSABLE"
    assert "bitsandbytes" in failure["message"]
