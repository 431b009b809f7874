"""One stack with the tiny base model, and the real `openai` package as its client; one tuned model for all tests."""

import json
import pathlib
from collections.abc import Iterator

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.e2e.conftest import TINY, rows, stack
from tests.e2e.local_stack import LocalStack, eventually

__all__ = ["rows", "stack"]

HYPERPARAMETERS = {"lora": {"rank": 4}, "max_steps": 4, "learning_rate": 0.01}


@pytest.fixture(scope="session")
def client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    """As a script makes it that was written for OpenAI: base URL and key come from the stack, nothing else is told."""
    key = (stack.directory / "api_key").read_text().strip()
    with openai.OpenAI(base_url=f"http://{stack.state()['addresses']['gateway']}/v1", api_key=key, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def training_file(client: openai.OpenAI, rows: pathlib.Path) -> openai.types.FileObject:
    """The rows, uploaded."""
    return client.files.create(file=rows.open("rb"), purpose="fine-tune")


@pytest.fixture(scope="session")
def job(client: openai.OpenAI, training_file: openai.types.FileObject) -> FineTuningJob:
    """A job that has succeeded."""
    created = client.fine_tuning.jobs.create(
        model=TINY,
        training_file=training_file.id,
        suffix="Numbers",
        seed=7,
        metadata={"purpose": "compat"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 8}}},
        extra_body={"tunesmith": {"hyperparameters": HYPERPARAMETERS}},
    )
    eventually(lambda: client.fine_tuning.jobs.retrieve(created.id).status in ("succeeded", "failed"), 120, "the job ended")
    ended = client.fine_tuning.jobs.retrieve(created.id)
    assert ended.status == "succeeded", json.dumps(ended.to_dict())
    return ended
