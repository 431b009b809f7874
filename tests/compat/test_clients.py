"""Other people's clients, each in an environment of its own, do against us what they were made for.

`works_with.json` says what that is; README's table is made of it.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import openai
import pytest

from docs import works_with
from tests.compat import environments
from tests.e2e.local_stack import LocalStack
from tests.shared_stack import TINY

pytestmark = pytest.mark.e2e

SCRIPTS = pathlib.Path(__file__).with_name("clients")
# Checkpoints to list and to ask, and three steps.
EXTRA = {"tunesmith": {"hyperparameters": {"max_steps": 3, "save_steps": 1, "save_total_limit": 3, "lora": {"rank": 4}}}}


@dataclasses.dataclass(frozen=True)
class Client:
    """`environment` names the lock of its packages; `package` is the one whose version is told."""

    environment: str
    package: str
    script: str


CLIENTS = {
    "openai (Python)": Client("openai-2", "openai", "openai_python.py"),
    "openai command line": Client("openai-2", "openai", "openai_cli.py"),
    "llm": Client("llm", "llm", "llm.py"),
    "LangChain": Client("langchain", "langchain-openai", "langchain.py"),
    "instructor": Client("instructor", "instructor", "instructor.py"),
    "pydantic-ai": Client("pydantic-ai", "pydantic-ai-slim", "pydantic_ai.py"),
    "OpenAI Agents": Client("openai-agents", "openai-agents", "openai_agents.py"),
    "aisuite": Client("aisuite", "aisuite", "aisuite.py"),
    "any-llm": Client("any-llm", "any-llm-sdk", "any_llm.py"),
    "smolagents": Client("smolagents", "smolagents", "smolagents.py"),
}
# Their environments take hundreds of megabytes and minutes: `pytest tests/compat -m nightly`.
NIGHTLY = {
    "LiteLLM": Client("nightly/litellm", "litellm", "litellm.py"),
    "lm-eval": Client("nightly/lm-eval", "lm_eval", "lm_eval.py"),
    "inspect-ai": Client("nightly/inspect-ai", "inspect_ai", "inspect_ai.py"),
    "DSPy": Client("nightly/dspy", "dspy", "dspy.py"),
    "LlamaIndex": Client("nightly/llama-index", "llama-index-core", "llama_index.py"),
}


@pytest.fixture
def run(
    stack: LocalStack, client: openai.OpenAI, job, tools_model: str, rows: pathlib.Path, tmp_path: pathlib.Path
) -> Callable[..., list[str]]:
    """Runs a client's script; returns what it says it did."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ},
        "HOME": str(tmp_path),
        "OPENAI_BASE_URL": str(client.base_url).rstrip("/"),
        "OPENAI_API_KEY": client.api_key,
        "MODEL": job.fine_tuned_model,
        "BASE": TINY,
        "TOOLS_MODEL": tools_model,
        "ROWS": str(rows),
        "EXTRA": json.dumps(EXTRA),
        "LLM_USER_PATH": str(tmp_path / "llm"),
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
    }

    def run(*command: str) -> list[str]:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def as_committed(client: str, version: str, did: list[str]) -> None:
    """What was seen is what the file says; TUNESMITH_RECORD_CLIENTS=1 writes it instead."""
    if os.environ.get("TUNESMITH_RECORD_CLIENTS"):
        seen = {**works_with.seen(), client: {"version": version, "did": did}}
        works_with.FILE.write_text(json.dumps(dict(sorted(seen.items())), indent=2) + "\n")
    assert works_with.seen()[client] == {"version": version, "did": did}, "run with TUNESMITH_RECORD_CLIENTS=1, then `make docs`"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_of_python_works(run: Callable[..., list[str]], name: str) -> None:
    client = CLIENTS[name]
    interpreter = environments.python_of(client.environment)
    did = run(str(interpreter), "-P", str(SCRIPTS / client.script))
    as_committed(name, environments.version_of(client.environment, client.package), did)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NIGHTLY)
def test_a_heavy_client_works(run: Callable[..., list[str]], name: str) -> None:
    client = NIGHTLY[name]
    assert run(str(environments.python_of(client.environment)), "-P", str(SCRIPTS / client.script))


def test_the_newest_openai_package_works(run: Callable[..., list[str]]) -> None:
    """That of our own environment."""
    as_committed("openai (Python), newest", openai.__version__, run(sys.executable, "-P", str(SCRIPTS / "openai_python.py")))


def test_openai_for_node_works(run: Callable[..., list[str]]) -> None:
    if not shutil.which("node"):
        pytest.skip("there is no Node.js here")
    as_committed("openai (Node.js)", "6.49.0", _run_in_node(run, "node", environments.NODE, "openai_node.mjs"))


@pytest.mark.nightly
def test_promptfoo_works(run: Callable[..., list[str]]) -> None:
    if not shutil.which("node"):
        pytest.skip("there is no Node.js here")
    as_committed("promptfoo", "0.121.17", _run_in_node(run, "nightly/promptfoo", environments.PROMPTFOO, "promptfoo.mjs"))


def _run_in_node(run: Callable[..., list[str]], client: str, packages: str, script: str) -> list[str]:
    directory = environments.node_modules(client, packages)
    shutil.copy(SCRIPTS / script, directory)
    return run("node", str(directory / script))
