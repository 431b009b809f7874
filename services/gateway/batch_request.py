"""A request of a batch, as a line of its file: what a line may ask, and the row of a dataset that it is stored as.

A row is labeled: the conversation and its tools, the `custom_id` as its label, and the rest of the request under `request`, where
it trains nothing.
"""

import dataclasses
from typing import Any

from services.common.errors import InvalidArgument, Violation
from services.common.grading.sampling import Sampling
from services.gateway import chat_request
from services.gateway.bodies import Body, optional, required
from services.gateway.failures import placed, refused
from services.gateway.unsupported import refuse_present
from tunesmith.v1.inference_service_pb2 import StreamChatRequest

ENDPOINT = "/v1/chat/completions"
_ALONE = "is not supported in a batch; ask for it in a request of its own"
REFUSED = dict.fromkeys(
    (
        *("stream", "response_format", "n", "logprobs", "top_logprobs", "logit_bias"),
        *("frequency_penalty", "presence_penalty", "top_k", "min_p", "repetition_penalty"),
    ),
    _ALONE,
)
"""What chats have and a generation cannot do."""
_NEUTRAL = {"n": 1, "repetition_penalty": 1, "response_format": {"type": "text"}}
"""These ask for nothing."""
_ROLES = ("system", "user", "assistant", "tool")
_OF_ROW = ("tools", "tool_choice")
"""Of the body what a row has under a key of its own, as rows of conversations with tools have it."""
_MAX_ID, _MAX_MODEL, _SEEDS = 200, 512, 2**31
_NUMBERS = ("max_tokens", "temperature", "top_p")


@dataclasses.dataclass(frozen=True, slots=True)
class BatchRequest:
    """One line."""

    given: Body
    """As it stands in the file."""
    custom_id: str
    model: str
    """As the caller names it."""
    sampling: Sampling

    def row(self) -> Body:
        """What is stored of it."""
        given: Body = self.given["body"]
        beside = {name: given[name] for name in _OF_ROW if given.get("tools") and name in given}
        body = {name: value for name, value in given.items() if name != "messages" and name not in beside}
        rest = {name: value for name, value in self.given.items() if name != "custom_id"} | {"body": body}
        return {"messages": given["messages"], **beside, "label": self.custom_id, "request": rest}


def given_in(row: Body) -> Body:
    """The request that a row was made of; a row that nobody made of one is its own."""
    rest = row.get("request")
    if not isinstance(rest, dict):
        return row
    beside = {name: row[name] for name in ("messages", *_OF_ROW) if name in row}
    return {"custom_id": row["label"], **rest, "body": {**rest["body"], **beside}}


def request_of(given: Any) -> BatchRequest:
    """A decoded line; raises InvalidArgument naming the place in it."""
    if not isinstance(given, dict):
        raise refused("request", "is not a JSON object")
    custom_id = required(given, "custom_id", str)
    if len(custom_id) > _MAX_ID or not custom_id.strip():
        raise refused("custom_id", f"has {len(custom_id)} characters; 1 to {_MAX_ID} are permitted, not all of them spaces")
    for name, only in (("method", "POST"), ("url", ENDPOINT)):
        if required(given, name, str) != only:
            raise refused(name, f"{given[name][:80]!r} is not {only}")
    body = required(given, "body", dict)
    with placed("body."):
        asked = _question(body)
        return BatchRequest(given, custom_id, asked.model, _sampling(asked))


def _question(body: Body) -> StreamChatRequest:
    optional(body, "stream", bool)
    refuse_present({name: value for name, value in body.items() if _NEUTRAL.get(name) != value}, REFUSED)
    asked = chat_request.question(body)
    if len(asked.model) > _MAX_MODEL:
        raise refused("model", f"has {len(asked.model)} characters; at most {_MAX_MODEL} are permitted")
    for index, message in enumerate(asked.messages):
        if message.role not in _ROLES:
            raise refused(f"messages[{index}].role", f"{message.role[:40]!r} is not supported in a batch")
    if asked.messages[-1].role == "assistant":
        raise refused(
            f"messages[{len(asked.messages) - 1}].role", "the last message is the assistant's: there is nothing to answer"
        )
    return asked


def _sampling(asked: StreamChatRequest) -> Sampling:
    said: dict[str, Any] = {name: getattr(asked, name) for name in _NUMBERS if asked.HasField(name)}  # type: ignore[arg-type]
    if asked.HasField("seed"):
        said["seed"] = asked.seed % _SEEDS
    sampling = Sampling(stop=tuple(asked.stop), **said)
    if wrong := list(sampling.violations("")):
        raise InvalidArgument(*(Violation(each.field.removeprefix("."), each.description) for each in wrong))
    return sampling
