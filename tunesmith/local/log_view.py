"""The logs of all children as one readable stream on the terminal; the raw lines stay in their files."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

LARGEST_KEPT_BYTES = 8 * 1024 * 1024
POLL_INTERVAL_SECONDS = 0.1
_COLOURS = {
    "storage": "cyan",
    "task_manager": "magenta",
    "trainer": "green",
    "inference": "blue",
    "gateway": "yellow",
    "postgres": "bright_black",
    "object_store": "bright_black",
    "tunesmith": "bold",
}
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "bright_black"}
# What the embedded servers print is read only when it is bad news.
_BAD_NEWS = {"postgres": ("WARNING:", "ERROR:", "FATAL:", "PANIC:"), "object_store": ("F0", "F1", "panic")}
_OWN_PROBE = "the database system is"  # starting up, shutting down: what it answers to our asking
_NOT_SHOWN = {"timestamp", "level", "event", "logger", "service", "request_id", "method"}  # found in the file


def rotate(directory: Path) -> None:
    """Set logs aside that have grown large, one generation each; called before anything writes to them."""
    for log in directory.glob("*.log"):
        if log.stat().st_size > LARGEST_KEPT_BYTES:
            log.replace(log.with_suffix(".log.1"))


def render(name: str, line: str) -> Text | None:
    """One raw line as it is shown; None when it is not worth showing."""
    if markers := _BAD_NEWS.get(name):
        shown = any(marker in line for marker in markers) and _OWN_PROBE not in line
        return _row(name, "", Text(line)) if shown else None
    try:
        entry: Any = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return _row(name, "", Text(line)) if line.strip() else None
    return _render_entry(name, entry)


def _render_entry(name: str, entry: dict[str, Any]) -> Text | None:
    level = str(entry.get("level", "info")).lower()
    if level == "debug":
        return None
    style = _LEVEL_STYLES.get(level, "")
    text = Text.assemble((f"{level:<7} ", style or "bright_black"), (str(entry.get("event", "")), style))
    if method := entry.get("method"):
        text.append(" " + str(method).rpartition("/")[2])
    for key, value in entry.items():
        if key not in _NOT_SHOWN:
            text.append(f" {key}=", style="bright_black").append(value if isinstance(value, str) else json.dumps(value))
    return _row(name, _clock(str(entry.get("timestamp", ""))), text)


def _row(name: str, clock: str, text: Text) -> Text:
    head = Text.assemble(
        (f"{name:>12} ", _COLOURS.get(name, "")), ("│ ", "bright_black"), (f"{clock} " if clock else "", "bright_black")
    )
    return head.append_text(text)


def _clock(timestamp: str) -> str:
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return ""


async def follow(name: str, path: Path, show: Callable[[Text], None]) -> None:
    """Show every line that is written to `path` from now on; runs until cancelled."""
    with path.open("rb") as log:
        log.seek(0, 2)
        rest = b""
        while True:
            *lines, rest = (rest + log.read()).split(b"\n")
            for line in lines:
                if row := render(name, line.decode(errors="replace")):
                    show(row)
            await asyncio.sleep(POLL_INTERVAL_SECONDS)


def printer(console: Console) -> Callable[[Text], None]:
    """Print one row a line, never wrapped, so that it can be searched and cut."""
    return lambda row: console.print(row, soft_wrap=True, highlight=False)
