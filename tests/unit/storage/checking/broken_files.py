"""Broken files, each with where and why: (name, content, line, column or path, reason, what the message says)."""

# ruff: noqa: E501 - a case a line reads as a table

import gzip
import json

from unit.storage.checking.checks import ANSWER, GOOD, USER, of

Place = int | str

CALL = '{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}'
TOOL = '{"type": "function", "function": {"name": "f", "parameters": {}}}'


def after_good(row: str | bytes) -> bytes:
    """A file whose second line is bad."""
    return GOOD.encode() + b"\n" + (row.encode("utf-8", "surrogatepass") if isinstance(row, str) else row) + b"\n"


def calling(calls: str) -> bytes:
    return after_good(of(USER, f'{{"role": "assistant", "tool_calls": {calls}}}'))


def called(function: str, call_id: str = '"c1"') -> bytes:
    return calling(f'[{{"id": {call_id}, "type": "function", "function": {function}}}]')


def with_tools(tools: str) -> bytes:
    return after_good(of(USER, ANSWER, more=f', "tools": {tools}'))


def preference(given: str, preferred: str, other: str) -> bytes:
    return f'{{"input": {given}, "preferred_output": {preferred}, "non_preferred_output": {other}}}'.encode()


ASKED = f'{{"messages": [{USER}]}}'
OTHER = '{"role": "assistant", "content": "no"}'
COLUMN_OF_VALUE = len('{"messages": [') + 1
DEEP = "[" * 100_000

