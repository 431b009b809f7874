"""What training only the last layers costs in accuracy: `python -m tests.bench.training.accuracy --last-layers 8 [--steps 100]`.

Trains SmolLM2 135M with the product's defaults for LoRA (rank 16; learning rate 2e-4 unless another is given) on
TUNESMITH_BENCH_DATA/train.jsonl, the same rows in the same order whatever the layers, and counts the rows of test.jsonl that the
model would answer exactly as they do: each target token is the likeliest after those before it, which is what greedy decoding
writes. One line a call, so that a machine with neighbours can be asked for minutes at a time.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.common.rendering import Renderer
from services.trainer.training.config import InitialWeights, TrainConfig, parse_config
from services.trainer.training.data import Dataset, load_dataset
from services.trainer.training.objectives.forms import FORMS
from tests.bench.training import ours
from tests.bench.training.job import DATA_VARIABLE, MAX_LENGTH, SEED, import_model
from tests.training_configs import config_json

_Z = 1.96
_ROWS_AT_A_TIME = 50


def main() -> None:
    """Train, ask and print."""
    options = _options()
    data = Path(os.environ[DATA_VARIABLE])
    with tempfile.TemporaryDirectory() as directory:
        model = options.model or import_model(Path(directory) / "model")
        config = configuration(model, data / "train.jsonl", Path(directory) / "output", options)
        times, losses = ours.train(config)
        renderer = Renderer.from_directory(model)
        asked, learned = (load_dataset(data / name, renderer, MAX_LENGTH, FORMS["sft"]) for name in ("test.jsonl", "train.jsonl"))
        asked = replace(asked, examples=asked.examples[: options.rows])
        right = sum(answers(config, learned, asked))
    seconds = times[-1].wall - times[0].wall
    low, high = interval(right, options.rows)
    print(
        f"| {options.last_layers or 'all'} | {options.learning_rate:g} | {options.steps} | {seconds:.0f} |"
        f" {seconds / (options.steps - 1):.2f} |"
        f" {losses[0]:.3f} | {sum(losses[-10:]) / 10:.3f} | {right} of {options.rows} | {100 * low:.1f} to {100 * high:.1f} % |"
    )


def configuration(model: Path, rows: Path, output: Path, options: argparse.Namespace) -> TrainConfig:
    """16 rows a step, warmed up over a twentieth of the steps, as a task without hyperparameters is."""
    value = config_json(
        paths={"base_model_dir": str(model), "train_file": str(rows), "output_dir": str(output)},
        lora={"rank": 16, "alpha": 32.0, "last_layers": options.last_layers},
        learning_rate=options.learning_rate,
        warmup_steps=options.steps // 20,
        global_batch_size=16,
        per_device_train_batch_size=8,
        max_steps=options.steps,
        max_seq_length=MAX_LENGTH,
        seed=SEED,
    )
    return parse_config(value)


def answers(config: TrainConfig, learned: Dataset, asked: Dataset) -> list[bool]:
    """Whether the model would write exactly what each row has; `learned` says which prefix rows share."""
    import torch

    from services.trainer.training.fast import fast_decoder
    from services.trainer.training.initial import load_initial
    from services.trainer.training.model import load_model
    from services.trainer.training.objectives.policy import Policy
    from services.trainer.training.objectives.sequences import Sequences, target_scores

    device = torch.device("cpu")
    model: Any = load_model(config, (), device).eval()
    load_initial(model, InitialWeights(config.output_dir, "ADAPTER"))
    policy, sequences = Policy(model, fast_decoder(model, config)), Sequences.sharing(learned, config.hyperparameters)
    found: list[bool] = []
    for start in range(0, len(asked.examples), _ROWS_AT_A_TIME):
        batch = sequences.collate([each.texts[0] for each in asked.examples[start : start + _ROWS_AT_A_TIME]], device)
        with torch.no_grad():
            wrong = batch.per_sequence((~target_scores(policy, batch)[1]).float())
        found += (wrong == 0).tolist()
    return found


def interval(right: int, count: int) -> Sequence[float]:
    """Wilson's, of 95 %: shares between which the true one lies."""
    share, spread = right / count, _Z**2 / count
    middle = share + spread / 2
    half = _Z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--last-layers", type=int, default=0, help="0 = all")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=400, help="of test.jsonl that are asked")
    parser.add_argument("--model", type=Path, help="directory of the model; default = SmolLM2 135M is converted first")
    return parser.parse_args()


if __name__ == "__main__":
    main()
