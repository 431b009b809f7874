"""Which clients of OpenAI's API were seen to work: the table of README, made of what tests/compat has written down."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "compat" / "works_with.json"
COLUMNS = (
    *("files", "jobs", "events", "checkpoints", "chat", "stream", "completions", "responses", "batches", "evals"),
    *("structured", "tools", "errors"),
)
_BEGIN, _END = "<!-- works with: written by `make docs` -->\n", "<!-- end -->\n"

Seen = dict[str, dict[str, object]]


def seen() -> Seen:
    """By client: `version`, and `did`, a list of columns."""
    found: Seen = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def table() -> str:
    """One row a client; a mark where its script did it against a trained model."""
    lines = ["| client | version | " + " | ".join(COLUMNS) + " |", "|---|---|" + ":-:|" * len(COLUMNS)]
    for client, outcome in seen().items():
        did = outcome["did"]
        marks = ["✓" if column in did else "" for column in COLUMNS]  # type: ignore[operator]
        lines.append(f"| {client} | {outcome['version']} | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """README with the table between its marks."""
    head, _, rest = readme.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}{table()}{_END}{tail}"
