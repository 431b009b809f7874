"""Makes the fakes beside this file importable and offers tiny models."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inference_fakes import files_of
from inference_service import Service, serving
from tiny_model import make_tiny_model

from services.inference.resolver import ModelFiles

MakeFiles = Callable[..., ModelFiles]


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model; read-only."""
    return make_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def base_files(model_directory: Path) -> ModelFiles:
    """The tiny base model, as the resolver would give it."""
    return files_of("tiny", model_directory)


@pytest.fixture
async def service(model_directory: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """A service of its own for every test."""
    async with serving(model_directory, tmp_path) as service:
        yield service
