"""The gates of a base model: what must hold before anything is trained with its chat template; used by `Renderer.check`.

transformers trusts `{% generation %}` marks, and a template without them (SmolLM2's, as published) gets a mask of zeros: training
runs and teaches nothing. Here no template is trusted. A conversation whose right answer is known is rendered and looked at.
"""

from itertools import groupby
from typing import TYPE_CHECKING

from services.common.rendering.error import RenderError
from services.common.rendering.probes import EXCHANGE, TWO_EXCHANGES

if TYPE_CHECKING:
    from services.common.rendering.renderer import Rendered, Renderer


def check(renderer: "Renderer") -> None:
    """Raises RenderError, BASE_MODEL_UNUSABLE, naming the gate that does not hold."""
    try:
        for messages in (EXCHANGE, TWO_EXCHANGES):
            rendered = renderer.render(messages)
            _check_answers(renderer, rendered, [message["content"] for message in messages if message["role"] == "assistant"])
            _check_end_of_turn(renderer, rendered)
            _check_bos(renderer, rendered)
            for index, message in enumerate(messages):
                if message["role"] == "assistant":
                    _check_prompt(rendered, renderer.prompt(messages[:index]))
    except RenderError as error:
        raise RenderError(error.message) from error


def _check_answers(renderer: "Renderer", rendered: "Rendered", said: list[str]) -> None:
    """As many runs of tokens with loss as there are answers, each holding its answer."""
    runs = _trained_runs(rendered)
    texts = [renderer.decode(run, skip_special_tokens=False) for run in runs]
    if len(texts) != len(said) or any(answer not in text for answer, text in zip(said, texts, strict=True)):
        raise RenderError(f"the tokens that carry loss are not what the assistant says: {texts}")


def _check_end_of_turn(renderer: "Renderer", rendered: "Rendered") -> None:
    if any(run[-1] not in renderer.end_of_turn_ids for run in _trained_runs(rendered)):
        raise RenderError("the end-of-turn token carries no loss, so the model would never learn to stop")


def _check_bos(renderer: "Renderer", rendered: "Rendered") -> None:
    if renderer.bos_id is not None and rendered.token_ids[:2] == [renderer.bos_id, renderer.bos_id]:
        raise RenderError("the text begins with two BOS tokens")


def _check_prompt(rendered: "Rendered", prompt: list[int]) -> None:
    if rendered.token_ids[: len(prompt)] != prompt:
        raise RenderError("the tokens of the generation prompt are not a prefix of the tokens trained")
    if rendered.loss_mask[len(prompt) - 1] or not rendered.loss_mask[len(prompt)]:
        raise RenderError("the loss does not begin where the generation prompt ends")


def _trained_runs(rendered: "Rendered") -> list[list[int]]:
    pairs = zip(rendered.token_ids, rendered.loss_mask, strict=True)
    return [[token for token, _ in run] for trained, run in groupby(pairs, key=lambda pair: pair[1]) if trained]
