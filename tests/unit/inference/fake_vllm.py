"""A stand-in for a base model in vLLM: scripted tokens, and vLLM's ways of saying them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from inference_fakes import repeating

from services.inference.engine import GenerationRequest, Guide
from services.inference.vllm_engine import Step, VllmEngine


@dataclasses.dataclass(frozen=True)
class Logprob:
    """vllm.logprobs.Logprob."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclasses.dataclass
class _Row:
    script: Iterator[int]
    prompt: Sequence[int]
    arguments: Mapping[str, Any]
    guide: Guide | None
    adapter: int | None
    left: int
    judged: bool = False


class FakeVllm:
    """See VllmModel. It writes until `max_tokens`; a prompt of more than 8 tokens is read in a step of its own."""

    def __init__(self, directory: pathlib.Path, script: Callable[[GenerationRequest], Iterator[int]] = repeating) -> None:
        if not (directory / "model.safetensors").exists():
            raise RuntimeError("Cannot find any model weights")
        self._script = script
        self.rows: dict[int, _Row] = {}
        self.adapters: dict[int, pathlib.Path] = {}
        self.closed = False
        self.failure: Exception | None = None

    def add(
        self, ticket: int, prompt: Sequence[int], arguments: Mapping[str, Any], guide: Guide | None, adapter: int | None
    ) -> None:
        assert adapter is None or adapter in self.adapters
        request = GenerationRequest("", None, tuple(prompt), arguments["max_tokens"])
        self.rows[ticket] = _Row(self._script(request), prompt, arguments, guide, adapter, request.max_tokens)

    def step(self) -> list[Step]:
        if self.failure:
            raise self.failure
        steps = [self._step(ticket, row) for ticket, row in self.rows.items()]
        self.rows = {ticket: row for ticket, row in self.rows.items() if row.left}
        return steps

    def abort(self, ticket: int) -> None:
        self.rows.pop(ticket, None)

    def add_adapter(self, number: int, directory: pathlib.Path) -> None:
        self.adapters[number] = directory

    def remove_adapter(self, number: int) -> None:
        del self.adapters[number]

    def close(self) -> None:
        self.closed = True

    def _step(self, ticket: int, row: _Row) -> Step:
        prompt = None if row.judged else self._judged(row)
        if not row.judged and len(row.prompt) > 8:
            row.judged = True
            return Step(ticket, [], None, prompt)
        row.judged = True
        if row.guide:
            assert row.guide.allowed()
        token = next(row.script)
        row.left -= 1
        top = row.arguments["logprobs"]
        return Step(ticket, [token], None if top is None else [_places(token, top)], prompt, not row.left)

    @staticmethod
    def _judged(row: _Row) -> list[dict[int, Logprob] | None] | None:
        asked = row.arguments["prompt_logprobs"]
        return None if asked is None else [None, *(_places(token, asked) for token in row.prompt[1:])]


def _places(token: int, top: int) -> dict[int, Logprob]:
    """The token in question ranks fourth; before it come 100, 101 and 102."""
    return {token: Logprob(-4.0, 4), **{100 + rank: Logprob(-1.0 - rank, rank + 1) for rank in range(top)}}


def fake_vllm_engine() -> VllmEngine:
    """The engine over the stand-in."""
    return VllmEngine(FakeVllm)
