"""Stand-ins for what the inference service talks to: an engine of scripted tokens, storage's answers, adapter files."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from services.common.bundles import Bundle
from services.common.errors import NotFound, ServiceError
from services.inference.checkpoint import Recipe
from services.inference.engine import GenerationRequest, Token, Written
from services.inference.resolver import ModelFiles

ARTIFACT = "artifacts/11111111-1111-4111-8111-111111111111"
OTHER_ARTIFACT = "artifacts/22222222-2222-4222-8222-222222222222"
TASK = "tasks/33333333-3333-4333-8333-333333333333"

Script = Callable[[GenerationRequest], Iterator[int]]


def repeating(request: GenerationRequest) -> Iterator[int]:
    """The default script: token 3, for ever."""
    while True:
        yield 3


class FakeEngine:
    """An Engine without weights: it answers what `script` says, and remembers what is loaded, asked and stepped."""

    def __init__(self, script: Script = repeating) -> None:
        self.script = script
        self.bases: dict[str, Path] = {}
        self.adapters: dict[str, str] = {}
        self.requests: list[GenerationRequest] = []
        self.rows: dict[int, tuple[str, Iterator[Written]]] = {}
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        self.device_bytes = 0
        self.stopped = threading.Event()

    def load_base(self, name: str, directory: Path) -> None:
        if not (directory / "model.safetensors").exists():
            raise ServiceError("BASE_MODEL_UNUSABLE", f"{name} does not load")
        self.bases[name] = directory

    def load_adapter(self, base: str, name: str, directory: Path) -> None:
        assert base in self.bases
        if not (directory / "adapter_model.safetensors").exists():
            raise ServiceError("ARTIFACT_UNUSABLE", f"{name} does not load")
        self.adapters[name] = base

    def unload(self, name: str) -> None:
        self.bases.pop(name, None)
        self.adapters = {adapter: base for adapter, base in self.adapters.items() if name not in (adapter, base)}

    def free_device_bytes(self) -> int:
        return self.device_bytes

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        self.requests.append(request)
        assert request.base in self.bases
        assert request.adapter is None or self.adapters[request.adapter] == request.base
        self.rows[ticket] = (request.base, _judging(request, self.script(request)))

    def step(self, base: str) -> dict[int, Written | ServiceError]:
        rows = {ticket: script for ticket, (own, script) in self.rows.items() if own == base}
        self.steps.append((base, tuple(rows)))
        outcomes = {ticket: _next(script) for ticket, script in rows.items()}
        for ticket in [ticket for ticket, outcome in outcomes.items() if isinstance(outcome, ServiceError)]:
            del self.rows[ticket]
        return outcomes

    def leave(self, ticket: int) -> None:
        self.rows.pop(ticket, None)
        self.stopped.set()


def _judging(request: GenerationRequest, script: Iterator[int]) -> Iterator[Written]:
    """Every token is half as probable as can be, and as likely as token 0, if that is asked for."""
    half = math.log(0.5)

    def told(token: int) -> tuple[int, float | None, tuple[tuple[int, float], ...]]:
        return (token, None, ()) if request.logprobs is None else (token, half, ((0, half),) * min(1, request.logprobs))

    judged = () if request.judged_from is None else request.prompt[request.judged_from :]
    prompt = tuple(Token(*told(token)) if index or request.judged_from else Token(token) for index, token in enumerate(judged))
    for token in script:
        if request.guide:
            request.guide.take(token)
        yield Written(*told(token), prompt)
        prompt = ()


def _next(script: Iterator[Written]) -> Written | ServiceError:
    try:
        return next(script)
    except ServiceError as error:
        return error


class FakeBundles:
    """Storage's files by resource name; `failure` makes every question fail."""

    def __init__(self, *bundles: Bundle) -> None:
        self.by_name = {bundle.name: bundle for bundle in bundles}
        self.failure: ServiceError | None = None
        self.kept: list[set[str]] = []

    async def base_model(self, name: str) -> Bundle:
        return self._find(name, "BASE_MODEL_NOT_FOUND")

    async def artifact(self, name: str) -> Bundle:
        return self._find(name, "ARTIFACT_NOT_FOUND")

    async def model_version(self, name: str) -> Bundle:
        return self._find(name, "MODEL_VERSION_NOT_FOUND")

    async def keep(self, directories: Iterable[str]) -> None:
        self.kept.append(set(directories))

    def _find(self, name: str, reason: str) -> Bundle:
        if self.failure:
            raise self.failure
        if name not in self.by_name:
            raise NotFound(reason, name)
        return self.by_name[name]


class FakeArtifacts:
    """The newest artifact by task, checkpoints by task and step, recipes by artifact; of a registered model, version 3."""

    def __init__(self, newest: dict[str, str] | None = None) -> None:
        self.by_task = newest or {}
        self.ended: dict[str, str] = {}
        self.checkpoints: dict[tuple[str, int], str] = {}
        self.recipes: dict[str, Recipe] = {}
        self.bases: list[str] = []
        self.weights: dict[str, int] = {}

    async def weight_bytes(self, name: str) -> int:
        return self.weights.get(name, 1)

    async def refuse_ended(self, task: str) -> None:
        if task in self.ended:
            raise ServiceError("ARTIFACT_EXPIRED", f"{self.ended[task]} expired at noon")

    async def newest(self, task: str) -> str | None:
        return self.by_task.get(task)

    async def checkpoint(self, task: str, step: int) -> str:
        if (task, step) not in self.checkpoints:
            raise NotFound("CHECKPOINT_NOT_FOUND", f"{task}@step-{step}")
        return self.checkpoints[task, step]

    async def recipe(self, artifact: str) -> Recipe:
        return self.recipes[artifact]

    async def base_models(self) -> list[str]:
        return self.bases

    async def version(self, name: str) -> str:
        return f"{name.partition('@')[0]}/versions/3"


def files_of(base: str, directory: Path, artifact: str | None = None, adapter_directory: Path | None = None) -> ModelFiles:
    """ModelFiles with revisions that fit."""
    name = f"baseModels/{base}"
    adapter = Bundle(artifact, adapter_directory, name, "r1", is_adapter=True) if artifact and adapter_directory else None
    return ModelFiles(Bundle(name, directory, name, "r1"), adapter)


def write_adapter_weights(directory: Path, *, elements: int = 16) -> Path:
    """Something with the size of an adapter, for tests that only weigh it."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({"lora_A": np.zeros((elements,), np.float32)}, directory / "adapter_model.safetensors")
    return directory
