"""How a failure reaches a person: what is printed, and the exit code; used by the root command for every command."""

import json
import sys

from tunesmith.errors import InvalidArgument, PermissionDenied, TunesmithError, Unreachable
from tunesmith.local.errors import LocalError

OK, FAILED, USAGE, TASK_FAILED, NOT_ALLOWED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
_LOCAL_CODES = {"NOT_RUNNING": UNREACHABLE, "PORT_INVALID": USAGE}


def exit_code(error: TunesmithError | LocalError) -> int:
    """The exit code of a command that failed with `error`."""
    if isinstance(error, LocalError):
        return _LOCAL_CODES.get(error.reason, FAILED)
    if isinstance(error, Unreachable):
        return UNREACHABLE
    if isinstance(error, PermissionDenied):
        return NOT_ALLOWED
    refused_before_any_call = isinstance(error, InvalidArgument) and not error.grpc_code
    return USAGE if refused_before_any_call else FAILED


def show(error: TunesmithError | LocalError, *, as_json: bool) -> None:
    """Print to stderr: for people, or one JSON object."""
    if as_json:
        print(json.dumps({"error": _as_dict(error)}, ensure_ascii=False), file=sys.stderr)
        return
    lines = [f"{violation.field}: {violation.description}" for violation in getattr(error, "violations", ())]
    # Violations are often the whole message: one is said once, several as a list.
    repeats = len(lines) > 1 and error.message.startswith(f"{lines[0]}; ")
    show_reason(error.reason, f"{len(lines)} things are wrong" if repeats else error.message)
    for line in lines:
        if line != error.message:
            print(f"  - {line}", file=sys.stderr)
    show_hint(error.hint)


def show_reason(reason: str, message: str) -> None:
    """`error[REASON]: message`, the first word red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble((f"error[{reason}]", "bold red"), f": {message}")
    Console(stderr=True).print(text, soft_wrap=True, highlight=False)


def show_hint(hint: str) -> None:
    """`  hint: …`; nothing when there is none."""
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)


def _as_dict(error: TunesmithError | LocalError) -> dict[str, object]:
    content: dict[str, object] = {"reason": error.reason, "message": error.message, "hint": error.hint}
    if isinstance(error, TunesmithError):
        violations = [{"field": v.field, "description": v.description, "reason": v.reason} for v in error.violations]
        content |= {"class": error.error_class, "grpc_code": error.grpc_code, "violations": violations}
    return content
