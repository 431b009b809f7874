"""How probable tokens are by a model's own numbers; used by the running batch."""

from collections.abc import Sequence

import torch

from services.inference.engine import Token


def judged(tokens: Sequence[int], logits: torch.Tensor, top: int) -> list[Token]:
    """Each token with its log-probability in nats and the `top` likeliest in its place.

    `logits` has the shape [len(tokens), vocabulary]: row i is what stands before token i.
    """
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    own = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    if not top:
        return [Token(token, value) for token, value in zip(tokens, own, strict=True)]
    values, ids = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    likeliest = [tuple(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
    return [Token(*each) for each in zip(tokens, own, likeliest, strict=True)]
