"""`tunesmith data check`: what an upload would say, without a server."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tunesmith.cli import errors
from tunesmith.cli.options import Json, MaxInvalidRatio, MaxInvalidRows
from tunesmith.cli.output import print_json
from tunesmith.cli.progress import LONG_FILE_BYTES, transfer_progress

if TYPE_CHECKING:
    from tunesmith.offline.checker import Check
    from tunesmith.v1.dataset_pb2 import TokenStatistics


def check(
    file: Annotated[Path, typer.Argument(help="JSON lines, or one JSON array.", show_default=False)],
    *,
    max_invalid_rows: MaxInvalidRows = None,
    max_invalid_ratio: MaxInvalidRatio = None,
    model: Annotated[str, typer.Option(help="Count tokens as this base model sees them: its ID, or a directory.")] = "",
    max_seq_length: Annotated[int, typer.Option(min=0, help="Tokens per example, for what is cut; 0 = default.")] = 0,
    as_json: Json = False,
) -> None:
    """Check a file as an upload would, on this machine; exit code 1 when it would be refused.

    With --json it is a DatasetReport; with --model an object of `report` and `tokens`.
    """
    from tunesmith.offline.checker import check as run_check
    from tunesmith.transfers import require_file

    long = require_file(file).stat().st_size > LONG_FILE_BYTES
    with tempfile.TemporaryFile() as rows:
        with transfer_progress(f"checking {file.name}") as progress:
            checked = run_check(
                file,
                max_invalid_rows=max_invalid_rows,
                max_invalid_ratio=max_invalid_ratio,
                rows=rows if model else None,
                progress=progress if long else None,
            )
        tokens = _count(rows, model, max_seq_length) if model and checked.accepted else None
    _print_json(checked, tokens) if as_json else _print(checked, tokens, file.name)
    refused = not checked.accepted or (tokens is not None and tokens.violation_count > 0)
    raise typer.Exit(errors.FAILED if refused else errors.OK)


def _count(rows: BinaryIO, model: str, max_seq_length: int) -> "TokenStatistics":
    from tunesmith.client import Client
    from tunesmith.offline import renderer
    from tunesmith.offline.tokenizer_files import model_directory
    from tunesmith.transfers import CHUNK_BYTES

    with Client() as client:
        directory = model_directory(client, model)
    rows.seek(0)
    counted = renderer.count(iter(lambda: rows.read(CHUNK_BYTES), b""), directory, max_seq_length=max_seq_length)
    counted.base_model = counted.base_model or model
    return counted


def _print_json(checked: "Check", tokens: "TokenStatistics | None") -> None:
    if tokens is None:
        print_json(checked.report)
        return
    from google.protobuf.json_format import MessageToDict

    both = {"report": checked.report, "tokens": tokens}
    content = {key: MessageToDict(message, preserving_proto_field_name=True) for key, message in both.items()}
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _print(checked: "Check", tokens: "TokenStatistics | None", name: str) -> None:
    from tunesmith.cli.data_text import print_tokens
    from tunesmith.cli.report_text import print_report, print_violations

    print_report(checked.report, name, dropped_row_count=checked.dropped_row_count, accepted=checked.accepted)
    if tokens is not None:
        print_violations(tokens.violations, tokens.violation_count, name)
        print_tokens(tokens)
