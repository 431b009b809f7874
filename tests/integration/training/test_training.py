"""The training process on a tiny model, started as it is in production: one or two ranks, events over a pipe. Those that must not
have imported anything before they know their run are cold, the others are as a warm rank is."""

import hashlib
import json
import math

import pytest
from tiny_model import make_tiny_model
from training_configs import config_json
from training_ranks import Ranks

from services.common.rendering import Renderer, digest, render_row

pytestmark = pytest.mark.integration

ANSWERS = {
    "Where is my parcel?": "tracking",
    "I want my money back.": "refund",
    "Stop the order!": "cancel",
    "The card fails": "payment",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows():
    """19 rows of different lengths: the last window of an epoch of 8 + 8 + 3 is partial."""
    return [
        chat(question + " " + "please " * (index % 5), answer) for index, (question, answer) in enumerate([*ANSWERS.items()] * 5)
    ][:19]


# Long enough to be worth sharing: it runs once per micro-batch, on every rank, also on one without examples.
SYSTEM = {"role": "system", "content": "Sort the message."}


def chat(question, answer):
    return {"messages": [SYSTEM, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def train(directory, model, rows, *, is_cold=False, **changes):
    with Ranks(directory, configured(directory, model, rows, **changes), is_cold=is_cold) as ranks:
        return ranks.finish()


def configured(directory, model, rows, *, validation=None, **changes):
    directory.mkdir(parents=True, exist_ok=True)
    paths = {
        "base_model_dir": str(model),
        "train_file": write(directory / "train.jsonl", rows),
        "validation_file": write(directory / "validation.jsonl", validation) if validation else None,
    }
    return config_json(paths=paths, **changes)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, model, rows):
    """Two epochs, batches of 8 in one piece, one process, ZeRO 0."""
    directory = tmp_path_factory.mktemp("one")
    return train(directory, model, rows, is_cold=True, validation=rows[:5], num_train_epochs=2.0, **PLAIN)


PLAIN = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}


def test_a_run_ends_well_and_says_what_it_did(one_process):
    assert one_process.exit_codes == [0], one_process.log
    (started,) = one_process.of_kind("training_started")
    assert one_process.events[0] == started
    assert started["total_steps"] == 6
    assert started["example_count"] == 19
    assert started["parameter_count"] - started["trainable_parameter_count"] == 27_136
    assert 0 < started["target_token_count"] < started["token_count"]
    assert (started["num_processes"], started["device"], started["precision"]) == (1, "cpu", "fp32")
    assert [event["step"] for event in one_process.of_kind("metrics") if "loss" in event["values"]] == [1, 2, 3, 4, 5, 6]
    assert one_process.values("tokens")[-1] == 2 * started["token_count"]
    assert one_process.values("target_tokens")[-1] == 2 * started["target_token_count"]
    assert len(one_process.values("eval_loss")) == 2


def test_the_log_is_a_handful_of_lines_without_noise(one_process):
    lines = one_process.log.splitlines()
    assert 3 <= len(lines) <= 6, one_process.log
    assert not [line for line in lines if any(word in line.lower() for word in ("warn", "deepspeed", "%|", "deprecat"))]


def test_what_it_leaves_behind(one_process):
    directory = one_process.directory
    assert sorted(path.name for path in (directory / "output").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    result = json.loads((directory / "result.json").read_text())
    assert (result["kind"], result["step"]) == ("ADAPTER", 6)
    assert result["metrics"]["loss"] == one_process.values("loss")[-1]
    assert result["metrics"]["eval_loss"] == one_process.values("eval_loss")[-1]
    assert set(result["versions"]) == {"torch", "transformers", "peft", "deepspeed", "tunesmith"}
    assert json.loads((directory / "deepspeed.json").read_text())["train_batch_size"] == 8
    assert json.loads((directory / "output/adapter_config.json").read_text())["base_model_name_or_path"] == "baseModels/tiny"
    assert not list(directory.glob(".*")), "temporary files are left"


@pytest.mark.parametrize(
    ("processes", "stage", "per_device", "accumulation"), [(1, 2, 1, 8), (2, 0, 4, 1), (2, 1, 2, 2), (2, 2, 2, 2), (2, 3, 2, 2)]
)
def test_processes_batches_and_zero_stages_never_change_the_losses(
    tmp_path, model, rows, one_process, processes, stage, per_device, accumulation
):
    cut = train(
        tmp_path,
        model,
        rows,
        validation=rows[:5],
        num_train_epochs=2.0,
        num_processes=processes,
        zero_stage=stage,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
    )
    assert cut.exit_codes == [0] * processes, cut.log
    for name in ("loss", "grad_norm", "eval_loss"):
        assert cut.values(name) == pytest.approx(one_process.values(name), rel=1e-5), name
    assert same_weights(cut.directory, one_process.directory)
    assert len(cut.of_kind("training_started")) == 1


def same_weights(left, right):
    import torch
    from safetensors.torch import load_file

    first, second = (load_file(directory / "output/adapter_model.safetensors") for directory in (left, right))
    return first.keys() == second.keys() and all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


@pytest.fixture(scope="module")
def memorised(tmp_path_factory, model, rows):
    directory = tmp_path_factory.mktemp("memorised")
    return train(directory, model, rows, max_steps=60, learning_rate=0.01, lora={"rank": 16, "alpha": 32.0}, **PLAIN)


def test_loss_on_a_set_that_can_be_memorised_falls_to_nearly_nothing(memorised):
    losses = memorised.values("loss")
    assert losses[0] > 3
    assert losses[-1] < 0.1


def test_the_adapter_loads_in_plain_peft_and_answers_what_it_learned_and_then_stops(memorised, model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    renderer = Renderer.from_directory(model)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), memorised.directory / "output")
    for question, answer in ANSWERS.items():
        prompt = renderer.prompt([SYSTEM, {"role": "user", "content": question + " please please "}])
        with torch.no_grad():
            ids = adapted.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=list(renderer.end_of_turn_ids)
            )[0, len(prompt) :].tolist()
        assert ids[-1] in renderer.end_of_turn_ids
        assert renderer.decode(ids) == answer


