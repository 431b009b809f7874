"""The real `openai` package as a client of the stack that all end-to-end tests share; one tuned model for all tests."""

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.chat_families import FAMILIES
from tests.e2e.local_stack import LocalStack
from tests.e2e.register import register_base_model
from tests.shared_stack import TINY, openai_client
from tests.tiny_model import make_tiny_model

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/how-to/move-from-openai.md"


@pytest.fixture(scope="session")
def client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    """As a script makes it that was written for OpenAI: base URL and key come from the stack, nothing else is told."""
    with openai_client(stack) as made:
        yield made


@pytest.fixture(scope="session")
def training_file(client: openai.OpenAI, rows: pathlib.Path) -> openai.types.FileObject:
    """The rows, uploaded."""
    return client.files.create(file=rows, purpose="fine-tune")


@pytest.fixture(scope="session")
def job(stack: LocalStack, client: openai.OpenAI, rows: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuningJob:
    """The job of the script in "Move from OpenAI fine-tuning in five minutes", run as it stands there but for the model."""
    place = tmp_path_factory.mktemp("moved")
    (place / "train.jsonl").write_bytes(rows.read_bytes())
    script = re.search(r"```python\n(import .*?)```", PAGE.read_text(), re.DOTALL)[1].replace("smollm2-135m-instruct", TINY)
    environment = {**stack.environment, "OPENAI_BASE_URL": str(client.base_url), "OPENAI_API_KEY": client.api_key}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Succeeded" in done.stdout
    return client.fine_tuning.jobs.retrieve(done.stdout.split()[-1])


@pytest.fixture(scope="session")
def tools_model(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base model whose chat template knows tools."""
    name = "tiny-tools"
    template = FAMILIES["qwen3"].template
    model = make_tiny_model(tmp_path_factory.mktemp("tools") / name, context_length=2048, chat_template=template)
    register_base_model(stack.state()["addresses"]["storage"], name, model)
    return name
