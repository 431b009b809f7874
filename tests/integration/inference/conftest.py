"""Real weights for the inference service: a tiny base model and two adapters on it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "inference"))

from peft_reference import write_adapter
from tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def adapter_directory(base_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(base_directory, tmp_path_factory.mktemp("adapters") / "first", seed=1, target_modules="all-linear")


@pytest.fixture(scope="session")
def other_adapter_directory(base_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another rank and on other modules than the first."""
    directory = tmp_path_factory.mktemp("adapters") / "second"
    return write_adapter(base_directory, directory, seed=2, target_modules=["q_proj", "v_proj"], rank=2)
