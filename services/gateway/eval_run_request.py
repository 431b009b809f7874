"""POST /v1/evals/{eval_id}/runs: what a run is made of; every field that is read."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from services.common.errors import InvalidArgument, Violation
from services.common.grading import template
from services.common.grading.conversion import sampling_from_proto
from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from services.gateway.grader_form import turn_of
from services.gateway.unsupported import refuse_present
from tunesmith.v1.grader_pb2 import GraderMessage
from tunesmith.v1.sampling_pb2 import Sampling

REFUSED: dict[str, str] = {}
_READ = ("name", "data_source", "metadata")
_PATH, _SOURCE, _PARAMS = "data_source.", "data_source.source.", "data_source.sampling_params."
_UNSUPPORTED = "UNSUPPORTED_PARAMETER"
_RECORDED, _ASKED = "jsonl", ("completions", "responses")
_ROLES = ("system", "user", "assistant")
_ALONE = "is not supported in a run; models answer with free text"
_REFUSED_PARAMS = dict.fromkeys(("tools", "response_format", "text", "reasoning_effort"), _ALONE)
_FREE = {"response_format": {"type": "text"}, "text": {"format": {"type": "text"}}}
_SEEDS, _MAX_MODEL, _LONGEST_NAME = 2**31, 512, 128


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked about an item: turns with references, or the path of a key that holds turns."""

    turns: Sequence[GraderMessage] = ()
    trajectory: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RunSource:
    """`data_source`."""

    told: Body
    """As it was given, without its items."""
    items: Sequence[Any] = ()
    """The content of the body; empty = the items are in a file."""
    file: str = ""
    """The id of that file."""
    model: str = ""
    """As the caller names it; empty = the answers are recorded beside the items."""
    prompt: Prompt = Prompt()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)


def run_source(body: Body) -> RunSource:
    """What the run is made of; raises InvalidArgument naming the parameter that cannot be answered."""
    given = required(body, "data_source", dict)
    kind = required(given, "type", str, _PATH)
    if kind != _RECORDED and kind not in _ASKED:
        known = ", ".join((_RECORDED, *_ASKED))
        raise refused(f"{_PATH}type", f"{kind[:40]!r} is none of {known}", reason=_UNSUPPORTED)
    source = required(given, "source", dict, _PATH)
    if required(source, "type", str, _SOURCE) == "file_content":
        where: Body = {"items": required(source, "content", list, _SOURCE)}
    elif source["type"] == "file_id":
        where = {"file": required(source, "id", str, _SOURCE)}
    else:
        why = "chats are not kept; use file_content or file_id"
        raise refused(f"{_SOURCE}type", f"{source['type'][:40]!r} is not supported: {why}", reason=_UNSUPPORTED)
    told = {**given, "source": {key: value for key, value in source.items() if key != "content"}}
    return RunSource(told, **where) if kind == _RECORDED else RunSource(told, **where, **_asked(given))


def run_name(body: Body, fallback: str) -> str:
    """What the run is called, `fallback` when nobody says; raises InvalidArgument naming `name`."""
    if not (given := optional(body, "name", str)):
        return fallback.strip()[:_LONGEST_NAME]
    if len(given) > _LONGEST_NAME or not given.strip() or "\0" in given:
        raise refused(
            "name", f"has {len(given)} characters; 1 to {_LONGEST_NAME} are permitted, not all of them spaces, none NUL"
        )
    return str(given)


def ignored(body: Body) -> list[str]:
    """What the body has beyond what is read; it is told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


def told_source(source: RunSource, file: str) -> str:
    """`data_source` as the run tells it: items that came in the body are those of the file they were stored as."""
    where = source.told["source"] if source.file else {"type": "file_id", "id": file}
    return json.dumps({**source.told, "source": where}, ensure_ascii=False, separators=(",", ":"))


def _asked(given: Body) -> Body:
    model = required(given, "model", str, _PATH)
    if len(model) > _MAX_MODEL:
        raise refused(f"{_PATH}model", f"has {len(model)} characters; at most {_MAX_MODEL} are permitted")
    messages = required(given, "input_messages", dict, _PATH)
    return {"model": model, "prompt": _prompt(messages, f"{_PATH}input_messages."), "sampling": _sampling(given)}


def _prompt(given: Body, path: str) -> Prompt:
    if (kind := required(given, "type", str, path)) == "item_reference":
        return Prompt(trajectory=_reference(required(given, "item_reference", str, path), f"{path}item_reference"))
    if kind != "template":
        raise refused(f"{path}type", f"{kind[:40]!r} is neither template nor item_reference", reason=_UNSUPPORTED)
    turns = required(given, "template", list, path)
    return Prompt([_turn(turn, f"{path}template[{index}]") for index, turn in enumerate(turns)])


def _reference(given: str, path: str) -> str:
    text = "{{" + given + "}}"
    if template.problems(text) or not given.startswith("item."):
        raise refused(path, f"{given[:80]!r} is not the path of a key of an item, like item.messages")
    return text


def _turn(given: Any, path: str) -> GraderMessage:
    turn = turn_of(given, path)
    if turn.role not in _ROLES:
        raise refused(f"{path}.role", f"{turn.role[:40]!r} is none of {', '.join(_ROLES)}, developer")
    for problem in template.problems(turn.content):
        raise refused(f"{path}.content", problem)
    if "{{sample." in turn.content.replace(" ", ""):
        raise refused(f"{path}.content", "refers to a sample, which is only there once the model has answered")
    return turn


def _sampling(given: Body) -> Sampling:
    params = optional(given, "sampling_params", dict, _PATH) or {}
    asked = {name: value for name, value in params.items() if _FREE.get(name) != value}
    refuse_present(asked, _REFUSED_PARAMS, _PARAMS)
    longest = "max_completions_tokens" if "max_completions_tokens" in params else "max_completion_tokens"
    said = {
        "max_tokens": optional(params, longest, int, _PARAMS),
        "temperature": optional(params, "temperature", float, _PARAMS),
        "top_p": optional(params, "top_p", float, _PARAMS),
    }
    if (seed := optional(params, "seed", int, _PARAMS)) is not None:
        said["seed"] = seed % _SEEDS
    return _in_range({name: value for name, value in said.items() if value is not None}, longest)


def _in_range(said: Body, longest: str) -> Sampling:
    if not -(2**31) <= said.get("max_tokens", 0) < 2**31:
        raise refused(f"{_PARAMS}{longest}", f"{said['max_tokens']} is a number of more than 32 bits")
    sampling = Sampling(**said)
    names = {"max_tokens": longest}
    wrong = [(each.field.removeprefix("."), each.description) for each in sampling_from_proto(sampling).violations("")]
    if wrong:
        raise InvalidArgument(*(Violation(_PARAMS + names.get(field, field), why) for field, why in wrong))
    return sampling
