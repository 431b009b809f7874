"""The real pretrained model: prepared from its package by `tunesmith up`, tuned for a few steps on the demo data, and asked."""

import pathlib

import pytest

import tunesmith
from tests.e2e.local_stack import local_stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL = "smollm2-135m-instruct"
AS_SHIPPED = {"TUNESMITH_TRAINER_WARM_PROCESSES": "1", "TUNESMITH_TRAINER_SPEED_MODULE": "services.trainer.training.speed"}
"""What other tests' stacks leave away to save time."""
TRAIN = pathlib.Path(tunesmith.__file__).parent / "local" / "demo" / "train.jsonl"


@pytest.mark.timeout(900)
def test_a_few_steps_teach_smollm2_to_answer_in_json(tmp_path: pathlib.Path) -> None:
    question = ("--message", "where is my parcel?", "--max-tokens", "12")
    with local_stack(tmp_path / "data", **AS_SHIPPED) as stack:
        (model,) = stack.json_lines("model", "ls")
        assert (model["name"], model["license"], model["context_length"]) == (f"baseModels/{MODEL}", "Apache-2.0", "8192")
        numbers = ("--set", "max_steps=8", "--set", "learning_rate=0.001", "--set", "warmup_steps=1")
        task = stack.json("task", "create", "--model", MODEL, "--data", str(TRAIN), *numbers)
        stack.run("task", "watch", task["name"], timeout=600)
        losses = [point["values"]["loss"] for point in stack.json_lines("task", "metrics", task["name"], "--metric", "loss")]
        base = stack.json("model", "chat", MODEL, *question)["message"]["content"]
        tuned = stack.json("model", "chat", task["name"], *question)["message"]["content"]
    assert losses[0] > 2 * losses[-1]
    assert not base.startswith("{")
    assert tuned.startswith('{"intent": "')
