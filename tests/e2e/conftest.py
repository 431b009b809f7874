"""What the end-to-end tests share beside the stack."""

import pathlib

import pytest

from tests.e2e.local_stack import LocalStack
from tests.shared_stack import TINY, write_rows

__all__ = ["TINY", "write_rows"]


@pytest.fixture(scope="session")
def dataset(stack: LocalStack, rows: pathlib.Path) -> str:
    """The rows, uploaded."""
    return str(stack.json("data", "upload", str(rows))["name"])
