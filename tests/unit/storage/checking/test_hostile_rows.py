"""Rows made to hurt take linear time, and their messages stay short and can be sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, USER, Checked, of

from services.storage.checking.json_text import parse
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 1_000_000,
        "[" * 40 + '"\\"' * 1_000_000,
        "{" + ",".join(f'"{n}":{n}' for n in range(100_000)) + "}",
        "{" + ",".join(f'"{n}":{n}' for n in range(30_000)) + ",}",
        '{"messages": [' + "[]," * 100_000 + "]}",
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        "9" * 4_000_000,
        '{"text": ["' + "\\ud800" * 500_000 + '"]}',
    ],
    ids=["quotes", "brackets and quotes", "keys", "keys and a comma", "lists", "deep lists", "deep objects", "digits", "halves"],
)
def test_a_hostile_row_takes_linear_time(text: str) -> None:
    # Quadratic work on any of these would run for hours, which the time limit of the suite ends.
    with pytest.raises(RowProblem) as caught:
        read_row(text.encode(), None)
    assert len(caught.value.message) < 300
    assert len(caught.value.path) <= 200


@pytest.mark.parametrize("start", [b"[", b'[{"a":', b'["', b"[{"])
@pytest.mark.parametrize("filling", [b"[", b'{"a":', b'"', b'\\"', b" ", b"x", b","])
def test_a_hostile_array_takes_linear_time(start: bytes, filling: bytes) -> None:
    checked = Checked(start + filling * 300_000, cut=2**15, max_row_bytes=2**18)
    assert len(checked.report["violations"][0]["message"]) < 300


def test_messages_and_paths_can_be_sent_whatever_the_row_holds() -> None:
    for row in ('{"messages": [{"role": "\\ud800", "content": "x"}]}', '{"\\ud800": 1}', '{"a": {"\\ud800": NaN}}'):
        violation = Checked(row.encode()).report["violations"][0]
        json.dumps(violation, ensure_ascii=False).encode()


def test_deep_nesting_up_to_the_limit_is_taken() -> None:
    nested = '"id": ' + "[" * 31 + "]" * 31
    assert Checked(of(USER, ANSWER, more=", " + nested).encode()).report["valid"]


@given(st.recursive(st.one_of(st.text(), st.integers(-(10**18), 10**18), st.booleans(), st.none()), st.lists, max_leaves=5))
def test_what_a_json_library_writes_is_read_back(value: object) -> None:
    for ascii_only in (True, False):
        written = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert parse(written) == value


@given(st.text(max_size=30))
def test_what_python_refuses_is_refused_at_a_place_in_the_text(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(RowProblem) as caught:
            parse(text.encode())
        assert 0 <= caught.value.offset <= len(text)
