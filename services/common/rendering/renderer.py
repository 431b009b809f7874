"""Messages to text, token ids and loss mask, with one base model's tokenizer and chat template."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from services.common.rendering import gates, probes
from services.common.rendering.control_tokens import ControlTokens, Encoded, Span
from services.common.rendering.conversation import Conversation, Message, Tool, conversation
from services.common.rendering.error import RenderError, unusable_row
from services.common.rendering.files import declared_stops, read_json, read_tokenizer, special_tokens
from services.common.rendering.template import Template, compiled, read_template

MAX_ROW_SECONDS = 30
"""For a template that looks ahead each answer is rendered anew with all that comes before it."""


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

    def __init__(
        self, tokenizer: Tokenizer, template: Template, *, bos: str | None, eos: str | None, stop_ids: frozenset[int]
    ) -> None:
        """`stop_ids` are the ids the model's own files name as the end of a text; the end of a turn is added to them."""
        self._bos_id = tokenizer.token_to_id(bos) if bos else None
        self._text_start = bos if bos and tokenizer.encode("a").ids[:1] == [self._bos_id] else ""
        self._text_end = eos
        # A saved tokenizer may cut or pad, and its post-processor may shrink offsets to exclude leading spaces. Any of these
        # would lose tokens or their loss without a word.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.post_processor = None
        self._tokenizer = tokenizer
        self._template = template
        self._control = ControlTokens(tokenizer, stop_ids)
        self._special_ids = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special} | stop_ids
        self._stop_ids = stop_ids

    @classmethod
    def from_directory(cls, path: str | Path) -> Self:
        """Read a Hugging Face model directory. Raises RenderError naming what is missing or broken.

        Without a usable chat template plain texts can still be rendered; whatever needs the template raises then.
        """
        directory = Path(path)
        config = read_json(directory / "tokenizer_config.json")
        tokens = special_tokens(config)
        tokenizer = read_tokenizer(directory)
        source = read_template(directory, config)
        template = compiled(source, tokens, directory.name)
        stops = declared_stops(directory)
        eos = tokens.get("eos_token") or next(filter(None, map(tokenizer.id_to_token, sorted(stops))), None)
        stop_ids = stops | {token for token in (tokenizer.token_to_id(eos) if eos else None,) if token is not None}
        return cls(tokenizer, template, bos=tokens.get("bos_token"), eos=eos, stop_ids=frozenset(stop_ids))

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, for models that have one."""
        return self._bos_id

    @property
    def token_count(self) -> int:
        """How many tokens the tokenizer has, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that the model's files name as the end of a text; they need no chat template."""
        return self._stop_ids

    @cached_property
    def end_of_turn_ids(self) -> frozenset[int]:
        """Ids that end a generation: the model's end of text and the token that closes the assistant's turn."""
        return self._stop_ids | {self._end_of_turn}

    @cached_property
    def knows_developer(self) -> bool:
        """Whether the template treats the role `developer` unlike a role that nobody knows."""
        return probes.knows_role(self._probe, "developer")

    @cached_property
    def writes_tools(self) -> bool:
        """Whether the template shows the model which tools there are."""
        return probes.writes_tools(self._probe)

    @cached_property
    def writes_tool_calls(self) -> bool:
        """Whether the template writes the tool calls of an assistant."""
        return probes.writes_tool_calls(self._probe)

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> Rendered:
        """Text, ids and mask of a whole conversation; loss on every assistant turn up to and including its end-of-turn token.

        A turn with `weight` 0 is context: it carries no loss. Raises RenderError, DATASET_UNUSABLE, when the assistant's text
        cannot be located for certain, or when the template would leave out tools or calls.
        """
        taken = self._conversation(messages, tools)
        text, answers = self._located(taken)
        encoded = self._encode(taken, text, add_generation_prompt=False)
        mask = [False] * len(encoded.ids)
        for start, end in answers:
            first = _token_reaching_behind(encoded, start)
            last = self._closing_token(encoded, first, end)
            mask[first : last + 1] = [True] * (last + 1 - first)
        return Rendered(text, encoded.ids, mask, encoded.offsets)

    def render_prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> Rendered:
        """What asks the model for the next assistant turn; nothing carries loss."""
        taken = self._conversation(messages, tools)
        text = self._template.text(taken, add_generation_prompt=True)
        encoded = self._encode(taken, text, add_generation_prompt=True)
        return Rendered(text, encoded.ids, [False] * len(encoded.ids), encoded.offsets)

    def render_text(self, text: str) -> Rendered:
        """A text without roles, between the model's own marks of begin and end; every token carries loss.

        It begins with BOS only for a tokenizer that puts BOS before every text.
        """
        if self._text_end is None:
            raise RenderError("the model's files name no token that ends a text, so the model could not learn to stop")
        whole = self._text_start + text + self._text_end
        places = [len(self._text_start) + start for start in self._control.starts(text)]
        encoded = self._control.encode(whole, places)
        return Rendered(whole, encoded.ids, [True] * len(encoded.ids), encoded.offsets)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> list[int]:
        """Token ids that ask the model for the next assistant turn."""
        return self.render_prompt(messages, tools).token_ids

    def text_prompt(self, text: str) -> list[int]:
        """Token ids that ask the model to continue a text; control tokens in it are tokens.

        It begins with BOS only for a tokenizer that puts BOS before every text, unless the text has it already.
        """
        start = "" if self._text_start and text.startswith(self._text_start) else self._text_start
        return list(self._tokenizer.encode(start + text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of ids the model produced."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def check(self) -> None:
        """The gates every base model passes before it is registered or trained: raises RenderError naming the one that fails.

        See `gates`.
        """
        gates.check(self)

    def _conversation(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> Conversation:
        has_developer = any(message.get("role") == "developer" for message in messages)
        taken = conversation(messages, tools, developer="developer" if has_developer and self.knows_developer else "system")
        if taken.tools and not self.writes_tools:
            raise unusable_row("tools: the chat template of this base model does not show tools to the model")
        if taken.calls_tools and not self.writes_tool_calls:
            raise unusable_row("tool_calls: the chat template of this base model does not write tool calls")
        return taken

    def _probe(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> str:
        """For finding out what the template knows: nothing is mapped or refused."""
        return self._template.text(conversation(messages, tools, developer="developer"), add_generation_prompt=False)

    def _encode(self, taken: Conversation, text: str, *, add_generation_prompt: bool) -> Encoded:
        if not self._control.are_in(taken):
            return self._control.encode(text)
        marked, mark = self._control.marked(taken)
        pieces = self._template.text(marked, add_generation_prompt=add_generation_prompt).split(mark)
        if "".join(pieces) != text:
            raise unusable_row("a message holds a control token on which the chat template acts")
        places, position = [], 0
        for piece in pieces[:-1]:
            position += len(piece)
            places.append(position - 1)
        return self._control.encode(text, places)

    def _located(self, taken: Conversation) -> tuple[str, list[Span]]:
        """The text, and of each answer with loss the characters from the prompt's end to where the turn has ended."""
        if (spans := self._traced_answers(taken)) is not None:
            return spans
        text = self._template.text(taken, add_generation_prompt=False)
        deadline = time.monotonic() + MAX_ROW_SECONDS
        answers = []
        for index in taken.answers:
            if time.monotonic() > deadline:
                raise unusable_row(
                    f"the conversation takes longer than {MAX_ROW_SECONDS} seconds to render; split it into several rows"
                )
            answers.append(self._answer(taken, index, text))
        return text, answers

    def _traced_answers(self, taken: Conversation) -> tuple[str, list[Span]] | None:
        """As `_located`, from two renderings however many answers there are; None when the template looks ahead."""
        # Before the first message there is nothing that `messages[0]` could have been.
        whole = None if 0 in taken.answers else self._template.traced(taken, add_generation_prompt=False)
        asking = self._template.traced(taken, add_generation_prompt=True) if whole else None
        if whole is None or asking is None or whole.begins != asking.begins:
            return None
        written = whole.begins[-1]
        prompt = asking.text[written:]
        if asking.text[:written] != whole.text[:written]:
            return None
        for index in taken.answers:
            if not whole.text.startswith(prompt, whole.begins[index]):
                raise _not_its_prompt(index)
        return whole.text, [(whole.begins[index] + len(prompt), whole.begins[index + 1]) for index in taken.answers]

    def _answer(self, taken: Conversation, index: int, text: str) -> Span:
        """Characters of the assistant's message `index`, found by rendering what comes before it, and what it ends."""
        prompt = self._template.text(taken.first(index), add_generation_prompt=True)
        if not text.startswith(prompt):
            raise _not_its_prompt(index)
        is_last = index + 1 == len(taken.messages)
        alone = text if is_last else self._template.text(taken.first(index + 1), add_generation_prompt=False)
        start = len(prompt)
        return start, len(alone) if text.startswith(alone) else start + self._kept(taken, index, alone[start:], text[start:])

    def _kept(self, taken: Conversation, index: int, alone: str, rest: str) -> int:
        """Characters of the answer at the beginning of `rest`, when it is written in another way than `alone`, as the last one.

        Some templates write an empty thought before the last answer, or the end of the text behind it. As long as everything
        the assistant says is still there, what is trained is what follows the prompt.
        """
        closing = str(self._tokenizer.id_to_token(self._end_of_turn))
        body = alone[: alone.rfind(closing) + len(closing)] if closing in alone else ""
        kept = next((body[start:] for start in range(len(body)) if rest.startswith(body[start:])), "")
        message = taken.messages[index]
        said = [message["content"].strip(), *(call["function"].get("name", "") for call in message.get("tool_calls") or ())]
        if not kept or not all(words in kept for words in said):
            raise _changed_later(index)
        return len(kept)

    def _closing_token(self, encoded: Encoded, first: int, end: int) -> int:
        """Markup after it (a newline) is none of the model's business."""
        last = _token_beginning_at(encoded, end)
        control = [i for i in range(last - 1, first - 1, -1) if encoded.ids[i] in self._special_ids]
        if not control:
            raise _no_closing_token()
        # The model may close a turn with another token than usual, when it calls a tool.
        return next((i for i in control if encoded.ids[i] == self._end_of_turn), control[0])

    @cached_property
    def _end_of_turn(self) -> int:
        """The first control token behind what an assistant says."""
        taken = conversation(probes.EXCHANGE, None, developer="system")
        text = self._template.text(taken, add_generation_prompt=False)
        said = taken.messages[-1]["content"]
        if (start := text.rfind(said)) < 0:
            raise RenderError("the chat template does not write what the assistant says")
        encoded = self._control.encode(text)
        behind = encoded.ids[_token_beginning_at(encoded, start + len(said)) :]
        if (end := next((token for token in behind if token in self._special_ids), None)) is None:
            raise _no_closing_token()
        return end


def _token_reaching_behind(encoded: Encoded, position: int) -> int:
    # Offsets never decrease, so a turn is a run of tokens. One that began earlier but reaches in belongs to the turn.
    return bisect_left(encoded.offsets, True, key=lambda span: span[1] > position)


def _token_beginning_at(encoded: Encoded, position: int) -> int:
    return bisect_left(encoded.offsets, position, key=lambda span: span[0])


def _not_its_prompt(index: int) -> RenderError:
    return unusable_row(
        f"messages[{index}]: the text up to the assistant's turn is not what the generation prompt produces, so what the model "
        "should learn cannot be told from what it is given. A conversation must begin with a user or system message. If the "
        "chat template drops the system message once an answer follows, put it into the user's; if it renders earlier messages "
        "in another way once later ones follow, give each answer a row of its own, or set weight 0 on all but the last"
    )


def _changed_later(index: int) -> RenderError:
    return unusable_row(
        f"messages[{index}]: later messages change how the chat template renders this assistant turn (it may drop earlier "
        "reasoning), so it cannot be trained as it will be generated; give each answer a row of its own, or set weight 0 on it"
    )


def _no_closing_token() -> RenderError:
    return RenderError("the chat template closes an assistant turn without a special token, so the model cannot learn to stop")
