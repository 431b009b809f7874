"""Conversations on a terminal: one model or several side by side, once or turn by turn; used by `tunesmith model`."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from tunesmith.cli.errors import FAILED, show
from tunesmith.cli.output import talk
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.inference_service_pb2 import CompareChatResponse

Turns = list[dict[str, str]]
Sampling = Mapping[str, Any]
"""Further fields of ChatRequest."""
_FORGOTTEN = "that question is forgotten; go on, or end with Ctrl-D"


@dataclasses.dataclass(slots=True)
class Said:
    """What a model answers; `last` is the message that ended it."""

    text: str = ""
    last: "CompareChatResponse | None" = None

    def take(self, part: "CompareChatResponse") -> None:
        """Appends the next message."""
        self.text += part.delta
        self.last = part if part.finish_reason or part.HasField("error") else self.last

    @property
    def failed(self) -> bool:
        """Whether the model failed, at first or in the middle."""
        return self.last is not None and self.last.HasField("error")

    def failure(self) -> str:
        """Behind the text: what the model has failed with, and what to do; empty when it has not."""
        if self.last is None or not self.failed:
            return ""
        error = self.last.error
        return ("\n  " if self.text else "") + f"error[{error.reason}]: {error.message}\n  hint: {error.hint}"

    def ending(self) -> dict[str, Any]:
        """Why the answer ended and what it took, as the contract's JSON."""
        from google.protobuf.json_format import MessageToDict

        told = MessageToDict(self.last, preserving_proto_field_name=True) if self.last else {}
        return {name: told[name] for name in ("finish_reason", "error", "usage") if name in told}


def converse(client: "Client", models: Sequence[str], system: str, sampling: Sampling) -> None:
    """Asks and answers until the input ends. Beside others, the conversation goes on with what the first model said.

    A question that the first model cannot answer is forgotten where somebody sits at the terminal, and an error in a file.
    """
    talk(f"talking to {' and '.join(models)}; Ctrl-D ends")
    turns: Turns = []
    for words in _questions():
        asked = [*turns, {"role": "user", "content": words}]
        try:
            first = answers(client, models, asked, system, sampling)[0]
        except TunesmithError as error:
            if not sys.stdin.isatty():
                raise
            show(error, as_json=False)
            talk(_FORGOTTEN)
        else:
            if not first.failed:
                turns = [*asked, {"role": "assistant", "content": first.text}]
            elif sys.stdin.isatty():
                talk(_FORGOTTEN)
            else:
                raise typer.Exit(FAILED)


def answers(
    client: "Client", models: Sequence[str], turns: Turns, system: str, sampling: Sampling, *, as_json: bool = False
) -> list[Said]:
    """Prints what each model says or has failed with, the words of the first one as they are written, and returns it."""
    if len(models) == 1:
        return [Said(_answer(client, models[0], turns, system, sampling))]
    said = [Said() for _ in models]
    heading = "" if as_json else f"{models[0]}\n  "
    for part in _parts(client, models, turns, system, sampling):
        said[part.index].take(part)
        shown = "" if as_json or part.index else part.delta + (said[0].failure() if said[0].failed else "")
        print(heading + shown, end="", flush=True)
        heading = ""
    if as_json:
        for model, each in zip(models, said, strict=True):
            print(json.dumps({"model": model, "answer": each.text, **each.ending()}, ensure_ascii=False))
    else:
        print("".join(f"\n{model}\n  {each.text}{each.failure()}" for model, each in zip(models[1:], said[1:], strict=True)))
    return said


def _parts(
    client: "Client", models: Sequence[str], turns: Turns, system: str, sampling: Sampling
) -> Iterator["CompareChatResponse"]:
    """What the models say, and their failures; those of all models are the call's, too, which is not said again."""
    failed: set[int] = set()
    try:
        for part in client.compare_chat(models, turns, system or None, **sampling):
            if part.HasField("error"):
                failed.add(part.index)
            yield part
    except TunesmithError:
        if len(failed) < len(models):
            raise


def _answer(client: "Client", model: str, turns: Turns, system: str, sampling: Sampling) -> str:
    pieces: list[str] = []
    usage = None
    try:
        for part in client.stream_chat(model, turns, system or None, **sampling):
            pieces.append(part.delta)
            print(part.delta, end="", flush=True)
            usage = part.usage if part.HasField("usage") else usage
    except (TunesmithError, KeyboardInterrupt):
        # What is said next, an error or the shell's prompt, begins a line of its own.
        print("\n" if any(pieces) else "", end="", flush=True)
        raise
    print()
    if usage is not None and sys.stderr.isatty():
        seconds = usage.total_time.ToMilliseconds() / 1000
        talk(f"({usage.completion_tokens} tokens in {seconds:.1f} s)")
    return "".join(pieces)


def _questions() -> Iterator[str]:
    while True:
        print("you> " if sys.stdin.isatty() else "", end="", file=sys.stderr, flush=True)
        words = sys.stdin.readline()
        if not words:
            talk("")
            return
        if words.strip():
            yield words.strip()
