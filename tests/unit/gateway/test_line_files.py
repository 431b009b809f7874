"""Files whose lines are no rows yet: they arrive in any pieces, come back as they were, and a list of them is cut by id."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.gateway import lists
from services.gateway.batch_request import given_in, request_of
from services.gateway.batch_rows import BatchRows
from services.gateway.eval_rows import EvalRows, item_in
from services.gateway.failures import placed, refused
from services.gateway.lines import decoded, line_of, lines_in
from services.storage.checking.row import read_row
from tests.unit.gateway.test_batches import request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.one_of(TEXT, st.integers(-(2**53), 2**53), st.none())
ITEMS = st.lists(st.dictionaries(TEXT, VALUES, min_size=1, max_size=3), min_size=1, max_size=6)
ASKS = st.lists(TEXT.filter(str.strip), min_size=1, max_size=6, unique=True)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(places)]


def taken(rows: BatchRows | EvalRows, parts: list[bytes]) -> list[bytes]:
    return b"".join([*map(rows.take, parts), rows.end()]).splitlines()


@given(items=ITEMS, cuts=CUTS, blank=st.booleans(), ended=st.booleans())
@settings(max_examples=60, deadline=None)
def test_items_are_the_same_in_whatever_pieces_they_come(items, cuts, blank: bool, ended: bool) -> None:
    gap = b"\n\n" if blank else b"\n"
    body = gap.join(json.dumps({"item": item}, ensure_ascii=False).encode() for item in items) + (b"\n" if ended else b"")
    rows = [row for row in taken(EvalRows(), pieces(body, cuts)) if row]
    assert [item_in(json.loads(row)) for row in rows] == [{"item": item} for item in items]
    assert {read_row(row, None).format.value for row in rows} == {"TEXT"}


@given(ids=ASKS, cuts=CUTS)
@settings(max_examples=60, deadline=None)
def test_requests_are_the_same_in_whatever_pieces_they_come(ids: list[str], cuts: list[int]) -> None:
    given_ = [request(custom_id, user=custom_id) for custom_id in ids]
    body = b"".join(json.dumps(each).encode() + b"\n" for each in given_)
    rows = taken(BatchRows(), pieces(body, cuts))
    assert [given_in(json.loads(row)) for row in rows] == given_


@given(texts=st.lists(st.binary(max_size=9).filter(lambda text: b"\n" not in text), max_size=8), size=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
async def test_lines_are_found_in_chunks_of_any_size(texts: list[bytes], size: int) -> None:
    body = b"\n".join(texts)

    async def chunks():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    assert [line async for line in lines_in(chunks())] == [text for text in texts if text.strip()]


@pytest.mark.parametrize("value", [{"ä": "\n"}, [1, None], "x", 7], ids=["object", "array", "text", "number"])
def test_a_line_holds_its_value(value) -> None:
    line = line_of(value)
    assert (line.count(b"\n"), decoded(line, "x")) == (1, value)


@pytest.mark.parametrize("line", [b"{", b"\xff", rb'"\ud800"', b"[" * 100_000], ids=["cut", "bytes", "half", "deep"])
def test_what_is_no_json_is_refused_by_the_name_of_what_it_should_be(line: bytes) -> None:
    with pytest.raises(InvalidArgument, match="is not JSON") as caught:
        decoded(line, "thing")
    assert caught.value.violations[0].field == "thing"


def test_a_place_goes_before_every_field_and_keeps_the_reason_unless_told() -> None:
    for options, reason in (({}, "UNSUPPORTED_PARAMETER"), ({"reason": "DATASET_INVALID"}, "DATASET_INVALID")):
        with pytest.raises(InvalidArgument) as caught, placed("line 3: ", **options):
            raise refused("body.n", "is too much", reason="UNSUPPORTED_PARAMETER")
        assert ([each.field for each in caught.value.violations], caught.value.reason) == (["line 3: body.n"], reason)


def test_a_long_line_is_refused_before_it_has_ended(monkeypatch) -> None:
    monkeypatch.setattr("services.gateway.row_lines._LONGEST_LINE", 20)
    rows = EvalRows()
    assert rows.take(b'{"item": {"a": 1}}\n') != b""
    with pytest.raises(InvalidArgument) as caught:
        rows.take(b"x" * 21)
    assert caught.value.violations[0].field == "line 2"


def test_a_line_may_be_as_long_as_is_permitted(monkeypatch) -> None:
    line = b'{"item": {"a": 1}}'
    monkeypatch.setattr("services.gateway.row_lines._LONGEST_LINE", len(line))
    rows = EvalRows()
    assert (rows.take(line), rows.end().count(b"\n")) == (b"", 1)


def test_the_row_of_a_request_keeps_all_of_it_but_trains_on_nothing() -> None:
    asked = request_of({**request("a", temperature=0.5), "note": [1]})
    row = asked.row()
    assert (row["label"], row["request"]["note"], row["request"]["body"]) == ("a", [1], {"model": "tiny", "temperature": 0.5})
    assert given_in(row) == asked.given
    assert set(row) == {"messages", "label", "request"}


LETTERS = list("abcdefg")


@pytest.mark.parametrize(
    ("after", "limit", "page", "more"),
    [
        ("", 3, "abc", True),
        ("", 7, "abcdefg", False),
        ("c", 2, "de", True),
        ("c", 4, "defg", False),
        ("g", 2, "", False),
    ],
    ids=["first", "all", "middle", "rest", "end"],
)
def test_a_list_is_cut_behind_an_item(after: str, limit: int, page: str, more: bool) -> None:
    assert lists.cut(LETTERS, after, limit, str) == (list(page), more)


def test_only_wanted_items_count_but_any_may_be_the_last_that_was_told() -> None:
    vowels = "ae".__contains__
    assert lists.cut(LETTERS, "", 1, str, vowels) == (["a"], True)
    assert lists.cut(LETTERS, "b", 1, str, vowels) == (["e"], False)


def test_an_item_that_is_not_in_the_list_is_no_cursor() -> None:
    with pytest.raises(InvalidArgument, match="'x' is not in this list"):
        lists.cut(LETTERS, "x", 1, str)
