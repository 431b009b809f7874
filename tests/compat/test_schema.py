"""The gateway keeps to its OpenAPI file whatever it is sent: schemathesis reads the file and asks, before scripted services."""

import asyncio
import dataclasses

import pytest

from services.common.config import Secret
from services.gateway.settings import GatewaySettings
from tests.compat import environments
from tests.fake_platform import a_run
from tests.ports import free_port
from tests.unit.gateway.conftest import KEY, serving
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, TaskSpec

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


@pytest.fixture
def settings(platform) -> GatewaySettings:
    """Without limits of the rate: questions come as fast as they can."""
    addresses = {f"{name}_address": platform.address for name in ("task_manager", "storage", "inference")}
    limits = dict.fromkeys(("requests_per_second", "address_requests_per_second"), 0.0)
    return GatewaySettings(listen=f"127.0.0.1:{free_port()}", api_key=Secret(KEY), **addresses, **limits)


async def test_whatever_the_file_permits_and_forbids_is_answered_as_it_says(platform, settings, tmp_path) -> None:
    dataset = platform.datasets.add()
    spec = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny", dataset=dataset.name))
    numbers = Hyperparameters(num_train_epochs=3, global_batch_size=16, learning_rate=2e-4, seed=42)
    platform.tasks.add(state=Task.RUNNING, spec=spec, effective_hyperparameters=numbers, events=a_run())
    schemathesis = str(environments.python_of("schemathesis").with_name("st"))
    command = (schemathesis, "run", f"http://{settings.listen}/openapi.json", "--header", f"Authorization: Bearer {KEY}")
    # /readyz asks the services for their health, which scripted ones have not.
    options = ("--exclude-path", "/readyz", "--checks", ",".join(CHECKS), "--max-examples", "3", "--seed", "1", "--no-shrink")
    async with serving(dataclasses.replace(settings)):
        # It leaves notes where it runs.
        process = await asyncio.create_subprocess_exec(
            *(*command, *options, "--phases", "coverage,fuzzing"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
