"""One stack for all tests that leave it as they found it, in whatever directory; its fixtures stand in tests/conftest.py."""

import contextlib
import json
import pathlib
from collections.abc import Iterator

import openai
import pytest

from tests.e2e.local_stack import LocalStack, local_stack

TINY = "tiny-llama"


def write_rows(path: pathlib.Path, count: int) -> pathlib.Path:
    """`count` rows in which the answer is the question's number."""
    rows = []
    for number in range(count):
        messages = [{"role": "user", "content": f"number {number}"}, {"role": "assistant", "content": f"{number % 7}"}]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A file of 24 rows."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 24)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack with the tiny base model."""
    from tests.e2e.register import register_base_model
    from tests.tiny_model import make_tiny_model

    directory = tmp_path_factory.mktemp("stack")
    model = make_tiny_model(tmp_path_factory.mktemp("model") / TINY)
    with local_stack(directory / "data", "--no-base-model") as running:
        register_base_model(running.state()["addresses"]["storage"], TINY, model)
        yield running


@contextlib.contextmanager
def openai_client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the stack's gateway."""
    key = (stack.directory / "api_key").read_text().strip()
    with openai.OpenAI(base_url=f"http://{stack.state()['addresses']['gateway']}/v1", api_key=key, timeout=60) as made:
        yield made
