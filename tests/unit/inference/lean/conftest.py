"""Makes the engines beside this file importable, and offers their models."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lean_engines import MODELS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lean" in item.path.parts:
            # peft asks transformers an old question, and says much about embeddings that share their weights with the head.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> object:
    return MODELS[request.param]()
