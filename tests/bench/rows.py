"""Rows for measurements: chat rows of about a given size, always the same for the same seed."""

import json
import random
from collections.abc import Iterator

ASCII = [
    "please",
    "tell",
    "me",
    "about",
    "the",
    "weather",
    "tomorrow",
    "in",
    "alpha",
    "beta",
    "gamma",
    "delta",
    "kettle",
    "answer",
    "question",
]
WIDE = ["größe", "äpfel", "日本語", "привет", "naïve", "мир", "你好", "später", "fähig", "tell", "me", "please"]


def chat_rows(size: int, words: list[str], *, count: int = 5000, ascii_only: bool = False) -> list[bytes]:
    """Different rows of about `size` bytes each, one line each without its end."""
    chance = random.Random(size)
    rows = []
    for number in range(count):
        messages = [{"role": role, "content": _text(chance, words, size // 3 - 30)} for role in ("system", "user", "assistant")]
        messages[2]["content"] += f'\n"{number}"'
        rows.append(json.dumps({"messages": messages}, ensure_ascii=ascii_only).encode())
    return rows


def with_parts(row: bytes) -> bytes:
    """The same row, the contents of all messages but the last as lists of one part."""
    messages = json.loads(row)["messages"]
    for message in messages[:-1]:
        message["content"] = [{"type": "text", "text": message["content"]}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode()


def tool_rows(size: int, words: list[str], *, count: int = 3000) -> list[bytes]:
    """The same for rows with two tools, a call, and its answer."""
    chance = random.Random(size)
    rows = []
    for number in range(count):
        asked, found, answer = (_text(chance, words, max(size - 1000, 30) // 3) for _ in range(3))
        function = {"name": "weather", "arguments": '{"place": "Rome", "day": "today"}'}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": found},
            {"role": "assistant", "content": f'{answer}\n"{number}"'},
        ]
        # The number stands in the last text of the row, as `lines` wants it.
        rows.append(json.dumps({"tools": [_tool("weather"), _tool("forecast")], "messages": messages}).encode())
    return rows


def _tool(name: str) -> dict[str, object]:
    day = {"type": "string", "enum": ["today", "tomorrow"]}
    properties = {"place": {"type": "string", "description": "A town"}, "day": day}
    parameters = {"type": "object", "properties": properties, "required": ["place"]}
    return {"type": "function", "function": {"name": name, "description": "Tells the weather.", "parameters": parameters}}


def lines(rows: list[bytes], size_bytes: int) -> Iterator[bytes]:
    """About `size_bytes` of JSON lines; a number in each row makes it different from all others."""
    chance = random.Random(1)
    made = number = 0
    while made < size_bytes:
        block = []
        for _ in range(1000):
            number += 1
            head, _, tail = chance.choice(rows).rpartition(b'\\"')
            block.append(head + b" " + _letters(number) + b'\\"' + tail + b"\n")
        content = b"".join(block)
        made += len(content)
        yield content


def _letters(number: int) -> bytes:
    # Digits do not make rows different in the eyes of near duplicates.
    return bytes(97 + int(digit) for digit in str(number))


def _text(chance: random.Random, words: list[str], size: int) -> str:
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(chance.choice(words))
        length += len(parts[-1].encode()) + 1
    return " ".join(parts)
