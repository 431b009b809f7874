"""The face and the supervisor start fast: neither loads what only training needs."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("services.trainer.__main__", ("torch", "transformers", "peft", "deepspeed", "numpy")),
        ("services.trainer.answering.__main__", ("torch", "transformers", "peft", "deepspeed")),
        ("services.trainer.supervisor", ("torch", "grpc", "structlog", "google", "asyncio", "tunesmith")),
    ],
)
def test_a_light_process_loads_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print('loaded:', *sorted(set({forbidden!r}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "loaded:"
