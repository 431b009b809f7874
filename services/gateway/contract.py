"""Our frozen copy of OpenAI's contract: the file openapi.yaml beside this module, served as JSON."""

import functools
import json
import pathlib
from typing import Any

import yaml  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import Response

_FILE = pathlib.Path(__file__).with_name("openapi.yaml")


def document() -> dict[str, Any]:
    """The whole OpenAPI document."""
    loaded: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    return loaded


@functools.cache
def _as_json() -> bytes:
    return json.dumps(document()).encode()


async def serve(request: Request) -> Response:
    """GET /openapi.json."""
    return Response(_as_json(), media_type="application/json")
