"""What the model answers to a few fixed prompts while it trains; greedy, so that only the weights make a difference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.rendering import Renderer
from services.trainer.training.answer import Answer
from services.trainer.training.config import TrainConfig
from services.trainer.training.engine import Engine
from services.trainer.training.objectives.forms import FORMS

MOST_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """One of the task's, and the tokens that ask it."""

    text: str
    token_ids: tuple[int, ...]


class Samples:
    """The prompts of one task, and how answers are read."""

    def __init__(self, prompts: Sequence[Prompt], renderer: Renderer, stop_ids: frozenset[int]) -> None:
        self._prompts = prompts
        self._renderer = renderer
        self._stop_ids = stop_ids

    @classmethod
    def asked_by(cls, config: TrainConfig, renderer: Renderer) -> "Samples | None":
        """None when the task asks nothing."""
        if not config.sample_prompts:
            return None
        return cls.asking(
            config.sample_prompts, renderer, config.hyperparameters.max_seq_length, chats=FORMS[config.method].answers
        )

    @classmethod
    def asking(cls, texts: Sequence[str], renderer: Renderer, max_length: int, *, chats: bool) -> "Samples":
        """With `chats` each text is a user's message, else the beginning of a text. Prompts longer than `max_length` tokens lose
        their beginning."""
        stops = renderer.end_of_turn_ids if chats else frozenset(renderer.render_text("").token_ids[-1:])
        return cls([Prompt(text, _tokens(text, renderer, chats=chats)[-max_length:]) for text in texts], renderer, stops)

    def generate(self, engine: Engine) -> Iterator[Answer]:
        """One answer each, in order; every rank must ask for all of them."""
        for index, prompt in enumerate(self._prompts):
            ids = engine.generate(prompt.token_ids, MOST_TOKENS, self._stop_ids)
            over = bool(ids) and ids[-1] in self._stop_ids
            yield Answer(index, prompt.text, self._renderer.decode(ids[:-1] if over else ids), truncated=not over)


def _tokens(text: str, renderer: Renderer, *, chats: bool) -> tuple[int, ...]:
    if chats:
        return tuple(renderer.prompt([{"role": "user", "content": text}]))
    # Without the mark of its end: it is to go on.
    return tuple(renderer.render_text(text).token_ids[:-1])
