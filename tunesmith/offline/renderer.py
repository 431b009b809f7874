"""Rows as a base model is given them, and their tokens counted, by the renderer that trains; used by `data preview`, `check`."""

import json
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.json_format import Parse

from tunesmith.errors import TunesmithError
from tunesmith.offline.child import Ending, failure, run
from tunesmith.v1.dataset_pb2 import TokenStatistics
from tunesmith.v1.dataset_service_pb2 import RowPreview

_MODULE = "services.storage.tokens"
_REFUSED = 3


def preview(rows: Iterable[bytes], model: Path, *, first_row: int, max_seq_length: int = 0) -> list[RowPreview]:
    """A preview of each row; `model` is a directory with tokenizer and chat template, 0 tokens mean its default.

    Raises:
        TunesmithError: what the renderer refuses, by its own reason; RENDERER_FAILED.
    """
    ending = run(_MODULE, ["preview", *_options(model, max_seq_length), "--first-row", str(first_row)], rows)
    _require_success(ending)
    return [Parse(line, RowPreview(), ignore_unknown_fields=True) for line in ending.stdout.splitlines()]


def count(chunks: Iterable[bytes], model: Path, *, max_seq_length: int = 0) -> TokenStatistics:
    """Tokens of rows, one JSON object a line, in chunks of any size.

    Raises:
        TunesmithError: as `preview`.
    """
    ending = run(_MODULE, ["analyze", *_options(model, max_seq_length)], chunks)
    _require_success(ending)
    return Parse(ending.stdout.splitlines()[-1], TokenStatistics(), ignore_unknown_fields=True)


def _options(model: Path, max_seq_length: int) -> list[str]:
    return ["--model", str(model), *(["--max-seq-length", str(max_seq_length)] if max_seq_length else [])]


def _require_success(ending: Ending) -> None:
    if ending.exit_code == _REFUSED:
        error = json.loads(ending.stdout.splitlines()[-1])["error"]
        raise TunesmithError(error["message"], reason=error["reason"], hint=error.get("hint", ""), error_class="user")
    if ending.exit_code:
        raise failure("RENDERER_FAILED", "the renderer", ending)
