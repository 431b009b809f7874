"""What commands print: JSON for programs, tables and fields for people, times and sizes short; data to stdout, talk to stderr."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_WIDE = 240  # a table that is not shown on a terminal is never cut


def print_json(message: "Message", *, compact: bool = False) -> None:
    """The proto JSON with the proto's own field names; one line when compact."""
    from google.protobuf.json_format import MessageToJson

    text = MessageToJson(message, preserving_proto_field_name=True, indent=None if compact else 2, ensure_ascii=False)
    print(text, flush=compact)


def talk(text: str) -> None:
    """Say something that is not the result."""
    print(text, file=sys.stderr, flush=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> None:
    """Rows under headers; `nothing` is said when there are none."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    if not table.row_count:
        talk(nothing)
        return
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False, emoji=False).print(table)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Aligned `name  value` lines; those without a value are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *more = value.splitlines()
        print(f"{name:<{width}}  {first}")
        for line in more:
            print(f"{'':<{width}}  {line}")


def when(timestamp: "Timestamp") -> str:
    """Local and short: the time today, else the day with the time; empty when not set."""
    if not timestamp.seconds:
        return ""
    moment = timestamp.ToDatetime(tzinfo=UTC).astimezone()
    today = datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def time_left(timestamp: "Timestamp", now: datetime) -> str:
    """`15 d`, `7 h` or `12 min` until a moment; `over` when it has passed."""
    left = timestamp.ToDatetime(tzinfo=UTC) - now
    if left <= timedelta(0):
        return "over"
    if left >= timedelta(days=1):
        return f"{round(left / timedelta(days=1))} d"
    if left >= timedelta(hours=1):
        return f"{left // timedelta(hours=1)} h"
    return f"{max(1, left // timedelta(minutes=1))} min"


def size(count: float) -> str:
    """Bytes for people: `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """`0:21`, `12:05` or `3:07:00`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def transfer_progress(label: str):  # type: ignore[no-untyped-def]
    """A progress callback that draws on a terminal and is silent elsewhere."""
    if not sys.stderr.isatty():
        return None

    def draw(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        print(f"\r{label} {size(done)} of {size(total)}  ", end=end, file=sys.stderr, flush=True)

    return draw
