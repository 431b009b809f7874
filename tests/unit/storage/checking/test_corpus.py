"""Every broken file is located to its row and reason, and every good one is taken as it is."""

import json
import pathlib

import pytest
from unit.storage.checking.broken_files import BROKEN, Place
from unit.storage.checking.checks import Checked

from services.common.dataset_reasons import FILE_PROBLEMS, ROW_PROBLEMS

GOOD_FILES = sorted((pathlib.Path(__file__).parents[3] / "corpus" / "datasets").iterdir())


@pytest.mark.parametrize(
    ("content", "line", "place", "reason", "says"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN]
)
def test_a_broken_file_is_located_and_explained(content: bytes, line: int, place: Place, reason: str, says: str) -> None:
    checked = Checked(content)
    (violation,) = checked.report["violations"]
    assert (violation["line"], violation["reason"]) == (line, reason)
    assert violation["column" if isinstance(place, int) else "path"] == place
    assert says in violation["message"]
    assert len(violation["message"]) < 300
    assert violation["hint"]
    assert not checked.report["valid"]
    assert not checked.outcome["accepted"]


@pytest.mark.parametrize("content", [case[1] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_file_is_judged_the_same_however_it_is_cut(content: bytes) -> None:
    whole = Checked(content).outcome
    for cut in (1, 7, 1000) if len(content) < 10_000 else (1000,):
        assert Checked(content, cut=cut).outcome == whole


def test_there_is_a_broken_file_for_every_reason() -> None:
    assert {reason for *_, reason, _ in BROKEN} == {*FILE_PROBLEMS, *ROW_PROBLEMS} - {"DATASET_LINE_TOO_LONG"}
    assert len(BROKEN) >= 60


@pytest.mark.parametrize("path", GOOD_FILES, ids=lambda path: path.name)
def test_a_good_file_is_taken_as_it_is(path: pathlib.Path) -> None:
    content = path.read_bytes()
    checked = Checked(content)
    assert checked.places == []
    expected = json.loads(content) if path.suffix == ".json" else [json.loads(line) for line in content.splitlines()]
    assert [json.loads(line) for line in checked.rows.splitlines()] == expected
    assert checked.outcome["rows_equal_file"] == (path.suffix == ".jsonl")
