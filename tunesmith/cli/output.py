"""What commands print: JSON for programs, tables and fields for people, times and sizes short; data to stdout, talk to stderr."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_WIDE = 100_000  # a table that is not shown on a terminal is never cut


def print_json(message: "Message", *more: "Message", compact: bool = False) -> None:
    """The proto JSON with the proto's own field names, of several messages in one object; one line when compact."""
    import json

    from google.protobuf.json_format import MessageToDict

    fields: dict[str, object] = {}
    for each in (message, *more):
        fields |= MessageToDict(each, preserving_proto_field_name=True)
    print(json.dumps(fields, indent=None if compact else 2, ensure_ascii=False), flush=compact)


def talk(text: str) -> None:
    """Say something that is not the result."""
    print(text, file=sys.stderr, flush=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], nothing: str, *, breaks: bool = False) -> None:
    """Rows under headers; `nothing` is said when there are none. A terminal that is too narrow cuts them, or, if the table
    `breaks`, shows each row as fields."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=True)
    told = list(rows)
    for row in told:
        table.add_row(*row)
    if not told:
        talk(nothing)
        return
    console = Console(width=None if is_terminal() else _WIDE, highlight=False, markup=False, emoji=False)
    if breaks and Measurement.get(console, console.options.update(width=_WIDE), table).maximum > console.width:
        print("\n\n".join(_fields(list(zip(headers, row, strict=True))) for row in told))
    else:
        console.print(table)


def is_terminal() -> bool:
    """Whether somebody looks at what is printed."""
    return sys.stdout.isatty()


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Aligned `name  value` lines; those without a value are left out."""
    if text := _fields(fields):
        print(text)


def _fields(fields: Sequence[tuple[str, str]]) -> str:
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    lines = []
    for name, value in shown:
        first, *more = value.splitlines()
        lines.append(f"{name:<{width}}  {first}")
        lines += [f"{'':<{width}}  {line}" for line in more]
    return "\n".join(lines)


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


def bars(counts: Sequence[tuple[str, int]], total: int, cells: int = 24) -> str:
    """`cancel  ████████  40 (12.5 %)`, a line each, the bars in proportion to the largest."""
    width, most = max((len(name) for name, _ in counts), default=0), max((count for _, count in counts), default=1)
    return "\n".join(
        f"{name:<{width}}  {'█' * max(1, cells * count // most):<{cells}}  {count:,} ({percent(count, total)})"
        for name, count in counts
    )


def percent(count: float, total: float) -> str:
    """`12.5 %`."""
    return f"{100 * count / total:.1f} %" if total else "0 %"


def visible(text: str) -> str:
    """Data on a terminal: control characters become signs, so that no row moves the cursor or colours the screen."""
    return text.translate(_SIGNS)


_SIGNS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_SIGNS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)  # a terminal may take these for the start of a sequence, too
