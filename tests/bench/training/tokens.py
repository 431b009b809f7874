"""The rows of a job as our training sees them: tokens, targets and order; peers are given the same."""

from pathlib import Path

from services.common.rendering import Renderer
from services.trainer.training.batches import windows
from services.trainer.training.config import parse_config
from services.trainer.training.data import Dataset, Tokens, load_dataset
from services.trainer.training.objectives.forms import FORMS
from tests.bench.training.job import MAX_LENGTH, Job


def dataset(job: Job) -> Dataset:
    """Rendered and cut by the product."""
    return load_dataset(Path(job.rows), Renderer.from_directory(Path(job.model)), MAX_LENGTH, FORMS["sft"])


def in_order(job: Job) -> list[list[Tokens]]:
    """By optimizer step."""
    data, numbers = dataset(job), parse_config(job.config(Path("unused"))).hyperparameters
    steps = windows(data.lengths, numbers)
    return [[example.texts[0] for example in data.take(window.examples)] for window in steps]
