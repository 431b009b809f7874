"""The fast path takes only what the slow path takes, and makes the same of it; any bytes have an outcome."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, GOOD, USER, Checked, of

from services.storage.checking.example import Batch, Format, batch_of
from services.storage.checking.line_source import are_framed
from services.storage.checking.plain_rows import read_plain
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row

KEYS = ("role", "content", "messages", "weight", "name", "label", "text", "input", "preferred_output", "id")
pieces = st.sampled_from(
    [*KEYS, "user", "assistant", "system", "tool", "a\\u0041", "\\u0072ole", '\\"', "\\u0022", "é", "\\n", ""]
)
keys = pieces.map(lambda text: f'"{text}"')
odd = st.sampled_from(["0", "1", "-0", "1.0", "1e2", "null", "true", "[]", "{}", "01", '"\\ud800"', '"\\u001e"', '"\x01"', '" "'])
scalars = st.one_of(keys, odd)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(keys, values).map(": ".join)
    return st.lists(pair, max_size=4).map(lambda pairs: "{" + ", ".join(pairs) + "}")


def message(role: str) -> st.SearchStrategy[str]:
    more = st.sampled_from(
        ["", ', "weight": 0', ', "weight": 1', ', "name": "x"', ', "name": "\\u0022"', ', "content": "y"', ', "role": "user"']
    )
    return st.tuples(scalars, more).map(lambda parts: f'{{"role": "{role}", "content": {parts[0]}{parts[1]}}}')


messages = st.lists(
    st.one_of(st.sampled_from([USER, ANSWER]), message("assistant"), message("user"), message("system"), objects(scalars)),
    max_size=4,
)
more = st.sampled_from(["", "", ', "label": "a"', ', "label": 3', ', "label": "\\""', ', "id": 1', ', "messages": []'])
chats = st.tuples(messages, more).map(lambda parts: of(*parts[0], more=parts[1]))
preferences = st.tuples(messages, scalars, scalars).map(
    lambda parts: (
        f'{{"input": {of(*parts[0])}, "preferred_output": [{{"role": "assistant", "content": {parts[1]}}}],'
        f' "non_preferred_output": [{{"role": "assistant", "content": {parts[2]}}}]}}'
    )
)
texts = scalars.map(lambda text: f'{{"text": {text}}}')
rows = st.one_of(chats, preferences, texts, objects(scalars))


def plain(lines: list[bytes], expected: Format) -> Batch | None:
    return read_plain(expected, b"\n".join(lines)) if are_framed(lines) else None


def slow(row: bytes, expected: Format) -> Batch | None:
    try:
        return batch_of([read_row(row, expected)])
    except RowProblem:
        return None


def joined(batches: list[Batch]) -> dict[str, object]:
    """What several batches say together, in one way of saying it."""
    return {
        "shapes": [shape for batch in batches for shape in batch.shapes],
        "texts": [text for batch in batches for text in batch.texts],
        "endings": [ending for batch in batches for ending in batch.endings],
        "empty": [count for batch in batches for count in batch.empty_contents or [0] * len(batch.texts)],
        "learned": sum(batch.learned_characters for batch in batches),
        "tools": sum(batch.with_tools for batch in batches),
        "ignored": [keys for batch in batches for keys in batch.ignored_keys or [()] * len(batch.texts)],
    }


@settings(max_examples=600)
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from(Format))
def test_what_the_fast_path_takes_the_slow_path_takes_as_the_same(texts: list[str], expected: Format) -> None:
    lines = [text.encode("utf-8", "surrogatepass") for text in texts]
    fast = plain(lines, expected)
    if fast is not None:
        found = [slow(line, expected) for line in lines]
        assert None not in found, texts
        assert joined([fast]) == joined(found)


contents = st.text(st.characters(codec="utf-8"), min_size=1)


@pytest.mark.parametrize("ascii_only", [True, False])
@given(st.lists(st.tuples(contents, contents), min_size=1, max_size=4))
def test_plain_rows_take_the_fast_path(ascii_only: bool, pairs: list[tuple[str, str]]) -> None:
    found = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs]
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in found]
    batch = plain(lines, Format.CHAT)
    assert batch is not None
    assert batch.learned_characters == sum(len(answer) for _, answer in pairs)


SILENT = '{"role": "assistant", "content": "x", "weight": 0}'
PLAIN = {
    Format.CHAT: [GOOD, of('{"role": "system", "content": ""}', USER, SILENT, ANSWER)],
    Format.LABELED: [of(USER, more=', "label": "a \\" b"')],
    Format.TEXT: ['{"text": "x"}'],
    Format.PREFERENCE: [
        f'{{"input": {{"messages": [{USER}]}}, "preferred_output": [{ANSWER}],'
        ' "non_preferred_output": [{"role": "assistant", "content": "no"}]}'
    ],
}  # fmt: skip


@pytest.mark.parametrize("expected", Format)
def test_every_format_has_a_fast_path_that_agrees(expected: Format) -> None:
    lines = [row.encode() for row in PLAIN[expected]] * 3
    fast = plain(lines, expected)
    assert fast is not None
    assert joined([fast]) == joined([batch_of([read_row(line, expected)]) for line in lines])


@pytest.mark.parametrize(
    "row",
    [
        of(USER, ANSWER, more=', "messages": []'),
        of(USER, '{"role": "assistant", "content": "a", "content": "\\u0022\\u0022"}'),
        of(USER, '{"role": "assistant", "content": "\\u0022\\u0022", "c\\u006fntent": "\\u0022\\u0022"}'),
        of('{"role": "user", "content": "a", "weight": 0}', ANSWER),
        of(ANSWER),
        GOOD + GOOD,
        " " + GOOD,
        of(USER, '{"role": "assistant", "content": ""}'),
    ],
)
def test_what_may_be_bad_is_left_to_the_slow_path(row: str) -> None:
    assert plain([GOOD.encode(), row.encode()], Format.CHAT) is None


def test_an_object_over_two_lines_is_no_row_even_when_the_count_is_right() -> None:
    half, other = GOOD.split("[", 1)
    lines = [(GOOD + GOOD).encode(), half.encode() + b"[", other.encode()]
    assert read_plain(Format.CHAT, b"\n".join(lines)) is not None
    assert not are_framed(lines)


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"{", b"{}\n", GOOD.encode() + b"\n", b"[" + GOOD.encode() + b","]))
def test_any_bytes_have_an_outcome(content: bytes, start: bytes) -> None:
    outcome = Checked(start + content).outcome
    assert outcome["report"]["valid"] == (not outcome["report"]["violations"])
    json.dumps(outcome).encode()


CORPUS = "\n".join([GOOD, PLAIN[Format.CHAT][1], of(USER, ANSWER, more=', "tools": [], "id": 5')] * 3).encode()


@given(
    st.integers(0, len(CORPUS)),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"}", b"\n", b",", b"[", b"\\"])),
)
def test_a_damaged_file_is_judged_the_same_however_it_is_cut(at: int, removed: int, inserted: bytes) -> None:
    content = CORPUS[:at] + inserted + CORPUS[at + removed :]
    assert Checked(content).outcome == Checked(content, cut=13).outcome


@given(st.integers(0, 400), st.integers(0, 3), st.sampled_from([b'"', b"}", b"\n", b",", b"[", b"\\", b"]", b"", b"\xff"]))
def test_a_damaged_array_is_judged_the_same_however_it_is_cut(at: int, removed: int, inserted: bytes) -> None:
    array = b"[\n" + b",\n".join([GOOD.encode()] * 4) + b"\n]\n"
    content = array[:at] + inserted + array[at + removed :]
    assert Checked(content).outcome == Checked(content, cut=13).outcome
