"""Training and serving compute the same: on the rows it was trained on, with the result and with its checkpoint."""

import datetime
from pathlib import Path

import pytest
from engine_rows import first_written
from inference_fakes import ARTIFACT, TASK
from tiny_model import make_tiny_model
from training_configs import LORA
from training_in_process import ROWS, configured, run

from services.common.bundles import Bundle
from services.inference.checkpoint import Recipe, servable
from services.inference.question import Message, Question
from services.inference.registry import Registry
from services.inference.request import judgement_for
from services.inference.resolver import ModelFiles
from services.inference.transformers_engine import TransformersEngine

pytestmark = pytest.mark.integration

NUMBERS = {"max_steps": 6, "save_steps": 6, "learning_rate": 0.02, "validation": False}
# Nothing moves: the loss of its one step is that of the weights it starts with, over all rows.
STILL = {
    "max_steps": 1,
    "learning_rate": 1e-9,
    "validation": False,
    "global_batch_size": len(ROWS),
    "per_device_train_batch_size": len(ROWS),
    "gradient_accumulation_steps": 1,
}
# Nats per token. Training packs rows without padding and serving reads them in pieces: other shapes, other rounding.
BOUND = 2e-6


def files_of(model: Path, directory: Path, tuning: str, kind: str) -> ModelFiles:
    base = Bundle("baseModels/tiny", model, "baseModels/tiny", "r1")
    stored = Bundle(ARTIFACT, directory, base.name, "r1", is_adapter=kind == "ADAPTER", kind=kind)
    if kind == "CHECKPOINT":
        lora = {"r": LORA["rank"], "lora_alpha": LORA["alpha"], "target_modules": "all-linear"}
        stored = servable(stored, Recipe("SFT", lora if tuning == "lora" else None), base)
    return ModelFiles(base, stored) if stored.is_adapter else ModelFiles(stored)


def served_loss(files: ModelFiles) -> float:
    """Mean negative log-likelihood of the assistant's tokens over all rows, in nats, as ScoreChat tells them."""
    engine = TransformersEngine(threads=1, prefix_tokens=512, pack_up_to=2**30)
    model = Registry(engine, max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1)).hold(TASK, files)
    logprobs: list[float] = []
    for row in ROWS:
        turns = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
        judged = judgement_for(model, Question("tiny", turns))
        learned = judged.learned[judged.request.judged_from :]
        prompt = first_written(engine, judged.request).prompt
        logprobs += [token.logprob for token, is_learned in zip(prompt, learned, strict=True) if is_learned]
    return -sum(logprobs) / len(logprobs)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_result_and_checkpoint_have_the_loss_in_serving_that_training_measures(tmp_path: Path, tuning: str) -> None:
    model = make_tiny_model(tmp_path / "base")
    _, died = run(configured(tmp_path / "run", model, tuning=tuning, **NUMBERS))
    assert not died
    checkpoint = tmp_path / "run" / "checkpoints" / "step-6"
    still = configured(tmp_path / "still", model, tuning=tuning, **STILL)
    recorder, died = run(still | {"initial_weights": {"kind": "CHECKPOINT", "directory": str(checkpoint)}})
    assert not died
    trained = float.fromhex(recorder.values[1, "loss"])
    kind = "ADAPTER" if tuning == "lora" else "MODEL"
    for directory, stored in ((tmp_path / "run" / "output", kind), (checkpoint, "CHECKPOINT")):
        assert served_loss(files_of(model, directory, tuning, stored)) == pytest.approx(trained, abs=BOUND)
    untrained = ModelFiles(Bundle("baseModels/tiny", model, "baseModels/tiny", "r1"))
    assert served_loss(untrained) > trained + 0.1
