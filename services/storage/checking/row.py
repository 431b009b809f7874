"""One row of any format: the definition of a good row, used for rows the fast path is in doubt about and for the bad ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from services.storage.checking import suggestion
from services.storage.checking.doubt import require
from services.storage.checking.example import ASSISTANT, SILENT, TURN_SEPARATOR, Example, Format
from services.storage.checking.json_text import parse
from services.storage.checking.messages import Turn, check_learnable, read_message, read_messages
from services.storage.checking.problem import RowProblem
from services.storage.checking.quoting import kind, quoted
from services.storage.checking.tools import declared_tools

MAX_LABEL_LENGTH = 200
_ROW_KEYS = {
    Format.CHAT: ("messages", "tools", "parallel_tool_calls"),
    Format.LABELED: ("messages", "label"),
    Format.PREFERENCE: ("input", "preferred_output", "non_preferred_output"),
    Format.TEXT: ("text",),
}
_SHORT = {
    Format.CHAT: "chat (messages)",
    Format.LABELED: "labeled (messages and label)",
    Format.PREFERENCE: "preference (input, preferred_output, non_preferred_output)",
    Format.TEXT: "text",
}


def read_row(row: bytes, expected: Format | None) -> Example:
    """A row that is not blank. `expected` is the format of the rows before; None = this is the first.

    Raises RowProblem.
    """
    return read_value(parse(row), expected)


def read_value(value: Any, expected: Format | None) -> Example:
    """The same of the value of a row, as `parse` gives it."""
    if not isinstance(value, dict):
        raise RowProblem("DATASET_NOT_OBJECT", "", f"the row is {kind(value)}, not an object")
    found = _format(value)
    if expected not in (None, found):
        message = f"the row is of format {_SHORT[found]}, the rows before are of format {_SHORT[expected]}"
        raise RowProblem("DATASET_FORMAT_MIXED", "", message)
    _check_parallel(value, "parallel_tool_calls")
    return _READERS[found](value, _ignored(value, found))


def ignored_in(rows: Sequence[dict[str, Any]], expected: Format) -> list[tuple[str, ...]]:
    """The keys of each row that nothing here knows, sorted.

    Raises Doubt or RowProblem unless the keys of all rows are those of the format.
    """
    layouts = list(map(tuple, rows))
    ignored: dict[tuple[str, ...], tuple[str, ...]] = {}
    for keys in set(layouts):
        require(_format(dict.fromkeys(keys)) is expected)
        ignored[keys] = _ignored(keys, expected)
    return [ignored[keys] for keys in layouts]


def has_format(ignored: Sequence[str], expected: Format) -> bool:
    """Whether a row is of this format that has the keys of the format, and also these, which nothing here knows."""
    try:
        return _format(dict.fromkeys([*_ROW_KEYS[expected], *ignored])) is expected
    except RowProblem:
        return False


def _format(row: Mapping[str, Any]) -> Format:
    """What a row is, by its keys alone; raises RowProblem when it is nothing we know."""
    if "messages" in row:
        return Format.LABELED if "label" in row else Format.CHAT
    if "preferred_output" in row or "non_preferred_output" in row:
        return Format.PREFERENCE
    if layout := suggestion.other_layout(row):
        name, option = layout
        command = f"Convert it: tunesmith data convert FILE --from {option}"
        raise RowProblem("DATASET_FORMAT_OTHER", "", f"the row is of the {name} layout, not OpenAI's", hint=command)
    if "text" in row:
        return Format.TEXT
    if wrapper := suggestion.wrapper(row):
        message = f"one object holds all the rows under {quoted(wrapper)}"
        raise RowProblem("DATASET_WRAPPED", wrapper, message, hint=f"Take the rows out: jq -c '.{wrapper}[]' FILE > FILE.jsonl")
    meant = next((key for key in row if suggestion.closest(key, ("messages",))), None)
    said = f"did you mean it by {quoted(meant)}?" if meant else suggestion.having(list(row))
    raise RowProblem("DATASET_MESSAGES_MISSING", "messages", f'"messages" is missing; {said}')


def _ignored(row: Iterable[str], found: Format) -> tuple[str, ...]:
    """Keys that nothing here knows, sorted; raises RowProblem when one is probably a misspelling."""
    known = _ROW_KEYS[found]
    ignored = [key for key in row if key not in known]
    for key in ignored:
        if suggestion.closest(key, known):
            raise RowProblem("DATASET_KEY_UNKNOWN", "", suggestion.for_unknown_key(key, known))
    return tuple(sorted(ignored))


def _chat(row: dict[str, Any], ignored: tuple[str, ...]) -> Example:
    turns = read_messages(row["messages"], "messages")
    check_learnable(turns, "messages")
    return _example(Format.CHAT, turns, ending=turns[-1].content, tools=_tools(row, "tools"), ignored=ignored)


def _labeled(row: dict[str, Any], ignored: tuple[str, ...]) -> Example:
    turns = read_messages(row["messages"], "messages")
    # The model learns the label; what the assistant says is only given.
    return _example(Format.LABELED, turns, ending=_label(row["label"]), ignored=ignored, learned=())


def _label(label: Any) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    if not isinstance(label, str):
        raise RowProblem("DATASET_LABEL", "label", f"is {kind(label)}, neither a text nor an integer")
    if not label.strip() or len(label) > MAX_LABEL_LENGTH or "\0" in label:
        length = f"has {len(label)} characters, {quoted(label)}" if label.strip() else "is empty"
        raise RowProblem("DATASET_LABEL", "label", "holds a NUL character" if "\0" in label else length)
    return label


def _text(row: dict[str, Any], ignored: tuple[str, ...]) -> Example:
    text = row["text"]
    if not isinstance(text, str):
        raise RowProblem("DATASET_TEXT", "text", f"is {kind(text)}, not a text")
    if not text.strip():
        raise RowProblem("DATASET_TEXT", "text", "is empty" if not text else "holds nothing but white space")
    return Example(Format.TEXT, (), text, learned_characters=len(text), ignored_keys=ignored)


def _preference(row: dict[str, Any], ignored: tuple[str, ...]) -> Example:
    given = row.get("input")
    if not isinstance(given, dict) or "messages" not in given:
        why = f'{kind(given)}, not {{"messages": […]}}' if not isinstance(given, dict) else 'without "messages"'
        raise RowProblem("DATASET_PREFERENCE", "input", "is missing" if "input" not in row else f"is {why}")
    _check_parallel(given, "input.parallel_tool_calls")
    asked = read_messages(given["messages"], "input.messages")
    if asked[0].kind in (ASSISTANT, SILENT):
        message = "the conversation begins with the assistant, so there is nothing the model could answer to"
        raise RowProblem("DATASET_BEGINS_WITH_ASSISTANT", "input.messages[0].role", message)
    calls = {call_id for turn in asked for call_id in turn.call_ids}
    outputs = [_output(row, key, calls) for key in ("preferred_output", "non_preferred_output")]
    if outputs[0].text == outputs[1].text:
        message = "both outputs are equal, so there is nothing to prefer"
        raise RowProblem("DATASET_PREFERENCE_EQUAL", "non_preferred_output", message)
    return _example(Format.PREFERENCE, [*asked, *outputs], tools=_tools(given, "input.tools"), ignored=ignored, learned=outputs)


def _output(row: dict[str, Any], key: str, calls: set[str]) -> Turn:
    output = row.get(key)
    if not isinstance(output, list) or len(output) != 1:
        why = f"is {kind(output)}, not a list" if not isinstance(output, list) else f"holds {len(output)} messages, not one"
        raise RowProblem("DATASET_PREFERENCE", key, "is missing" if key not in row else why)
    turn = read_message(output[0], f"{key}[0]", calls)
    if turn.kind != ASSISTANT:
        raise RowProblem("DATASET_PREFERENCE", f"{key}[0]", f"is of the {turn.kind}; an output is the assistant's, of weight 1")
    return turn


def _tools(holder: dict[str, Any], path: str) -> str:
    if holder.get("tools") is None:
        return ""
    return declared_tools(holder["tools"], path)


def _check_parallel(holder: dict[str, Any], path: str) -> None:
    value = holder.get("parallel_tool_calls")
    if value is not None and not isinstance(value, bool):
        raise RowProblem("DATASET_TOOLS_INVALID", path, f"is {kind(value)}, neither true nor false")


def _example(
    found: Format,
    turns: Sequence[Turn],
    *,
    ending: str = "",
    tools: str = "",
    ignored: tuple[str, ...] = (),
    learned: Sequence[Turn] | None = None,
) -> Example:
    parts = [turn.text for turn in turns]
    if tools:
        parts.append(tools)
    if found is Format.LABELED:
        parts.append(ending)
    return Example(
        found,
        tuple([turn.kind for turn in turns]),
        TURN_SEPARATOR.join(parts),
        ending,
        sum([turn.empty for turn in turns]),
        sum([len(t.content) + len(t.calls) for t in (turns if learned is None else learned) if t.kind == ASSISTANT]),
        bool(tools) or any(turn.calls for turn in turns),
        ignored,
    )


_READERS: dict[Format, Callable[[dict[str, Any], tuple[str, ...]], Example]] = {
    Format.CHAT: _chat,
    Format.LABELED: _labeled,
    Format.TEXT: _text,
    Format.PREFERENCE: _preference,
}