def test_bf16_trains_an_fp32_adapter(tmp_path, model, rows, one_process):
    from safetensors.torch import load_file

    run = train(tmp_path, model, rows, num_train_epochs=2.0, precision="bf16", zero_stage=2, **PLAIN)
    assert run.exit_codes == [0], run.log
    assert run.of_kind("training_started")[0]["precision"] == "bf16"
    assert run.values("loss") == pytest.approx(one_process.values("loss"), rel=0.05)
    assert {str(tensor.dtype) for tensor in load_file(tmp_path / "output/adapter_model.safetensors").values()} == {
        "torch.float32"
    }


@pytest.mark.parametrize(("processes", "per_device"), [(1, 8), (2, 4)])
def test_a_loss_that_is_not_finite_ends_the_run_by_name(tmp_path, model, rows, processes, per_device):
    run = train(
        tmp_path,
        model,
        rows,
        max_steps=20,
        learning_rate=1e30,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=1,
        num_processes=processes,
    )
    assert run.exit_codes == [1] * processes
    (anomaly,) = run.of_kind("anomaly")
    failure = run.of_kind("failure")[0]
    assert (failure["reason"], failure["error_class"], failure["step"]) == ("LOSS_NOT_FINITE", "user", anomaly["step"])
    assert anomaly["step"] > 1
    assert "learning_rate" in failure["hint"]
    *good, last = run.values("loss")
    assert all(math.isfinite(loss) for loss in good)
    assert not math.isfinite(last), "what was measured is sent as it is"
    assert not (tmp_path / "output").exists()
    assert "Traceback" not in run.log


def test_rows_that_are_cut_or_left_out_are_counted_and_the_rest_trains(tmp_path, model, rows):
    run = train(tmp_path, model, [*rows, chat("why " * 200, "tracking")], max_seq_length=128, max_steps=1)
    assert run.exit_codes == [0], run.log
    (started,) = run.of_kind("training_started")
    assert (started["example_count"], started["cut_example_count"], started["left_out_example_count"]) == (19, 1, 1)
    assert "1 rows were cut to max_seq_length 128; 1 rows with nothing left to learn were left out: 20" in run.log


def test_data_with_nothing_left_to_learn_is_refused_before_anything_heavy_is_loaded(tmp_path, model):
    run = train(tmp_path, model, [chat("why " * 200, "tracking")], is_cold=True, max_seq_length=128)
    assert run.exit_codes == [1]
    (failure,) = run.events
    assert (failure["kind"], failure["reason"], failure["error_class"]) == ("failure", "NO_TRAINABLE_TOKENS", "user")
    assert "max_seq_length" in failure["hint"]
    assert failure["step"] == 0


def test_what_was_trained_on_is_what_a_preview_of_every_row_shows(one_process, model, rows):
    renderer = Renderer.from_directory(model)
    previews = [digest(render_row(renderer, row)) for row in rows]
    expected = hashlib.sha256(b"".join(map(bytes.fromhex, previews))).hexdigest()
    assert json.loads((one_process.directory / "result.json").read_text())["rendered_rows_sha256"] == expected


def test_a_broken_base_model_is_named(tmp_path, rows):
    broken = make_tiny_model(tmp_path / "broken-model")
    (broken / "model.safetensors").write_bytes(b"not weights")
    run = train(tmp_path / "run", broken, rows)
    assert run.exit_codes == [1]
    (failure,) = run.events
    assert failure["reason"] == "BASE_MODEL_UNUSABLE"
    assert "broken-model" in failure["message"]


def test_a_configuration_that_is_not_understood_is_the_platforms_fault_with_a_traceback(tmp_path, model, rows):
    config = configured(tmp_path, model, rows) | {"surprise": 1}
    with Ranks(tmp_path, config) as ranks:
        run = ranks.finish()
    assert run.exit_codes == [1]
    (failure,) = run.events
    assert (failure["reason"], failure["error_class"]) == ("TRAINING_FAILED", "platform")
    assert "config.surprise: unknown key" in failure["message"]
    assert "Traceback" in run.log


@pytest.mark.parametrize(("processes", "per_device"), [(1, 8), (2, 4)])
def test_sigterm_stops_every_rank_after_the_same_step_with_a_checkpoint_and_no_result(
    tmp_path, model, rows, processes, per_device
):
    config = configured(
        tmp_path,
        model,
        rows,
        max_steps=100_000,
        num_processes=processes,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=1,
    )
    with Ranks(tmp_path, config) as ranks:
        ranks.wait_for("metrics")
        ranks.terminate()
        run = ranks.finish()
    assert run.exit_codes == [143] * processes, run.log
    assert run.of_kind("failure") == []
    (saved,) = run.of_kind("checkpoint_saved")
    assert saved["step"] == run.of_kind("metrics")[-1]["step"]
    assert not (tmp_path / "output").exists()
    assert not (tmp_path / "result.json").exists()
