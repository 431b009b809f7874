"""Every way a row can be bad is located to its path and reason, and good rows are taken."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage import dataset_row
from services.storage.dataset_row import MAX_DEPTH, RowProblem, read_row

USER = '{"role": "user", "content": "hi"}'
ANSWER = '{"role": "assistant", "content": "yo"}'


def of(*messages: str) -> str:
    return '{"messages": [' + ", ".join(messages) + "]}"


def nested(depth: int) -> str:
    """A row whose deepest value lies `depth` levels down, in a key that is ignored."""
    return '{"extra": ' + "[" * (depth - 1) + "]" * (depth - 1) + ', "messages": [' + ANSWER + "]}"


# (row, reason, path, what the message must say)
BAD = [
    ("nonsense", "DATASET_NOT_JSON", "", "character 1"),
    ("{", "DATASET_NOT_JSON", "", "the end of the line"),
    ("{'messages': []}", "DATASET_NOT_JSON", "", "property name"),
    (of(ANSWER) + ",", "DATASET_NOT_JSON", "", "Extra data"),
    (of(ANSWER) + of(ANSWER), "DATASET_NOT_JSON", "", "Extra data"),
    (of(ANSWER + ","), "DATASET_NOT_JSON", "", "character"),
    (of('{"role": "assistant", "content": "a\tb"}'), "DATASET_NOT_JSON", "", "control character"),
    (of('{"role": "assistant", "content": "\\x"}'), "DATASET_NOT_JSON", "", "escape"),
    (of('{"role": "assistant", "content": "open}'), "DATASET_NOT_JSON", "", "Unterminated"),
    ('{"messages": [' + ANSWER + '], "a": NaN}', "DATASET_NOT_JSON", "", "NaN"),
    ('{"messages": [' + ANSWER + '], "a": -Infinity}', "DATASET_NOT_JSON", "", "Infinity"),
    ('{"messages": [' + ANSWER + '], "a": 1e999}', "DATASET_NOT_JSON", "", "too large"),
    ('{"messages": [' + ANSWER + '], "a": ' + "9" * 5000 + "}", "DATASET_NOT_JSON", "", "19 digits"),
    ('{"messages": [' + ANSWER + '], "messages": [' + ANSWER + "]}", "DATASET_NOT_JSON", "", "'messages' is given twice"),
    (of('{"role": "user", "role": "assistant", "content": "x"}'), "DATASET_NOT_JSON", "", "'role' is given twice"),
    (of('{"role": "assistant", "content": "x", "content": "y"}'), "DATASET_NOT_JSON", "", "'content' is given twice"),
    (of('{"role": "assistant", "content": "x", "cont\\u0065nt": "y"}'), "DATASET_NOT_JSON", "", "'content' is given twice"),
    (of('{"r\\u006fle": "assistant", "role": "user", "content": "x"}'), "DATASET_NOT_JSON", "", "'role' is given twice"),
    ('{"messages": [' + ANSWER + '], "x": 1, "x": 2}', "DATASET_NOT_JSON", "", "'x' is given twice"),
    ("\ufeff" + of(ANSWER), "DATASET_NOT_JSON", "", "BOM"),
    (nested(MAX_DEPTH + 1), "DATASET_TOO_DEEP", "", "32 levels"),
    ('{"a": ' * 40 + "1" + "}" * 40, "DATASET_TOO_DEEP", "", "32 levels"),
    ("[" * 100_000, "DATASET_TOO_DEEP", "", "32 levels"),
    ("[]", "DATASET_NOT_OBJECT", "", "a list"),
    ('"text"', "DATASET_NOT_OBJECT", "", "a text"),
    ("12", "DATASET_NOT_OBJECT", "", "a number"),
    ("null", "DATASET_NOT_OBJECT", "", "null"),
    ("true", "DATASET_NOT_OBJECT", "", "true or false"),
    ("{}", "DATASET_MESSAGES_MISSING", "messages", "the object is empty"),
    ('{"message": [' + ANSWER + "]}", "DATASET_MESSAGES_MISSING", "messages", "did you mean it by 'message'?"),
    ('{"text": "once"}', "DATASET_MESSAGES_MISSING", "messages", "there is 'text'"),
    ('{"prompt": "a", "completion": "b"}', "DATASET_MESSAGES_MISSING", "messages", '"completion" the assistant\'s'),
    ('{"instruction": "a", "input": "", "output": "b"}', "DATASET_MESSAGES_MISSING", "messages", '"instruction"'),
    ('{"conversations": []}', "DATASET_MESSAGES_MISSING", "messages", '"from" to "role"'),
    ('{"messages": null}', "DATASET_MESSAGES_MISSING", "messages", "null, not a list"),
    ('{"messages": "hi"}', "DATASET_MESSAGES_MISSING", "messages", "a text, not a list"),
    ('{"messages": {"role": "user"}}', "DATASET_MESSAGES_MISSING", "messages", "an object, not a list"),
    ('{"messages": []}', "DATASET_MESSAGES_MISSING", "messages", "the list is empty"),
    (of(USER, '"hi"'), "DATASET_MESSAGE_MALFORMED", "messages[1]", "a text, not an object"),
    (of("null", ANSWER), "DATASET_MESSAGE_MALFORMED", "messages[0]", "null, not an object"),
    (of(USER, '{"content": "x"}'), "DATASET_MESSAGE_MALFORMED", "messages[1].role", '"role" is missing'),
    (of(USER, '{"role": "assistant"}'), "DATASET_MESSAGE_MALFORMED", "messages[1].content", '"content" is missing'),
    (of("{}"), "DATASET_MESSAGE_MALFORMED", "messages[0].role", "the object is empty"),
    (of('{"from": "human", "value": "x"}'), "DATASET_MESSAGE_MALFORMED", "messages[0].role", "rename 'from' to 'role'"),
    (of('{"role": "user", "text": "x"}'), "DATASET_MESSAGE_MALFORMED", "messages[0].content", "rename 'text' to 'content'"),
    (of('{"role": "user", "contents": "x"}'), "DATASET_MESSAGE_MALFORMED", "messages[0].content", "rename 'contents'"),
    (of(USER, '{"role": "assistent", "content": "x"}'), "DATASET_ROLE_UNKNOWN", "messages[1].role", "mean 'assistant'?"),
    (of('{"role": "User", "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[0].role", "mean 'user'?"),
    (of('{"role": "human", "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[0].role", "mean 'user'?"),
    (of(USER, '{"role": "gpt", "content": "x"}'), "DATASET_ROLE_UNKNOWN", "messages[1].role", "mean 'assistant'?"),
    (of('{"role": "developer", "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[0].role", "mean 'system'?"),
    (of(USER, '{"role": "tool", "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[1].role", "'tool' is unknown"),
    (of('{"role": "", "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[0].role", "'' is unknown"),
    (of('{"role": null, "content": "x"}', ANSWER), "DATASET_ROLE_UNKNOWN", "messages[0].role", "not a text"),
    (of('{"role": ["user"], "content": "x"}'), "DATASET_ROLE_UNKNOWN", "messages[0].role", "not a text"),
    (of('{"role": "\\ud800", "content": "x"}'), "DATASET_ROLE_UNKNOWN", "messages[0].role", "unknown"),
    (of(USER, '{"role": "assistant", "content": ""}'), "DATASET_CONTENT_INVALID", "messages[1].content", "is empty"),
    (of(USER, '{"role": "assistant", "content": null}'), "DATASET_CONTENT_INVALID", "messages[1].content", "null"),
    (of('{"role": "user", "content": 5}', ANSWER), "DATASET_CONTENT_INVALID", "messages[0].content", "a number"),
    (of('{"role": "user", "content": [{"type": "text"}]}'), "DATASET_CONTENT_INVALID", "messages[0].content", "a list"),
    (of(USER, '{"role": "assistant", "content": "\\ud83d"}'), "DATASET_CONTENT_INVALID", "messages[1].content", "\\ud83d"),
    (of('{"role": "assistant", "content": "x", "weight": 2}'), "DATASET_MESSAGE_MALFORMED", "messages[0].weight", "'2'"),
    (of('{"role": "assistant", "content": "x", "weight": true}'), "DATASET_MESSAGE_MALFORMED", "messages[0].weight", "True"),
    (of('{"role": "assistant", "content": "x", "weight": "1"}'), "DATASET_MESSAGE_MALFORMED", "messages[0].weight", "neither"),
    (of('{"role": "assistant", "content": "x", "weight": [0]}'), "DATASET_MESSAGE_MALFORMED", "messages[0].weight", "neither"),
    (of('{"role": "assistant", "content": "x", "name": 7}'), "DATASET_MESSAGE_MALFORMED", "messages[0].name", "a number"),
    (of(USER), "DATASET_NO_ASSISTANT", "messages", "no message is of the assistant"),
    (of(ANSWER, USER), "DATASET_NO_ASSISTANT", "messages[1].role", "the last message is of the user"),
    (of(ANSWER, '{"role": "system", "content": "x"}'), "DATASET_NO_ASSISTANT", "messages[1].role", "of the system"),
]

GOOD = [
    of(ANSWER),
    of(USER, ANSWER),
    of('{"role": "system", "content": "x"}', USER, ANSWER, USER, ANSWER),
    of('{"role": "assistant", "content": "x", "weight": 0}'),
    of('{"role": "assistant", "content": "x", "weight": 1, "name": "ann"}'),
    of('{"role": "assistant", "content": "x", "tool_calls": null, "refusal": null}'),
    '{"id": 7, "score": 0.5, "tags": ["a"], "messages": [' + ANSWER + "]}",
    of('{"content": "role first is not needed", "role": "assistant"}'),
    of('{"role": "assistant", "content": "\\ud83d\\ude00 \\u00e9 \\u0041"}'),
    of('{"role": "assistant", "content": "\\"role\\": \\"content\\" \\"messages\\""}'),
    of('{"role": "user", "content": "role"}', '{"role": "assistant", "content": "content"}'),
    of('{"role": "assistant", "content": " "}'),
    of('{"role": "assistant", "content": "' + "[{" * 1000 + '"}'),
    "  " + of(ANSWER) + "  ",
    nested(MAX_DEPTH),
    of(*[USER, ANSWER] * 500),
]


@pytest.mark.parametrize(("text", "reason", "path", "says"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_located_and_explained(text: str, reason: str, path: str, says: str) -> None:
    with pytest.raises(RowProblem) as caught:
        read_row(text.encode())
    assert (caught.value.reason, caught.value.path) == (reason, path)
    assert says in caught.value.message
    assert len(caught.value.message) < 300
    caught.value.message.encode()


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_a_good_row_is_taken_as_it_is(text: str) -> None:
    messages = json.loads(text)["messages"]
    assert [(m.role, m.content) for m in read_row(text.encode())] == [(m["role"], m["content"]) for m in messages]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (b'{"messages": [{"role": "assistant", "content": "caf\xe9"}]}', "0xe9"),
        (b"\xff\xfe{\x00", "byte 1 of the line, 0xff"),
        (b'{"messages": "\xed\xa0\x80"}', "0xed"),
        (b'{"messages": "\xc0\xaf"}', "0xc0"),
    ],
)
def test_bytes_that_are_not_utf_8_are_named(line: bytes, place: str) -> None:
    with pytest.raises(RowProblem, match=place) as caught:
        read_row(line)
    assert caught.value.reason == "DATASET_NOT_UTF8"


def test_a_hostile_row_takes_linear_time() -> None:
    # Quadratic search in either of these would run for hours, which the time limit of the suite ends.
    for text in (
        '"' + '\\"' * 2_000_000,
        "[" * 40 + '"\\"' * 1_000_000,
        "{" + ",".join(f'"{n}":{n}' for n in range(200_000)) + "}",
    ):
        with pytest.raises(RowProblem):
            read_row(text.encode())


pieces = st.sampled_from(
    ["role", "content", "messages", "weight", "name", "user", "assistant", "a\\u0041", "\\u0072ole", "é", ""]
)
keys = pieces.map(lambda text: f'"{text}"')
scalars = st.one_of(
    keys, st.sampled_from(["0", "1", "-0", "1.0", "1e2", "null", "true", "[]", "{}", "01", '"\\ud800"', '"\x01"'])
)


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(keys, values).map(": ".join)
    return st.lists(pair, max_size=4).map(lambda pairs: "{" + ", ".join(pairs) + "}")


message = st.one_of(st.sampled_from([USER, ANSWER]), objects(scalars))
rows = st.one_of(st.lists(message, max_size=4).map(lambda found: of(*found)), objects(scalars))


@given(rows)
def test_the_fast_path_takes_only_what_the_slow_path_takes(text: str) -> None:
    fast = dataset_row._read_plain(text.encode())
    if fast is not None:
        slow = dataset_row._read_any(text.encode())
        assert [(m.role, m.content) for m in fast] == [(m.role, m.content) for m in slow]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.booleans())
def test_what_a_json_library_writes_is_read_back(contents: list[str], ascii_only: bool) -> None:
    row = {"messages": [{"role": "assistant", "content": content} for content in contents]}
    line = json.dumps(row, ensure_ascii=ascii_only).encode()
    assert [message.content for message in read_row(line)] == contents


@given(st.binary(max_size=60))
def test_any_bytes_are_either_a_row_or_a_problem(line: bytes) -> None:
    with pytest.raises(RowProblem):
        read_row(b"{" + line)
