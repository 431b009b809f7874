"""Stand-in until the renderer takes rows."""

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.rendering import Rendered, Renderer


def render_row(renderer: Renderer, row: Mapping[str, Any]) -> tuple[Rendered, ...]:
    if "text" in row:
        encoding = renderer._tokenizer.encode(row["text"], add_special_tokens=False)
        return (Rendered(row["text"], list(encoding.ids), [True] * len(encoding.ids), list(encoding.offsets)),)
    if "input" in row:
        start = list(row["input"]["messages"])
        context = [{**message, "weight": 0} for message in start]
        return tuple(renderer.render([*context, *row[side]]) for side in ("preferred_output", "non_preferred_output"))
    return (renderer.render(row["messages"]),)


def digest(renderings: Sequence[Rendered]) -> str:
    total = hashlib.sha256()
    for rendered in renderings:
        for token, trained in zip(rendered.token_ids, rendered.loss_mask, strict=True):
            total.update(array("i", [token]).tobytes() + bytes([trained]))
    return total.hexdigest()
