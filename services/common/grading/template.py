"""`{{item.x[0].y}}` in the texts of graders: found, checked and replaced, in one pass, so that no value can be a reference."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.encodable import encodable

_REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"(item|sample)(?:\.([\w-]+))(?:\.[\w-]+|\[[0-9]+\])*")
_PART = re.compile(r"[\w-]+")
_SAMPLE = ("output_text", "output_json", "output_tools", "choices", "said")


class MissingReference(LookupError):
    """A row does not have what a text refers to; the message names it."""


def problems(text: str) -> list[str]:
    """What is wrong with the references of a text, one sentence each; empty = nothing."""
    found = []
    for match in _REFERENCE.finditer(text):
        path = _PATH.fullmatch(match[1].strip())
        if path is None:
            found.append(f"{match[0][:80]!r} is no reference; write {{{{item.KEY}}}} or {{{{sample.output_text}}}}")
        elif path[1] == "sample" and path[2] not in _SAMPLE:
            found.append(f"{match[0][:80]!r}: a sample has only {', '.join(_SAMPLE)}")
    return found


def render(text: str, values: Mapping[str, Any]) -> str:
    """The text with every reference replaced; raises MissingReference. `values` has `item` and `sample`."""
    return _REFERENCE.sub(lambda match: _text(_value(match[1].strip(), values)), text)


def _value(path: str, values: Mapping[str, Any]) -> Any:
    value: Any = values
    for part in _PART.findall(path):
        value = _part(value, part, path)
    return value


def _part(value: Any, part: str, path: str) -> Any:
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal() and int(part) < len(value):
        return value[int(part)]
    raise MissingReference(f"the row has no {path}")


def _text(value: Any) -> str:
    return encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
