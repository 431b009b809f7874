"""Rows of a dataset to renderings, and the fingerprint of what they became; used by validation, plans, training and preview.

Rows are objects as the dataset check lets them through; their shape tells their format, see Dataset.Format.
"""

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.rendering.conversation import Message
from services.common.rendering.renderer import Rendered, Renderer


def render_row(renderer: Renderer, row: Mapping[str, Any]) -> tuple[Rendered, ...]:
    """What the model is trained on for one row, uncut. Raises RenderError.

    CHAT: the conversation. TEXT: the text, all of it with loss. PREFERENCE: input and preferred output, then input and other
    output, loss on the last answer only. LABELED: the conversation as a prompt, without loss; the label is for who classifies.
    """
    # In this order: a row may have keys of its own beside those of its format, also such that are called like those of another.
    if "messages" in row:
        tools = row.get("tools")
        render = renderer.render_prompt if "label" in row else renderer.render
        return (render(row["messages"], tools),)
    if "preferred_output" in row:
        given = row["input"]
        tools = given.get("tools") or row.get("tools")
        return tuple(
            renderer.render(_last_answer_only([*given["messages"], *row[output]]), tools)
            for output in ("preferred_output", "non_preferred_output")
        )
    return (renderer.render_text(row["text"]),)


def digest(renderings: Sequence[Rendered]) -> str:
    """SHA-256, lower-case hexadecimal, over all tokens: 4 bytes of id, little-endian, then 1 byte that is 1 with loss."""
    total = hashlib.sha256()
    for rendered in renderings:
        packed = bytearray(5 * len(rendered.token_ids))
        ids = array("I", rendered.token_ids)
        if sys.byteorder == "big":
            ids.byteswap()
        bytes_of_ids = ids.tobytes()
        for place in range(4):
            packed[place::5] = bytes_of_ids[place::4]
        packed[4::5] = bytes(rendered.loss_mask)
        total.update(packed)
    return total.hexdigest()


def _last_answer_only(messages: Sequence[Message]) -> list[Message]:
    last = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return [message if index == last else {**message, "weight": 0} for index, message in enumerate(messages)]
