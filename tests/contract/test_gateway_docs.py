"""The page about moving from OpenAI names every field the gateway reads, refuses or ignores."""

import pathlib
import re

import pytest

from services.gateway import chat_request, job_method, job_request

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs/how-to/move-from-openai.md").read_text()
NAMES = {
    *(*chat_request._READ, *chat_request._CHECKED, *chat_request.REFUSED),
    *(*job_request._KNOWN, *job_request._OURS, *job_method._NUMBERS, *job_method._KINDS),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_field_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_row_of_its_tables_says_something() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(rows) > 25
    assert [row for row in rows if re.search(r"\|\s*\|", row)] == []
