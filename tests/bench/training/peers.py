"""TRL and the Trainer of transformers on a job: same first weights, same tokens; their own loop, batching and settings."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from services.trainer.training.config import parse_config
from services.trainer.training.data import Tokens
from services.trainer.training.model import load_model
from tests.bench.training.job import MAX_LENGTH, SEED, Job, Moment
from tests.bench.training.tokens import in_order

_IGNORED = -100
# Everything a user would have to set to train in fp32 without trading time for memory.
_PLAIN = {"bf16": False, "gradient_checkpointing": False}


class _Clock(TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[Moment] = []
        self.losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(Moment.now())

    def on_log(self, _: Any, __: Any, ___: Any, logs: dict[str, float] | None = None, **____: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def run(job: Job) -> tuple[list[Moment], list[float], list[int]]:
    """(when each step ended, its loss, its tokens with loss)."""
    texts = [text for step in in_order(job) for text in step]
    clock, counted = _Clock(), []
    with tempfile.TemporaryDirectory() as directory:
        trainer = VARIANTS[job.variant](job, _dataset(texts), Path(directory))
        trainer.add_callback(clock)
        _count(trainer, counted)
        trainer.train()
    accumulation = trainer.args.gradient_accumulation_steps
    targets = [sum(counted[start : start + accumulation]) for start in range(0, len(counted), accumulation)]
    return clock.times, clock.losses, targets


def _count(trainer: Any, counted: list[int]) -> None:
    """Let `trainer` note the tokens with loss of every batch it computes."""
    compute = trainer.compute_loss

    def counting(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        counted.append(int((inputs["labels"][..., 1:] != _IGNORED).sum()))
        return compute(model, inputs, **options)

    trainer.compute_loss = counting


def _trl(job: Job, data: Dataset, directory: Path, **settings: Any) -> SFTTrainer:
    arguments = SFTConfig(**_common(job, directory) | settings)
    return SFTTrainer(model=_model(job), args=arguments, train_dataset=data, processing_class=_tokenizer(job))


def _trl_packing(job: Job, data: Dataset, directory: Path) -> SFTTrainer:
    # A packed row holds about this many of ours; the rows of a step are the same number of tokens.
    rows = sum(map(len, data["input_ids"])) / job.steps / MAX_LENGTH
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": max(1, round(rows))}
    return _trl(job, data, directory, **_PLAIN, **batch, packing=True, max_length=MAX_LENGTH)


def _grouped(job: Job, data: Dataset, directory: Path) -> Trainer:
    arguments = TrainingArguments(**_common(job, directory) | {"train_sampling_strategy": "group_by_length"})
    collator = DataCollatorForSeq2Seq(_tokenizer(job), label_pad_token_id=_IGNORED)
    return Trainer(model=_model(job), args=arguments, train_dataset=data, data_collator=collator)


VARIANTS: dict[str, Callable[[Job, Dataset, Path], Any]] = {
    "TRL, its defaults": _trl,
    "TRL packing": _trl_packing,
    "TRL padding_free": lambda *given: _trl(*given, **_PLAIN, padding_free=True, max_length=None),
    "transformers group_by_length": _grouped,
}


def _common(job: Job, directory: Path) -> dict[str, Any]:
    numbers = parse_config(job.config(directory)).hyperparameters
    return {
        "output_dir": str(directory),
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": job.batch // job.micro_batch,
        "max_steps": job.steps,
        "learning_rate": numbers.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": SEED,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def _model(job: Job) -> Any:
    return load_model(parse_config(job.config(Path("unused"))), (), torch.device("cpu"))


def _tokenizer(job: Job) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(job.model)


def _dataset(texts: Sequence[Tokens]) -> Dataset:
    return Dataset.from_dict({"input_ids": [list(text.ids) for text in texts], "labels": [_labels(text) for text in texts]})


def _labels(text: Tokens) -> list[int]:
    targets = set(text.targets)
    return [token if position in targets else _IGNORED for position, token in enumerate(text.ids)]
