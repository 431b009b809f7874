"""A task from a file, in the proto's JSON form written as JSON or YAML; used by `task create -f`."""

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from tunesmith.errors import InvalidArgument
from tunesmith.transfers import require_file
from tunesmith.v1.task_pb2 import Task

_HINT = "Write it as `tunesmith task show ID --json` prints one: display_name and spec.fine_tuning with base_model and dataset."


def read_task(path: Path) -> Task:
    """The task in the file.

    Raises:
        InvalidArgument: FILE_NOT_FOUND, TASK_FILE_INVALID.
    """
    text = require_file(path).read_text()
    try:
        return ParseDict(_parse(text, path), Task())
    except ParseError as error:
        raise InvalidArgument(f"{path}: {error}", reason="TASK_FILE_INVALID", hint=_HINT) from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = _parse_yaml(text, path)
    if not isinstance(content, dict):
        raise InvalidArgument(f"{path} does not hold a task", reason="TASK_FILE_INVALID", hint=_HINT)
    return content


def _parse_yaml(text: str, path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ModuleNotFoundError as missing:
        hint = "Write it as JSON, or install PyYAML."
        raise InvalidArgument(f"{path} is not JSON", reason="TASK_FILE_INVALID", hint=hint) from missing
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidArgument(f"{path} is neither JSON nor YAML: {error}", reason="TASK_FILE_INVALID", hint=_HINT) from error
