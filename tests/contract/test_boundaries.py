"""Light services stay light: importing them in a bare interpreter loads no machine-learning library."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "deepspeed")
LIGHT = {
    "services.task_manager.__main__": HEAVY,
    "services.storage.__main__": HEAVY,
    "services.trainer.__main__": HEAVY,
    "services.trainer.supervisor": (*HEAVY, "grpc", "google.protobuf"),
    "services.inference.__main__": HEAVY,
    "services.gateway.__main__": (*HEAVY, "psycopg", "minio"),
    "services.common.rendering": HEAVY,
    "tunesmith": (*HEAVY, "grpc"),
    "tunesmith.cli": (*HEAVY, "grpc"),
    "tunesmith.client": (*HEAVY, "services"),
}


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print(*(name for name in {LIGHT[module]!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
