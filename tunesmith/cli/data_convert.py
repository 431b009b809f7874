"""`tunesmith data convert`: files of other programs in our formats."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tunesmith.cli import errors
from tunesmith.cli.options import Json
from tunesmith.cli.output import talk, visible

if TYPE_CHECKING:
    from tunesmith.convert.conversion import Conversion

_STDOUT = Path("-")


def convert(
    file: Annotated[Path, typer.Argument(help="What to convert.", show_default=False)],
    out: Annotated[
        Path | None, typer.Argument(help="Where to; - is the standard output; default: FILE.converted.jsonl.", show_default=False)
    ] = None,
    *,
    source: Annotated[
        str,
        typer.Option("--from", help="alpaca, sharegpt, prompt-completion, trl-preference, csv, parquet; default: recognised."),
    ] = "",
    target: Annotated[
        str, typer.Option("--to", help="chat, preference, text or labeled; default: what the rows are made for.")
    ] = "",
    input_column: Annotated[str, typer.Option(help="Column with the user's words.")] = "",
    output_column: Annotated[str, typer.Option(help="Column with the assistant's words.")] = "",
    system_column: Annotated[str, typer.Option(help="Column with the system message.")] = "",
    text_column: Annotated[str, typer.Option(help="Column with plain text, or with the text of a label.")] = "",
    label_column: Annotated[str, typer.Option(help="Column with the class, for --to labeled.")] = "",
    system: Annotated[str, typer.Option(help="A system message for every conversation that has none.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Convert a file of another program; exit code 1 when a row could not be.

    Examples: `tunesmith data convert alpaca.json train.jsonl`,
    `tunesmith data convert tickets.csv --input-column subject --output-column team --system "Name the team."`.
    """
    from tunesmith.convert.columns import Columns
    from tunesmith.convert.conversion import SOURCES, TARGETS, Wish
    from tunesmith.convert.conversion import convert as run

    _require_known(source, SOURCES, "--from")
    _require_known(target, TARGETS, "--to")
    columns = Columns(input_column, output_column, system_column, text_column, label_column)
    path = out or file.with_name(f"{file.stem}.converted.jsonl")
    with _writing(path, force=force) as sink:
        conversion = run(file, sink, Wish(source, target, columns, system))
    _report(conversion, file, path, as_json=as_json)
    raise typer.Exit(errors.FAILED if conversion.failure_count else errors.OK)


def _require_known(word: str, known: tuple[str, ...], option: str) -> None:
    if word and word not in known:
        raise typer.BadParameter(f"{word!r} is not known; known: {', '.join(known)}", param_hint=option)


@contextmanager
def _writing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block has ended well."""
    if path == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} exists; --force replaces it", param_hint="OUT")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as sink:
            yield sink
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _report(conversion: "Conversion", source: Path, path: Path, *, as_json: bool) -> None:
    """On the standard error, when the rows go to the standard output."""
    stream = sys.stderr if path == _STDOUT else sys.stdout
    if as_json:
        failures = [{"line": failure.number, "reason": failure.reason} for failure in conversion.failures]
        content = {
            "path": str(path),
            "from": conversion.shape,
            "file_kind": conversion.file_kind,
            "to": conversion.target,
            "converted_count": conversion.converted_count,
            "failure_count": conversion.failure_count,
            "failures": failures,
        }
        print(json.dumps(content, indent=2, ensure_ascii=False), file=stream)
        return
    for failure in conversion.failures:
        print(f"error: {source.name}:{failure.number}: {visible(failure.reason)}", file=stream)
    if (hidden := conversion.failure_count - len(conversion.failures)) > 0:
        print(f"… and {hidden:,} more", file=stream)
    print(f"{conversion.shape or 'nothing'} → {conversion.target}: {_counts(conversion)}", file=stream)
    if path != _STDOUT:
        talk(f"wrote {path}; check it: tunesmith data check {path}")


def _counts(conversion: "Conversion") -> str:
    bad = f", {conversion.failure_count:,} left out" if conversion.failure_count else ""
    return f"{conversion.converted_count:,} rows{bad}"
