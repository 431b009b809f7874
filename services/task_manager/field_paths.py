"""The fields of a message as text by path; used where messages are compared."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def fields_of(message: Message) -> dict[str, str]:
    """`{"lora.rank": "8", "mixture[0].weight": "2.0"}`; what is not set is left out."""
    return dict(_flat("", MessageToDict(message, preserving_proto_field_name=True)))


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(f"{path}[{index}]", inner)
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)
