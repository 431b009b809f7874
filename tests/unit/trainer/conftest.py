"""A run's request and directory, as StartRun would make them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from trainer_values import make_request

from services.trainer.run import Request
from services.trainer.run_directory import RunDirectory


@pytest.fixture
def request_() -> Request:
    return make_request()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, make_request())
