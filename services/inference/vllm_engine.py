"""The Engine that has vLLM compute: for GPUs, and for machines that have vLLM already.

vLLM has a scheduler of its own; it is asked a step at a time, so ours decides who is in the batch. What it cannot do is refused
when a model is loaded: see `vllm_adapter`. This module knows vLLM as `VllmModel` alone; `vllm_model` imports it.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Guide, Written
from services.inference.vllm_adapter import check_adapter
from services.inference.vllm_sampling import Judgements, arguments, written

log = structlog.get_logger()

_NO_LOAD = "If room for keys and values is missing, raise TUNESMITH_INFERENCE_VLLM_CACHE_BYTES; the inference log has all of it."


class Step(NamedTuple):
    """What one request got in a step: none or one token, its judgements; those of the prompt once, when it has been read.

    `ended` = vLLM has forgotten the request.
    """

    ticket: int
    tokens: Sequence[int]
    judgements: Sequence[Judgements] | None
    prompt: Sequence[Judgements | None] | None
    ended: bool = False


class VllmModel(Protocol):
    """A base model in vLLM. Whatever vLLM raises is passed on."""

    def add(
        self, ticket: int, prompt: Sequence[int], arguments: Mapping[str, Any], guide: Guide | None, adapter: int | None
    ) -> None:
        """Adds a request; `arguments` are those of SamplingParams."""

    def step(self) -> Sequence[Step]:
        """One step of all requests."""

    def abort(self, ticket: int) -> None:
        """Takes a request out; one that is not there is ignored."""

    def add_adapter(self, number: int, directory: pathlib.Path) -> None:
        """Loads an adapter under a number, which is never used twice."""

    def remove_adapter(self, number: int) -> None:
        """Frees an adapter."""

    def close(self) -> None:
        """Frees everything."""


class _Loaded:
    """A base model, its adapters' numbers, and its requests under way."""

    def __init__(self, model: VllmModel) -> None:
        self.model = model
        self.adapters: dict[str, int] = {}
        self.rows: dict[int, GenerationRequest] = {}
        self.prompts: dict[int, Sequence[Judgements | None]] = {}
        self.ended: set[int] = set()


class VllmEngine:
    """See Engine. `start` loads a base model's directory into vLLM; `free_device_bytes` as Engine's."""

    def __init__(self, start: Callable[[pathlib.Path], VllmModel], free_device_bytes: Callable[[], int] = lambda: 0) -> None:
        self._start = start
        self._free_device_bytes = free_device_bytes
        self._bases: dict[str, _Loaded] = {}
        self._last_number = 0

    def load_base(self, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        try:
            self._bases[name] = _Loaded(self._start(directory))
        except Exception as error:
            log.exception("base_model.load_failed", base_model=name)
            message = f"{name} does not load into vLLM: {_said(error)}"
            raise ServiceError("BASE_MODEL_UNUSABLE", message, hint=_NO_LOAD) from error

    def load_adapter(self, base: str, name: str, directory: pathlib.Path) -> None:
        """See Engine."""
        self._last_number += 1
        try:
            check_adapter(directory)
            self._bases[base].model.add_adapter(self._last_number, directory)
        except Exception as error:
            log.exception("adapter.load_failed", adapter=name)
            raise ServiceError("ARTIFACT_UNUSABLE", f"{name} does not load into vLLM: {_said(error)}") from error
        self._bases[base].adapters[name] = self._last_number

    def unload(self, name: str) -> None:
        """See Engine."""
        if base := self._bases.pop(name, None):
            base.model.close()
        for base in self._bases.values():
            if number := base.adapters.pop(name, None):
                base.model.remove_adapter(number)

    def free_device_bytes(self) -> int:
        """See Engine."""
        return self._free_device_bytes()

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine."""
        base = self._bases[request.base]
        number = None if request.adapter is None else base.adapters[request.adapter]
        base.model.add(ticket, request.prompt, arguments(request), request.guide, number)
        base.rows[ticket] = request

    def step(self, base: str) -> Mapping[int, Written | ServiceError]:
        """See Engine. vLLM does not say whose fault a failure is: all rows of the base model fail with it."""
        loaded = self._bases[base]
        # Whoever had all tokens has left by now; the others would wait for ever.
        early = loaded.ended & loaded.rows.keys()
        failed: dict[int, Written | ServiceError] = {
            ticket: self._failed(loaded, ticket, RuntimeError("vLLM has ended the answer")) for ticket in early
        }
        if not loaded.rows:
            return failed
        try:
            steps = loaded.model.step()
        except Exception as error:
            log.exception("generation.failed", base=base, rows=len(loaded.rows))
            return failed | {ticket: self._failed(loaded, ticket, error) for ticket in list(loaded.rows)}
        loaded.ended |= {step.ticket for step in steps if step.ended}
        return failed | {step.ticket: outcome for step in steps if (outcome := self._outcome(loaded, step))}

    def leave(self, ticket: int) -> None:
        """See Engine."""
        for loaded in self._bases.values():
            if loaded.rows.pop(ticket, None):
                loaded.prompts.pop(ticket, None)
                loaded.ended.discard(ticket)
                loaded.model.abort(ticket)

    def _outcome(self, loaded: _Loaded, step: Step) -> Written | ServiceError | None:
        request = loaded.rows.get(step.ticket)
        if request is None:
            return None
        if step.prompt:
            loaded.prompts[step.ticket] = step.prompt
        if not step.tokens:
            return None
        (token,) = step.tokens
        judgements = step.judgements[0] if step.judgements else None
        try:
            if request.guide:
                request.guide.take(token)
            return written(request, token, judgements, loaded.prompts.pop(step.ticket, None))
        except ValueError as error:
            return self._failed(loaded, step.ticket, error)

    def _failed(self, loaded: _Loaded, ticket: int, error: Exception) -> ServiceError:
        self.leave(ticket)
        return ServiceError("GENERATION_FAILED", f"the model failed: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
