"""What each dataset reason means, with a file that shows it and the mended file; `docs/generate.py` makes a page of each."""

import dataclasses

_USER = '{"role": "user", "content": "Is it open?"}'
_ANSWER = '{"role": "assistant", "content": "Yes."}'
_ROW = f'{{"messages": [{_USER}, {_ANSWER}]}}'
_TOOL = '{"type": "function", "function": {"name": "hours", "parameters": {"type": "object"}}}'
_CALL = '{"id": "c1", "type": "function", "function": {"name": "hours", "arguments": "{}"}}'


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """`bad` and `good` are whole files; without them the page has none."""

    meaning: str
    bad: str | bytes = ""
    good: str = ""


def _row(*messages: str, more: str = "") -> str:
    return f'{{"messages": [{", ".join(messages)}]{more}}}'


def _answer(fields: str) -> str:
    return _row(_USER, f'{{"role": "assistant", {fields}}}')


def _preference(preferred: str, other: str) -> str:
    return f'{{"input": {{"messages": [{_USER}]}}, "preferred_output": {preferred}, "non_preferred_output": {other}}}'


_PAIR = _preference(f"[{_ANSWER}]", '[{"role": "assistant", "content": "Maybe."}]')
_CALLED = f'{{"role": "assistant", "tool_calls": [{_CALL}]}}'
_REPLY = '{"role": "tool", "tool_call_id": "c1", "content": "9 to 5"}'

