"""Conversations on a terminal: one model or several side by side, once or turn by turn; used by `tunesmith model`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.cli.errors import show
from tunesmith.cli.output import talk
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.inference_service_pb2 import CompareChatResponse

Turns = list[dict[str, str]]


def converse(client: "Client", models: Sequence[str], system: str, sampling: Mapping[str, Any]) -> None:
    """Asks and answers until the input ends. Beside others, the conversation goes on with what the first model said.

    A question that cannot be answered is forgotten where somebody sits at the terminal, and an error where the input is a file.
    """
    talk(f"talking to {' and '.join(models)}; Ctrl-D ends")
    turns: Turns = []
    for words in _questions():
        asked = [*turns, {"role": "user", "content": words}]
        try:
            said = answers(client, models, asked, system, sampling)
        except TunesmithError as error:
            if not sys.stdin.isatty():
                raise
            show(error, as_json=False)
            talk("that question is forgotten; go on, or end with Ctrl-D")
        else:
            turns = [*asked, {"role": "assistant", "content": said[0]}]


def answers(
    client: "Client", models: Sequence[str], turns: Turns, system: str, sampling: Mapping[str, Any], *, as_json: bool = False
) -> list[str]:
    """Prints what each model says, the first as it is written, and returns it."""
    if len(models) == 1:
        return [_answer(client, models[0], turns, system, sampling)]
    said = [""] * len(models)
    heading = "" if as_json else f"{models[0]}\n  "
    endings: dict[int, CompareChatResponse] = {}
    for part in client.compare_chat(models, turns, system or None, **sampling):
        said[part.index] += part.delta
        if part.finish_reason:
            endings[part.index] = part
        print(heading + (part.delta if part.index == 0 and not as_json else ""), end="", flush=True)
        heading = ""
    if as_json:
        for index, (model, answer) in enumerate(zip(models, said, strict=True)):
            print(json.dumps({"model": model, "answer": answer, **_ending(endings.get(index))}, ensure_ascii=False))
    else:
        print("".join(f"\n{model}\n  {answer}" for model, answer in zip(models[1:], said[1:], strict=True)))
    return said


def _ending(last: "CompareChatResponse | None") -> dict[str, Any]:
    """Why an answer ended and what it took, as the contract's JSON."""
    from google.protobuf.json_format import MessageToDict

    told = MessageToDict(last, preserving_proto_field_name=True) if last else {}
    return {name: told[name] for name in ("finish_reason", "usage") if name in told}


def _answer(client: "Client", model: str, turns: Turns, system: str, sampling: Mapping[str, Any]) -> str:
    pieces: list[str] = []
    usage = None
    for part in client.stream_chat(model, turns, system or None, **sampling):
        pieces.append(part.delta)
        print(part.delta, end="", flush=True)
        usage = part.usage if part.HasField("usage") else usage
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
