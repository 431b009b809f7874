"""`python -m services.storage.tokens`: gate, preview, analyze, overlap; started by `client` and by the command line.

Rows come on standard input, one JSON object a line; answers go to standard output, one JSON object a line. What is refused ends
with exit code 3 and {"error": {"reason", "message", "hint"}} as the last line.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.common.errors import ServiceError
from services.storage.tokens import messages, process_limits
from services.storage.tokens.context import default_length
from services.storage.tokens.overlaps import count_overlap
from services.storage.tokens.row_lines import read_rows
from services.storage.tokens.token_counts import count_tokens

REFUSED = 3


def main(argv: Sequence[str]) -> int:
    """Do what is asked; returns the exit code."""
    arguments = _parser().parse_args(argv)
    process_limits.apply(arguments.cpu_seconds)
    try:
        _COMMANDS[arguments.command](arguments)
    except ServiceError as error:
        return _refused(error)
    except MemoryError:
        return _refused(ServiceError("TOKEN_WORKER_FAILED", "the work needs more memory than it is given"))
    except BaseException as error:
        # How a panic in the tokenizers' native code arrives here; it has no name to import.
        if type(error).__name__ != "PanicException":
            raise
        return _refused(ServiceError("BASE_MODEL_UNUSABLE", f"the tokenizer crashed: {error}"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.storage.tokens", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("gate", "preview", "analyze"):
        command = commands.add_parser(name)
        command.add_argument("--model", type=Path, required=True, help="directory with tokenizer.json and its companions")
        if name != "gate":
            command.add_argument("--max-seq-length", type=int, help="tokens per example; default: at most 2,048")
        _add_limit(command, process_limits.LONG_CPU_SECONDS if name == "analyze" else process_limits.QUICK_CPU_SECONDS)
        if name == "preview":
            command.add_argument("--first-row", type=int, default=1, help="number of the first row on standard input")
    overlap = commands.add_parser("overlap")
    overlap.add_argument("--against-fd", type=int, required=True, help="file descriptor to read the other rows from")
    _add_limit(overlap, process_limits.LONG_CPU_SECONDS)
    return parser


def _add_limit(command: argparse.ArgumentParser, seconds: int) -> None:
    command.add_argument("--cpu-seconds", type=int, default=seconds, help="processor time after which the process is killed")


def _gate(arguments: argparse.Namespace) -> None:
    # The renderer is imported where it is needed: comparing rows takes neither tokenizer nor template.
    from services.common.rendering import Renderer, RenderError
    from services.common.rendering.files import check_vocabulary

    problem = ""
    try:
        check_vocabulary(arguments.model)
        Renderer.from_directory(arguments.model).check()
    except RenderError as error:
        problem = error.message
    _write(json.dumps({"problem": problem}))


def _preview(arguments: argparse.Namespace) -> None:
    from services.common.rendering import Renderer
    from services.storage.tokens.previews import preview_row

    renderer = Renderer.from_directory(arguments.model)
    length = arguments.max_seq_length or default_length(arguments.model)
    for number, row in read_rows(sys.stdin.buffer, arguments.first_row):
        _write(messages.as_line(preview_row(renderer, row, number, length)))


def _analyze(arguments: argparse.Namespace) -> None:
    from services.common.rendering import Renderer

    renderer = Renderer.from_directory(arguments.model)
    length = arguments.max_seq_length or default_length(arguments.model)
    counts = count_tokens(renderer, read_rows(sys.stdin.buffer), length)
    _write(messages.as_line(messages.statistics(counts, length)))


def _overlap(arguments: argparse.Namespace) -> None:
    with os.fdopen(arguments.against_fd, "rb") as against:
        overlap = count_overlap(read_rows(sys.stdin.buffer), read_rows(against))
    _write(messages.as_line(messages.overlap(overlap)))


_COMMANDS = {"gate": _gate, "preview": _preview, "analyze": _analyze, "overlap": _overlap}


def _refused(error: ServiceError) -> int:
    _write(json.dumps({"error": {"reason": error.reason, "message": error.message, "hint": error.hint}}))
    return REFUSED


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