EXAMPLES: dict[str, Example] = {
    # Whole files.
    "DATASET_EMPTY": Example("The file has no rows: nothing but blank lines, or an empty array.", "[]", _ROW),
    "DATASET_ENCODING": Example(
        "The file is UTF-16 or UTF-32, as some editors and spreadsheets save it.", _ROW.encode("utf-16"), _ROW
    ),
    "DATASET_COMPRESSED": Example("The file is an archive or compressed.", b"\x1f\x8b\x08\x00\x00\x00", _ROW),
    "DATASET_FILE_OTHER": Example(
        "The file is of another kind: CSV, Parquet, Arrow, YAML, HTML, PDF, SQLite.", "prompt,completion\nIs it open?,Yes.", _ROW
    ),
    "DATASET_PRETTY_PRINTED": Example(
        "An object is spread over several lines and not in an array.",
        f'{{\n  "messages": [\n    {_USER},\n    {_ANSWER}\n  ]\n}}',
        _ROW,
    ),
    "DATASET_ARRAY_BROKEN": Example(
        "The array itself is broken: a comma is missing between two rows, or something follows the closing bracket.",
        f"[\n{_ROW}\n{_ROW}\n]",
        f"[\n{_ROW},\n{_ROW}\n]",
    ),
    "DATASET_ARRAY_TRUNCATED": Example("The file ends before the array does.", f"[\n{_ROW},", f"[\n{_ROW}\n]"),
    # Rows that are no JSON.
    "DATASET_NOT_UTF8": Example(
        "A byte is not UTF-8, typically an accented letter saved as Latin-1.",
        _answer('"content": "Café"').encode("latin-1"),
        _answer('"content": "Café"'),
    ),
    "DATASET_NOT_JSON": Example("The row is not JSON.", '{"messages" []}', _ROW),
    "DATASET_TRUNCATED": Example("The row ends too early.", _ROW[:-10], _ROW),
    "DATASET_SEVERAL_VALUES": Example("A line holds more than one row.", _ROW + _ROW, f"{_ROW}\n{_ROW}"),
    "DATASET_COMMA": Example("There is a comma where none belongs.", _ROW + ",", _ROW),
    "DATASET_QUOTES": Example("Texts are in single or typographic quotes.", "{'text': 'Tea'}", '{"text": "Tea"}'),
    "DATASET_PYTHON": Example(
        "The row has True, False or None, because it was written with `str()` in place of `json.dumps()`.",
        _row(_USER, _ANSWER, more=', "parallel_tool_calls": True'),
        _row(_USER, _ANSWER, more=', "parallel_tool_calls": true'),
    ),
    "DATASET_COMMENT": Example("JSON has no comments.", f"// opening hours\n{_ROW}", _ROW),
    "DATASET_ESCAPE": Example("A backslash begins nothing that JSON knows.", r'{"text": "C:\data"}', r'{"text": "C:\\data"}'),
    "DATASET_CONTROL_CHARACTER": Example(
        "A tab or another control character is not escaped.", '{"text": "a\tb"}', r'{"text": "a\tb"}'
    ),
    "DATASET_NUL": Example("The row holds NUL bytes.", b'{"text": "a\x00"}', '{"text": "a"}'),
    "DATASET_INVISIBLE_CHARACTER": Example(
        "An invisible character, such as a byte order mark, stands between values.", f"{_ROW}\n\ufeff{_ROW}", f"{_ROW}\n{_ROW}"
    ),
    "DATASET_NUMBER": Example(
        "A number is NaN or Infinity, has more than 19 digits, or is too large.",
        _row(_USER, _ANSWER, more=', "score": NaN'),
        _row(_USER, _ANSWER, more=', "score": null'),
    ),
    "DATASET_DUPLICATE_KEY": Example("An object has the same key twice.", '{"text": "a", "text": "b"}', '{"text": "b"}'),
    "DATASET_LONE_SURROGATE": Example(
        "Text was cut in the middle of a character.", r'{"text": "\ud83d"}', r'{"text": "\ud83d\ude00"}'
    ),
    "DATASET_LINE_TOO_LONG": Example("A row is longer than 8 MiB."),
    "DATASET_TOO_DEEP": Example("A row nests deeper than 32 levels.", '{"text": ' + "[" * 40 + "]" * 40 + "}", '{"text": "a"}'),
    # Rows of another shape.
    "DATASET_NOT_OBJECT": Example("A row is a text, a number or a list.", f"[[{_USER}, {_ANSWER}]]", f"[{_ROW}]"),
    "DATASET_FORMAT_OTHER": Example(
        "The row is of another well-known layout: Alpaca, ShareGPT, prompt/completion, chosen/rejected.",
        '{"instruction": "Is it open?", "input": "", "output": "Yes."}',
        _ROW,
    ),
    "DATASET_FORMAT_MIXED": Example(
        "Every row of a file is of one format; the first good row decides.", _ROW + '\n{"text": "Tea"}', f"{_ROW}\n{_ROW}"
    ),
    "DATASET_WRAPPED": Example("One big object holds all the rows.", f'{{"data": [{_ROW}]}}', _ROW),
    "DATASET_KEY_UNKNOWN": Example(
        "A key is unknown and would train nothing; in a row only what looks like a misspelling is refused.",
        _answer('"content": "Yes.", "wieght": 0'),
        _answer('"content": "Yes.", "weight": 1'),
    ),
    "DATASET_MESSAGES_MISSING": Example(
        'The row has no "messages", or they are no list, or an empty one.', '{"messages": []}', _ROW
    ),
    "DATASET_MESSAGE_MALFORMED": Example(
        "A message is no object, or lacks its role or content.", _row('"Is it open?"', _ANSWER), _ROW
    ),
    "DATASET_ROLE_UNKNOWN": Example(
        "A role is none of system, developer, user, assistant and tool.", _row(_USER, _ANSWER.replace("assistant", "bot")), _ROW
    ),
    "DATASET_CONTENT_INVALID": Example(
        "A content is neither a text nor a list of text parts, or an answer has neither content nor tool calls.",
        _answer('"content": ""'),
        _ROW,
    ),
    "DATASET_CONTENT_PART": Example(
        "A content part is not text; images, audio and files cannot be trained.",
        _row('{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}', _ANSWER),
        _row('{"role": "user", "content": [{"type": "text", "text": "Is it open?"}]}', _ANSWER),
    ),
    "DATASET_WEIGHT": Example("A weight is neither 0 nor 1.", _answer('"content": "Yes.", "weight": 0.5'), _ROW),
    "DATASET_NO_ASSISTANT": Example("A row has no message of the assistant.", _row(_USER), _ROW),
    "DATASET_NOTHING_TO_LEARN": Example(
        "Every assistant message of a row has weight 0.", _answer('"content": "Yes.", "weight": 0'), _ROW
    ),
    "DATASET_BEGINS_WITH_ASSISTANT": Example(
        "A row begins with an answer that should be learned, though nothing was asked.", _row(_ANSWER, _USER), _ROW
    ),
    "DATASET_TOOL_CALL_INVALID": Example(
        "A tool call is malformed; often its arguments are an object and not the text of one.",
        _row(_USER, _CALLED.replace('"{}"', "{}")),
        _row(_USER, _CALLED, _REPLY, _ANSWER),
    ),
    "DATASET_TOOL_MESSAGE": Example(
        "A tool message answers no earlier call of its row.",
        _row(_USER, _CALLED, _REPLY.replace("c1", "c2"), _ANSWER),
        _row(_USER, _CALLED, _REPLY, _ANSWER),
    ),
    "DATASET_TOOLS_INVALID": Example(
        "A declared tool is malformed.",
        _row(_USER, _ANSWER, more=', "tools": [{"name": "hours"}]'),
        _row(_USER, _ANSWER, more=f', "tools": [{_TOOL}]'),
    ),
    "DATASET_FUNCTION_CALL": Example(
        'The row has "function_call" or role function, which "tool_calls" and role tool have replaced.',
        _answer('"content": null, "function_call": {"name": "hours", "arguments": "{}"}'),
        _row(_USER, _CALLED, _REPLY, _ANSWER),
    ),
    "DATASET_PREFERENCE": Example(
        "A preference row lacks a part, or an output is not exactly one answer.", _preference("[]", f"[{_ANSWER}]"), _PAIR
    ),
    "DATASET_PREFERENCE_EQUAL": Example("Both outputs are equal.", _preference(f"[{_ANSWER}]", f"[{_ANSWER}]"), _PAIR),
    "DATASET_TEXT": Example("A text is missing, empty, or not a text.", '{"text": " "}', '{"text": "Tea"}'),
    "DATASET_LABEL": Example(
        "A label is neither a text of 1 to 200 characters nor an integer.",
        _row(_USER, more=', "label": null'),
        _row(_USER, more=', "label": "hours"'),
    ),
    # Warnings.
    "DATASET_FEW_EXAMPLES": Example("There are fewer than 10 rows. The dataset is stored all the same."),
    "DATASET_DUPLICATES": Example("Rows equal an earlier row, whatever their layout. The dataset is stored all the same."),
    "DATASET_NEAR_DUPLICATES": Example(
        "Rows equal an earlier row but for the case of ASCII letters, digits, ASCII punctuation and white space. The dataset is "
        "stored all the same."
    ),
    "DATASET_DUPLICATES_UNKNOWN": Example("There are more rows than the 8,388,608 that are compared with each other."),
    "DATASET_WITHOUT_SYSTEM": Example("Rows have no system or developer message. The dataset is stored all the same."),
    "DATASET_LAST_NOT_ASSISTANT": Example(
        "Rows end with a message that is not the assistant's; what follows the last answer trains nothing."
    ),
    "DATASET_EMPTY_CONTENT": Example("Messages say nothing, or hold nothing but white space."),
    "DATASET_LABELS_IMBALANCED": Example("The most frequent label has at least ten times the rows of the rarest."),
    "DATASET_KEYS_IGNORED": Example("Rows have keys, such as an id, that train nothing."),
    # What the services say of datasets.
    "DATASET_NOT_FOUND": Example("There is no dataset of that name; it may have been deleted."),
    "DATASET_IN_USE": Example("A live task needs the dataset, so it cannot be deleted."),
    "DATASET_INVALID": Example(
        "Rows of the file are bad; the violations name each with its own reason.", '{"messages": []}', _ROW
    ),
    "DATASET_UNUSABLE": Example("A row that was stored cannot be rendered for the chosen base model."),
}
