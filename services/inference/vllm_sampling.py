"""What a request is in vLLM's words, and what vLLM says of a token in ours; used by the vLLM engine.

The one place where parameters are mapped. `stop` texts, `n`, the end of a turn and tools never get here: the answer flow does
them for every engine alike. A constraint goes along as a guide, so an answer has the same form whichever engine writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.inference.engine import GenerationRequest, Token, Written


class Judgement(Protocol):
    """vllm.logprobs.Logprob."""

    logprob: float
    rank: int | None


Judgements = Mapping[int, Judgement]
"""Of one place, by token id: the likeliest, and the one that stands there."""


def arguments(request: GenerationRequest) -> dict[str, Any]:
    """Keyword arguments of vllm.SamplingParams, but for the guide and the kind of output."""
    wish = request.sampling
    return {
        "max_tokens": request.max_tokens,
        "temperature": wish.temperature,
        "top_p": wish.top_p,
        "top_k": wish.top_k,
        "min_p": wish.min_p,
        "seed": wish.seed,
        "frequency_penalty": wish.frequency_penalty,
        "presence_penalty": wish.presence_penalty,
        "repetition_penalty": wish.repetition_penalty,
        "logit_bias": dict(wish.logit_bias) or None,
        "logprobs": request.logprobs,
        # 0 = of the prompt's tokens alone.
        "prompt_logprobs": None if request.judged_from is None else request.logprobs or 0,
        # Whoever asks decides what ends an answer, and turns tokens into text.
        "ignore_eos": True,
        "detokenize": False,
    }


def written(
    request: GenerationRequest, token: int, judgements: Judgements | None, prompt: Sequence[Judgements | None] | None
) -> Written:
    """A token as the port has it; `prompt` are the judgements of the prompt's tokens, and come with the first one."""
    of_prompt: tuple[Token, ...] = ()
    if request.judged_from is not None and prompt:
        places = zip(request.prompt, prompt, strict=True)
        of_prompt = tuple(_token(id_, each, request.logprobs or 0) for id_, each in places)[request.judged_from :]
    own = _token(token, judgements if request.logprobs is not None else None, request.logprobs or 0)
    return Written(own.id, own.logprob, own.top, of_prompt)


def _token(token: int, judgements: Judgements | None, top: int) -> Token:
    if not judgements:
        return Token(token)
    # Beside the likeliest there is the token itself, wherever it ranks.
    likeliest = sorted(judgements.items(), key=lambda each: (-each[1].logprob, each[1].rank or 0))[:top]
    return Token(token, judgements[token].logprob, tuple((id_, each.logprob) for id_, each in likeliest))
