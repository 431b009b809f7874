"""The one place where messages become token ids and a loss mask; used by validation, training, evaluation and serving.

Needs no torch and no transformers: only the model directory's tokenizer.json and its chat template.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jinja2
from tokenizers import Encoding, Tokenizer

from services.common.chat_template import ChatTemplate, Message, TemplateRefusal, read_template
from services.common.errors import ServiceError

Span = tuple[int, int]
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "Is the kettle on?"},
    {"role": "assistant", "content": "Yes, since noon."},
    {"role": "user", "content": "Thanks, and the lamp?"},
    {"role": "assistant", "content": '{"lamp": "off"}'},
)


class RenderError(ServiceError):
    """Messages cannot be turned into trainable tokens. DATASET_UNUSABLE: these messages; BASE_MODEL_UNUSABLE: the template."""

    def __init__(self, message: str, *, reason: str = "BASE_MODEL_UNUSABLE") -> None:
        super().__init__(reason, message)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One example. The three lists are equally long; `loss_mask[i]` says whether the model learns to produce token i."""

    text: str
    token_ids: list[int]
    loss_mask: list[bool]
    offsets: list[Span]
    """Characters of `text` each token stands for, [start, end)."""


class Renderer:
    """Tokenizer and chat template of one base model. Stateless after construction; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, *, bos_id: int | None, stop_ids: frozenset[int]) -> None:
        """`stop_ids` are the ids the model's own files name as the end of a text; the end of a turn is added to them."""
        # A saved tokenizer may cut or pad, and its post-processor may shrink offsets to exclude leading spaces. Any of these
        # would lose tokens or their loss without a word.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.post_processor = None
        self._tokenizer = tokenizer
        self._template = template
        self._bos_id = bos_id
        self._special_ids = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special} | stop_ids
        self._stop_ids = stop_ids

    @classmethod
    def from_directory(cls, path: str | Path) -> Self:
        """Read a Hugging Face model directory. Raises RenderError naming what is missing or broken."""
        directory = Path(path)
        config = _read_json(directory / "tokenizer_config.json")
        special_tokens = _special_tokens(config)
        tokenizer = _read_tokenizer(directory)
        source = read_template(directory, config)
        if source is None:
            raise RenderError(
                f"{directory.name} has no chat template: neither chat_template.jinja nor tokenizer_config.json has one"
            )
        try:
            template = ChatTemplate(source, special_tokens)
        except jinja2.TemplateSyntaxError as error:
            raise RenderError(f"the chat template of {directory.name} does not compile: {error}") from error
        eos = special_tokens.get("eos_token")
        stop_ids = _declared_stops(directory) | ({tokenizer.token_to_id(eos)} if eos else set())
        bos = special_tokens.get("bos_token")
        bos_id = tokenizer.token_to_id(bos) if bos else None
        return cls(tokenizer, template, bos_id=bos_id, stop_ids=frozenset(stop for stop in stop_ids if stop is not None))

    @cached_property
    def end_of_turn_ids(self) -> frozenset[int]:
        """Ids that end a generation: the model's end of text and the token that closes the assistant's turn."""
        rendered = self.render(_PROBE)
        last = max(index for index, trained in enumerate(rendered.loss_mask) if trained)
        return self._stop_ids | {rendered.token_ids[last]}

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Text, ids and mask of a whole conversation; loss on every assistant turn up to and including its end-of-turn token.

        A turn with `weight` 0 is context: it carries no loss.

        Raises RenderError when the assistant's text cannot be located for certain.
        """
        text = self._text(messages, add_generation_prompt=False)
        encoding = self._encode(text)
        mask = [False] * len(encoding.ids)
        for index, message in enumerate(messages):
            if message.get("role") == "assistant" and message.get("weight", 1) != 0:
                self._mark_turn(mask, encoding, self._turn(messages, index, text))
        return Rendered(text, list(encoding.ids), mask, list(encoding.offsets))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that ask the model for the next assistant turn."""
        return list(self._encode(self._text(messages, add_generation_prompt=True)).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ids the model produced."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def check(self) -> None:
        """The gates every base model passes before it is registered or trained: raises RenderError naming the one that fails.

        The generation prompt, as tokens, is a prefix of what is trained; the end-of-turn token carries loss; one BOS at most.
        """
        rendered = self.render(_PROBE)
        for index, message in enumerate(_PROBE):
            if message["role"] == "assistant":
                self._check_prompt(rendered, self.prompt(_PROBE[:index]))
        if not self.end_of_turn_ids & {token for token, trained in _pairs(rendered) if trained}:
            raise RenderError("the end-of-turn token carries no loss, so the model would never learn to stop")
        if self._bos_id is not None and rendered.token_ids[:2] == [self._bos_id, self._bos_id]:
            raise RenderError("the text begins with two BOS tokens")

    def _check_prompt(self, rendered: Rendered, prompt: list[int]) -> None:
        if rendered.token_ids[: len(prompt)] != prompt:
            raise RenderError("the tokens of the generation prompt are not a prefix of the tokens trained")
        if rendered.loss_mask[len(prompt) - 1] or not rendered.loss_mask[len(prompt)]:
            raise RenderError("the loss does not begin where the generation prompt ends")

    def _turn(self, messages: Sequence[Message], index: int, text: str) -> Span:
        """Characters the assistant's turn `index` adds to the text, closing markup included."""
        prefix = self._text(messages[:index], add_generation_prompt=True)
        full = self._text(messages[: index + 1], add_generation_prompt=False)
        if not full.startswith(prefix):
            raise RenderError(
                f"message {index + 1}: the text up to the assistant's turn is not what the generation prompt produces, so "
                "what the model should learn cannot be told from what it is given; a conversation must begin with a user or "
                "system message, and the chat template must render a prefix of the messages as a prefix of the text"
            )
        if not text.startswith(full):
            raise RenderError(
                f"message {index + 1}: later messages change how the chat template renders this assistant turn, so it cannot be "
                "trained as it will be generated"
            )
        return len(prefix), len(full)

    def _mark_turn(self, mask: list[bool], encoding: Encoding, turn: Span) -> None:
        """Set the mask from the turn's first token to the token that closes it; markup after that (a newline) stays out."""
        # Offsets never decrease, so a turn is a run of tokens. One that began earlier but reaches in belongs to the turn.
        first = bisect_left(encoding.offsets, True, key=lambda span: span[1] > turn[0])
        last = bisect_left(encoding.offsets, turn[1], key=lambda span: span[0])
        end = next((i for i in range(last - 1, first - 1, -1) if encoding.ids[i] in self._special_ids), None)
        if end is None:
            raise RenderError(
                "the chat template closes an assistant turn without a special token, so the model cannot learn to stop"
            )
        mask[first : end + 1] = [True] * (end + 1 - first)

    def _text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.text(messages, add_generation_prompt=add_generation_prompt)
        except TemplateRefusal as error:
            raise RenderError(f"the chat template refuses the messages: {error}", reason="DATASET_UNUSABLE") from error
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise RenderError(f"the chat template fails: {error}") from error

    def _encode(self, text: str) -> Encoding:
        # The template has written BOS and all other control tokens; the tokenizer must not add its own.
        return self._tokenizer.encode(text, add_special_tokens=False)


def _pairs(rendered: Rendered) -> list[tuple[int, bool]]:
    return list(zip(rendered.token_ids, rendered.loss_mask, strict=True))


def _read_tokenizer(directory: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises bare Exception for a file it cannot read
        raise RenderError(f"{directory.name}/tokenizer.json cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RenderError(f"{path.parent.name}/{path.name} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Texts by name; older files write a token as an object with its text under `content`."""
    tokens = {name: config.get(name) for name in _SPECIAL_TOKENS}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _declared_stops(directory: Path) -> set[int | None]:
    stops = _read_json(directory / "generation_config.json").get("eos_token_id")
    return set(stops) if isinstance(stops, list) else {stops}
