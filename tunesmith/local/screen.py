"""What `tunesmith up` shows a person: the banner, a tick per service, the way on, and the log rows between."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunesmith.local.log_view import printer

_NEXT = (
    ("tunesmith demo", "fine-tune a real model and chat with it"),
    ("tunesmith task create --help", "fine-tune on your own data"),
    ("tunesmith status", "what runs, where"),
)


class Screen:
    """A terminal, or a log file when the output is not one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.row = printer(console)

    def banner(self, version: str, root: Path) -> None:
        """First line."""
        self.row(
            Text.assemble(
                ("tunesmith ", "bold"), version, "   data ", (_short(root), "cyan"), "   Ctrl-C stops everything; state is kept"
            )
        )

    def child_ready(self, name: str, address: str, seconds: float) -> None:
        """A child answers."""
        self.row(
            Text.assemble((" ✓ ", "green"), f"{name:<14}", (f"{address:<18}", "cyan"), (f"{seconds:6.1f} s", "bright_black"))
        )

    def ready(self, seconds: float, addresses: Mapping[str, str], root: str, api_key: str) -> None:
        """Everything answers; what to do now."""
        self.row(Text.assemble(("Ready", "bold green"), f" in {seconds:.1f} s. In another terminal:"))
        at = "" if root == str(Path("~/.tunesmith").expanduser()) else f"   (with TUNESMITH_DATA_DIR={root})"
        for command, meaning in _NEXT:
            self.row(Text.assemble("   ", (f"{command:<32}", "bold"), (meaning, "bright_black")))
        if gateway := addresses.get("gateway"):
            self.row(Text("For OpenAI clients:"))
            self.row(Text.assemble("   ", (f"export OPENAI_BASE_URL=http://{gateway}/v1 OPENAI_API_KEY={api_key}", "bold")))
        if at:
            self.row(Text(at, style="bright_black"))

    def report(self, name: str, text: str) -> None:
        """Something happened to a child."""
        self.row(Text.assemble((f"{name:>12} ", "bold"), ("│ ", "bright_black"), (text, "yellow")))

    def say(self, text: str) -> None:
        """The stack speaks of itself."""
        self.report("tunesmith", text)


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
