"""The pages about OpenAI's API name every field the gateway reads, refuses or ignores."""

import pathlib
import re

import pytest

from docs import openai_page
from services.gateway import chat_request, completion_request, job_method, job_request

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "how-to/move-from-openai.md").read_text()
FIELDS = (DOCS / "reference/openai.md").read_text()
OF_JOBS = {*job_request._READ, *job_request.REFUSED, *job_request._OURS, *job_method._NUMBERS, *job_method._KINDS}
OF_ALL = {
    *(*chat_request._READ, *chat_request._CHECKED, *chat_request.REFUSED),
    *(*completion_request._READ, *completion_request.REFUSED, *job_request._READ, *job_request.REFUSED),
}


@pytest.mark.parametrize("name", sorted(OF_JOBS))
def test_every_field_of_a_job_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(OF_ALL))
def test_every_field_has_a_row(name: str) -> None:
    assert f"\n| `{name}` | " in FIELDS


@pytest.mark.parametrize("request_", openai_page._REQUESTS, ids=lambda request: request[1])
def test_what_is_said_to_be_ignored_is(request_) -> None:
    title, _, module, fields = request_
    section = FIELDS.partition(f"## {title}\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \| ignored \|$", section, re.MULTILINE))
    assert told == set(module.ignored(dict.fromkeys(fields.__annotations__, 1)))


def test_every_row_of_the_tables_says_something() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert [row for row in rows if re.search(r"\|\s*\|", row)] == []
