"""Answers against the frozen OpenAPI file: every answer of every unit test passes through `check`."""

import json
import re
from typing import Any

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from services.gateway import contract

DOCUMENT = contract.document()
_ROOT = "urn:gateway"
_REGISTRY = Registry().with_resource(_ROOT, Resource(DOCUMENT, DRAFT202012))
# A model's id may hold slashes; every other parameter is one part of a path.
_PATHS = [
    (path, re.compile(re.sub(r"{(\w+)}", lambda match: ".+" if match[1] == "model" else "[^/]+", path)))
    for path in DOCUMENT["paths"]
]


def validate(value: Any, pointer: str) -> None:
    """Raises jsonschema.ValidationError when `value` is not what the schema at `pointer` says."""
    schema = {"$ref": f"{_ROOT}#{pointer}"}
    jsonschema.Draft202012Validator(schema, registry=_REGISTRY).validate(value)


def validate_as(value: Any, schema: str) -> None:
    """As `validate`, for a schema by its name."""
    validate(value, f"/components/schemas/{schema}")


def check(method: str, path: str, status: int, content_type: str, text: str) -> None:
    """One answer; what the file does not describe must be an error of a path that leads nowhere."""
    described = next((template for template, form in _PATHS if form.fullmatch(path)), None)
    operation = DOCUMENT["paths"].get(described, {}).get(method.lower())
    if operation is None or status >= 400:
        if not path.startswith("/readyz"):
            validate_as(json.loads(text), "Error")
        return
    assert str(status) in operation["responses"], f"{method} {path} answers {status}, which the file does not have"
    kind = content_type.partition(";")[0]
    content = operation["responses"][str(status)].get("content")
    if content is None:
        return
    assert kind in content, f"{method} {path} answers {kind}, which the file does not have"
    if kind == "application/json":
        place = "/".join(part.replace("~", "~0").replace("/", "~1") for part in ("paths", described, method.lower()))
        validate(json.loads(text), f"/{place}/responses/{status}/content/application~1json/schema")
    if kind == "text/event-stream":
        _check_stream(path, text)


_STREAMED = {"/v1/chat/completions": "ChatCompletionChunk", "/v1/completions": "Completion", "/v1/responses": "ResponseEvent"}


def _check_stream(path: str, text: str) -> None:
    schema = _STREAMED.get(path, "FineTuningEvent")
    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if data != line and data != "[DONE]" and not path.endswith("/metrics"):
            value = json.loads(data)
            validate_as(value, "Error" if "error" in value and not {"id", "type"} & set(value) else schema)
