"""POST /v1/completions as Completion, one for each prompt; one table says what becomes of every parameter."""

import dataclasses
from typing import Any

from services.gateway import sampling
from services.gateway.bodies import Body, in_32_bits, optional, required
from services.gateway.failures import refused
from services.gateway.sampling import token_limit, write_sampling
from services.gateway.unsupported import refuse_present
from tunesmith.v1.inference_service_pb2 import Completion, TokenIds

_DEFAULT_MAX_TOKENS = 16
_MAX_PROMPTS = 128
REFUSED = {"suffix": "is not supported: a text is continued at its end"}
_READ = (*sampling.READ, "model", "prompt", "max_tokens", "echo", "logprobs", "best_of", "stream", "stream_options")


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One completion a prompt, each with `n` choices."""

    completions: list[Completion]
    n: int


def question(body: Body) -> Question:
    """What is asked, `model` as the caller names it; raises InvalidArgument naming the parameter that cannot be answered."""
    refuse_present(body, REFUSED)
    longest = token_limit(body, "max_tokens", least=0)
    common = Completion(
        model=required(body, "model", str),
        max_tokens=_DEFAULT_MAX_TOKENS if longest is None else longest,
        echo=bool(optional(body, "echo", bool)),
    )
    write_sampling(body, common)
    n = common.n if common.HasField("n") else 1
    if optional(body, "best_of", int) not in (None, n):
        raise refused("best_of", "is not supported: every text that is written is told", reason="UNSUPPORTED_PARAMETER")
    if (logprobs := optional(body, "logprobs", int)) is not None:
        common.logprobs, common.top_logprobs = True, in_32_bits("logprobs", logprobs)
    return Question([_with_prompt(common, prompt) for prompt in _prompts(body.get("prompt"))], n)


def ignored(body: Body) -> list[str]:
    """Parameters that change nothing here; they are told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


def _prompts(given: Any) -> list[str | list[int]]:
    """A text, token ids, or a list of either."""
    if isinstance(given, str) or _are_tokens(given):
        return [given]
    if not isinstance(given, list) or not given:
        raise refused("prompt", "is neither a string, nor an array of token ids, nor an array of these")
    if len(given) > _MAX_PROMPTS:
        raise refused("prompt", f"has {len(given)} prompts; at most {_MAX_PROMPTS} are permitted")
    for index, prompt in enumerate(given):
        if not (isinstance(prompt, str) or _are_tokens(prompt)):
            raise refused(f"prompt[{index}]", "is neither a string nor an array of token ids")
    return given


def _are_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(each) is int for each in given)


def _with_prompt(common: Completion, prompt: str | list[int]) -> Completion:
    completion = Completion()
    completion.CopyFrom(common)
    if isinstance(prompt, str):
        completion.text = prompt
    else:
        completion.token_ids.CopyFrom(TokenIds(ids=[in_32_bits("prompt", token) for token in prompt]))
    return completion