BROKEN: list[tuple[str, bytes, int, Place, str, str]] = [
    # Files that are something else.
    ("empty", b"", 0, 0, "DATASET_EMPTY", "no rows"),
    ("blanks", b" \r\n\t\n", 0, 0, "DATASET_EMPTY", "no rows"),
    ("only a byte order mark", b"\xef\xbb\xbf", 0, 0, "DATASET_EMPTY", "no rows"),
    ("an empty array", b"[ ]", 0, 0, "DATASET_EMPTY", "no rows"),
    ("gzip", gzip.compress(GOOD.encode()), 0, 0, "DATASET_COMPRESSED", "gzip"),
    ("zip", b"PK\x03\x04" + bytes(30), 0, 0, "DATASET_COMPRESSED", "zip"),
    ("zstd", b"\x28\xb5\x2f\xfd" + bytes(30), 0, 0, "DATASET_COMPRESSED", "zstd"),
    ("bzip2", b"BZh91AY" + bytes(30), 0, 0, "DATASET_COMPRESSED", "bzip2"),
    ("xz", b"\xfd7zXZ\x00" + bytes(30), 0, 0, "DATASET_COMPRESSED", "xz"),
    ("tar", b"a.jsonl".ljust(257, b"\0") + b"ustar\x0000", 0, 0, "DATASET_COMPRESSED", "tar"),
    ("parquet", b"PAR1" + bytes(30), 0, 0, "DATASET_FILE_OTHER", "Parquet"),
    ("arrow", b"ARROW1\0\0" + bytes(30), 0, 0, "DATASET_FILE_OTHER", "Arrow"),
    ("pdf", b"%PDF-1.7\n%\xe2", 0, 0, "DATASET_FILE_OTHER", "PDF"),
    ("sqlite", b"SQLite format 3\0" + bytes(30), 0, 0, "DATASET_FILE_OTHER", "SQLite"),
    ("html", b"<!DOCTYPE html>\n<html>", 1, 0, "DATASET_FILE_OTHER", "HTML"),
    ("csv", b"prompt,completion\nhi,yo\n", 1, 0, "DATASET_FILE_OTHER", "CSV"),
    ("csv with quotes and semicolons", b'"prompt";"completion"\r\n"hi";"yo"', 1, 0, "DATASET_FILE_OTHER", "CSV"),
    ("tsv", b"prompt\tcompletion\nhi\tyo\n", 1, 0, "DATASET_FILE_OTHER", "CSV"),
    ("yaml", b"- messages:\n  - role: user\n", 1, 0, "DATASET_FILE_OTHER", "YAML"),
    ("utf-16 with mark", GOOD.encode("utf-16"), 0, 0, "DATASET_ENCODING", "UTF-16LE"),
    ("utf-16 without mark", GOOD.encode("utf-16-be"), 0, 0, "DATASET_ENCODING", "UTF-16BE"),
    ("utf-32", GOOD.encode("utf-32"), 0, 0, "DATASET_ENCODING", "UTF-32LE"),
    ("a pretty-printed object", json.dumps(json.loads(GOOD), indent=2).encode(), 1, 0, "DATASET_PRETTY_PRINTED", "several lines"),
    # Arrays.
    ("an array that is cut off in a row", f"[{GOOD},\n{GOOD[:-9]}".encode(), 2, 1, "DATASET_ARRAY_TRUNCATED", "ends inside"),
    ("an array without its bracket", f"[{GOOD}".encode(), 1, len(GOOD) + 2, "DATASET_ARRAY_TRUNCATED", "closing ]"),
    ("an array with a comma at its end", f"[{GOOD},\n]".encode(), 2, 1, "DATASET_COMMA", "']'"),
    ("an array without a comma", f"[{GOOD}\n{GOOD}]".encode(), 2, 1, "DATASET_ARRAY_BROKEN", "comma"),
    ("something behind an array", f"[{GOOD}]\n{GOOD}".encode(), 2, 1, "DATASET_ARRAY_BROKEN", "behind the end"),
    ("an open text in an array", f'[{GOOD},\n{{"messages": "x]'.encode(), 2, 1, "DATASET_ARRAY_TRUNCATED", "ends inside"),
    ("a bad element on its line", f'[\n  {GOOD},\n  {{"a": 1,}}\n]'.encode(), 3, 10, "DATASET_COMMA", "'}'"),
    ("a bad element over lines", f'[{GOOD},\n{{\n "a": tru\n}}]'.encode(), 2, 0, "DATASET_NOT_JSON", "line 3, column 7"),
    ("a number in an array", f"[{GOOD}, 5]".encode(), 1, "", "DATASET_NOT_OBJECT", "a number"),
    ("deep brackets", DEEP.encode(), 1, 34, "DATASET_TOO_DEEP", "32 levels"),
    # Rows that are no JSON.
    ("words", after_good("nonsense"), 2, 1, "DATASET_NOT_JSON", "'nonsense'"),
    ("a cut row", after_good("{"), 2, 2, "DATASET_TRUNCATED", "a key"),
    ("a cut text", after_good('{"messages": "op'), 2, 14, "DATASET_TRUNCATED", "'\"op'"),
    ("single quotes", after_good("{'messages': []}"), 2, 2, "DATASET_QUOTES", "single"),
    ("typographic quotes", after_good("{“messages”: []}"), 2, 2, "DATASET_QUOTES", "typographic"),
    ("python", after_good('{"messages": None}'), 2, 14, "DATASET_PYTHON", "in JSON it is null"),
    ("a comment", after_good("// rows"), 2, 1, "DATASET_COMMENT", "// rows"),
    ("a comment behind a row", after_good(GOOD + " # first"), 2, len(GOOD) + 2, "DATASET_COMMENT", "# first"),
    ("a comma in a list", after_good(of(USER, ANSWER + ",")), 2, len(of(USER, ANSWER)) - 1, "DATASET_COMMA", "']'"),
    ("a comma behind a row", after_good(GOOD + ","), 2, len(GOOD) + 1, "DATASET_COMMA", "after the row"),
    ("two rows on a line", after_good(GOOD + GOOD), 2, len(GOOD) + 1, "DATASET_SEVERAL_VALUES", "second value"),
    ("a missing colon", after_good('{"messages" []}'), 2, 13, "DATASET_NOT_JSON", '":"'),
    ("a missing comma", after_good('{"a": 1 "b": 2}'), 2, 9, "DATASET_NOT_JSON", '","'),
    ("an escape nobody knows", after_good('{"text": "C:\\new\\x"}'), 2, 17, "DATASET_ESCAPE", "x"),
    ("a raw tab", after_good('{"text": "a\tb"}'), 2, 12, "DATASET_CONTROL_CHARACTER", "tab"),
    ("a raw control character", after_good('{"text": "ä\x01b"}'), 2, 12, "DATASET_CONTROL_CHARACTER", "0x01"),
    ("a NUL byte", after_good('{"text": "a\0"}'), 2, 12, "DATASET_NUL", "NUL"),
    ("a byte order mark inside", after_good("\ufeff" + GOOD), 2, 1, "DATASET_INVISIBLE_CHARACTER", "byte order mark"),
    ("latin-1", after_good(b'{"text": "\xc3\xa4 caf\xe9"}'), 2, 16, "DATASET_NOT_UTF8", "0xe9"),
    ("an encoded surrogate", after_good(b'{"text": "\xed\xa0\x80"}'), 2, 11, "DATASET_NOT_UTF8", "0xed"),
    ("an overlong encoding", after_good(b'{"text": "\xc0\xaf"}'), 2, 11, "DATASET_NOT_UTF8", "0xc0"),
    ("NaN", after_good('{"a": NaN}'), 2, 7, "DATASET_NUMBER", "NaN"),
    ("minus infinity", after_good('{"a": -Infinity}'), 2, 7, "DATASET_NUMBER", "-Infinity"),
    ("5,000 digits", after_good('{"a": ' + "9" * 5000 + "}"), 2, 7, "DATASET_NUMBER", "5000 digits"),
    ("a huge exponent", after_good('{"a": 1e999999}'), 2, 7, "DATASET_NUMBER", "too large"),
    ("a leading zero", after_good('{"a": 01}'), 2, 7, "DATASET_NOT_JSON", "'01"),
    ("a key twice", after_good('{"messages": [], "messages": []}'), 2, 18, "DATASET_DUPLICATE_KEY", "'messages'"),
    ("a hidden key twice", after_good(of('{"role": "user", "r\\u006fle": "user"}')), 2, 32, "DATASET_DUPLICATE_KEY", "'role'"),
    ("half a character", after_good(of(USER, ANSWER[:-3] + '\\ud83d"}')), 2, "messages[1].content", "DATASET_LONE_SURROGATE", "ud83d"),
    ("too deep", after_good('{"a": ' * 40 + "1" + "}" * 40), 2, 193, "DATASET_TOO_DEEP", "32 levels"),
    ("old Mac line ends", (GOOD + "\r" + GOOD).encode(), 1, len(GOOD) + 2, "DATASET_SEVERAL_VALUES", "carriage return"),
    # Rows of another shape.
    ("a text", after_good('"text"'), 2, "", "DATASET_NOT_OBJECT", "a text"),
    ("nothing", after_good("{}"), 2, "messages", "DATASET_MESSAGES_MISSING", "the object is empty"),
    ("a misspelled key", after_good(f'{{"message": [{ANSWER}]}}'), 2, "messages", "DATASET_MESSAGES_MISSING", "'message'"),
    ("alpaca", b'{"instruction": "a", "input": "", "output": "b"}', 1, "", "DATASET_FORMAT_OTHER", "Alpaca"),
    ("sharegpt", b'{"conversations": [{"from": "human", "value": "a"}]}', 1, "", "DATASET_FORMAT_OTHER", "ShareGPT"),
    ("prompt and completion", b'{"prompt": "a", "completion": "b"}', 1, "", "DATASET_FORMAT_OTHER", "prompt/completion"),
    ("chosen and rejected", b'{"prompt": "a", "chosen": "b", "rejected": "c"}', 1, "", "DATASET_FORMAT_OTHER", "chosen"),
    ("rows in one object", f'{{"data": [{GOOD}]}}'.encode(), 1, "data", "DATASET_WRAPPED", "'data'"),
    ("text after chat", after_good('{"text": "x"}'), 2, "", "DATASET_FORMAT_MIXED", "of format chat"),
    ("labels after chat", after_good(of(USER, ANSWER, more=', "label": "a"')), 2, "", "DATASET_FORMAT_MIXED", "labeled"),
    ("a misspelled tools", after_good(of(USER, ANSWER, more=', "tool": []')), 2, "", "DATASET_KEY_UNKNOWN", "'tools'"),
    # Messages.
    ("messages that are a text", after_good('{"messages": "hi"}'), 2, "messages", "DATASET_MESSAGES_MISSING", "a text"),
    ("no messages", after_good('{"messages": []}'), 2, "messages", "DATASET_MESSAGES_MISSING", "empty"),
    ("a message that is a text", after_good(of(USER, '"hi"')), 2, "messages[1]", "DATASET_MESSAGE_MALFORMED", "a text"),
    ("no role", after_good(of('{"content": "x"}')), 2, "messages[0].role", "DATASET_MESSAGE_MALFORMED", "missing"),
    ("from and value", after_good(of('{"from": "human", "value": "x"}')), 2, "messages[0].role", "DATASET_MESSAGE_MALFORMED", "rename"),
    ("no content", after_good(of(USER, '{"role": "assistant"}')), 2, "messages[1].content", "DATASET_MESSAGE_MALFORMED", "missing"),
    ("a role misspelled", after_good(of(USER, '{"role": "assistent", "content": "x"}')), 2, "messages[1].role", "DATASET_ROLE_UNKNOWN", "'assistant'?"),
    ("a role of others", after_good(of('{"role": "human", "content": "x"}')), 2, "messages[0].role", "DATASET_ROLE_UNKNOWN", "'user'?"),
    ("a role that is null", after_good(of('{"role": null, "content": "x"}')), 2, "messages[0].role", "DATASET_ROLE_UNKNOWN", "null"),
    ("the old function role", after_good(of(USER, '{"role": "function", "content": "x"}')), 2, "messages[1].role", "DATASET_FUNCTION_CALL", "old way"),
    ("the old function call", after_good(of(USER, '{"role": "assistant", "function_call": {"name": "f"}}')), 2, "messages[1].function_call", "DATASET_FUNCTION_CALL", "old way"),
    ("a key nobody knows", after_good(of(USER, '{"role": "assistant", "content": "x", "wieght": 0}')), 2, "messages[1]", "DATASET_KEY_UNKNOWN", "'weight'?"),
    ("an empty answer", after_good(of(USER, '{"role": "assistant", "content": ""}')), 2, "messages[1].content", "DATASET_CONTENT_INVALID", "empty"),
    ("an answer that is null", after_good(of(USER, '{"role": "assistant", "content": null}')), 2, "messages[1].content", "DATASET_CONTENT_INVALID", "null"),
    ("a content that is a number", after_good(of('{"role": "user", "content": 5}')), 2, "messages[0].content", "DATASET_CONTENT_INVALID", "a number"),
    ("an image", after_good(of('{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}')), 2, "messages[0].content[0].type", "DATASET_CONTENT_PART", "image_url"),
    ("a weight of 2", after_good(of(USER, '{"role": "assistant", "content": "x", "weight": 2}')), 2, "messages[1].weight", "DATASET_WEIGHT", "'2'"),
    ("a weight that is true", after_good(of(USER, '{"role": "assistant", "content": "x", "weight": true}')), 2, "messages[1].weight", "DATASET_WEIGHT", "True"),
    ("a weight of the user", after_good(of('{"role": "user", "content": "x", "weight": 0}', ANSWER)), 2, "messages[0].weight", "DATASET_KEY_UNKNOWN", "'assistant'"),
    ("a name that is a number", after_good(of('{"role": "user", "content": "x", "name": 7}')), 2, "messages[0].name", "DATASET_MESSAGE_MALFORMED", "a number"),
    ("no answer", after_good(of(USER)), 2, "messages", "DATASET_NO_ASSISTANT", "nothing to learn"),
    ("only context", after_good(of(USER, '{"role": "assistant", "content": "x", "weight": 0}')), 2, "messages", "DATASET_NOTHING_TO_LEARN", "weight 0"),
    ("the assistant first", after_good(of(ANSWER)), 2, "messages[0].role", "DATASET_BEGINS_WITH_ASSISTANT", "begins with"),
    # Tools.
    ("no calls", calling("[]"), 2, "messages[1].tool_calls", "DATASET_TOOL_CALL_INVALID", "empty"),
    ("a call without id", calling('[{"type": "function", "function": {"name": "f", "arguments": "{}"}}]'), 2, "messages[1].tool_calls[0].id", "DATASET_TOOL_CALL_INVALID", "missing"),
    ("a call of a type", calling('[{"id": "a", "type": "code"}]'), 2, "messages[1].tool_calls[0].type", "DATASET_TOOL_CALL_INVALID", "'code'"),
    ("a call without name", called('{"arguments": "{}"}'), 2, "messages[1].tool_calls[0].function.name", "DATASET_TOOL_CALL_INVALID", "missing"),
    ("arguments as object", called('{"name": "f", "arguments": {}}'), 2, "messages[1].tool_calls[0].function.arguments", "DATASET_TOOL_CALL_INVALID", "an object"),
    ("arguments cut off", called('{"name": "f", "arguments": "{"}'), 2, "messages[1].tool_calls[0].function.arguments", "DATASET_TOOL_CALL_INVALID", "'{'"),
    ("an answer to no call", after_good(of(USER, '{"role": "tool", "content": "x", "tool_call_id": "c9"}', ANSWER)), 2, "messages[1].tool_call_id", "DATASET_TOOL_MESSAGE", "'c9'"),
    ("an answer to nothing", after_good(of(USER, '{"role": "tool", "content": "x"}', ANSWER)), 2, "messages[1].tool_call_id", "DATASET_TOOL_MESSAGE", "missing"),
    ("tools that are an object", with_tools("{}"), 2, "tools", "DATASET_TOOLS_INVALID", "an object"),
    ("a tool twice", with_tools(f"[{TOOL}, {TOOL}]"), 2, "tools[1].function.name", "DATASET_TOOLS_INVALID", "twice"),
    ("parameters as text", with_tools('[{"type": "function", "function": {"name": "f", "parameters": "{}"}}]'), 2, "tools[0].function.parameters", "DATASET_TOOLS_INVALID", "a text"),
    # Other formats.
    ("no input", b'{"preferred_output": [], "non_preferred_output": []}', 1, "input", "DATASET_PREFERENCE", "missing"),
    ("two outputs", preference(ASKED, f"[{ANSWER}, {ANSWER}]", f"[{OTHER}]"), 1, "preferred_output", "DATASET_PREFERENCE", "2 messages"),
    ("an output of the user", preference(ASKED, f"[{USER}]", f"[{OTHER}]"), 1, "preferred_output[0]", "DATASET_PREFERENCE", "of the user"),
    ("equal outputs", preference(ASKED, f"[{ANSWER}]", f"[{ANSWER}]"), 1, "non_preferred_output", "DATASET_PREFERENCE_EQUAL", "equal"),
    ("a text that is empty", b'{"text": "  "}', 1, "text", "DATASET_TEXT", "white space"),
    ("a text that is a list", b'{"text": ["a"]}', 1, "text", "DATASET_TEXT", "a list"),
    ("a label that is empty", of(USER, more=', "label": ""').encode(), 1, "label", "DATASET_LABEL", "empty"),
    ("a long label", of(USER, more=f', "label": "{"x" * 201}"').encode(), 1, "label", "DATASET_LABEL", "201"),
    ("a label that is a number", of(USER, more=', "label": 0.5').encode(), 1, "label", "DATASET_LABEL", "a number"),
]  # fmt: skip
