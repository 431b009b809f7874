"""Smaller micro-batches for a run that ran out of memory, at the same global batch; used by the supervisor.

The cut lies beside the checkpoints and is inherited with them: a run that continues cuts as before, so its numbers stay the same.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from services.trainer.training.batch_cut import fitting, path_beside


def cut(config: pathlib.Path) -> Mapping[str, int] | None:
    """Writes and returns the next smaller sizes by name; None when single rows are the batch already, or the run has no batches.

    Raises OSError.
    """
    if (asked := json.loads(config.read_text()).get("hyperparameters")) is None:
        return None
    before = fitting(config, asked)
    smaller = halved(asked | before)
    if smaller is None and not before and asked["gradient_accumulation_steps"] > 1:
        # What ran out were several passes put together; that somebody has cut keeps them apart.
        smaller = {name: asked[name] for name in ("per_device_train_batch_size", "gradient_accumulation_steps")}
    if smaller is not None:
        path = path_beside(config)
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_name(f".{path.name}.part")
        scratch.write_text(json.dumps(smaller))
        scratch.replace(path)
    return smaller


def halved(numbers: Mapping[str, Any]) -> dict[str, int] | None:
    """At most half the rows in a forward pass and as many more passes; the largest size that divides a process' share."""
    size = numbers["per_device_train_batch_size"]
    share = size * numbers["gradient_accumulation_steps"]
    smaller = next((part for part in range(size // 2, 0, -1) if share % part == 0), None)
    if smaller is None:
        return None
    return {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": share // smaller}


def least(config: pathlib.Path) -> str:
    """What a run that has no memory left was doing, as the rest of a sentence."""
    has_batches = json.loads(config.read_text()).get("hyperparameters") is not None
    return ", with one row in a forward pass" if has_batches else ""


def hint(config: pathlib.Path, longest_row: str) -> str:
    """What helps when single rows are too much; `longest_row` in tokens, empty = not known."""
    if (numbers := json.loads(config.read_text()).get("hyperparameters")) is None:
        return "Use a machine with more memory."
    limit = numbers["max_seq_length"]
    tokens = min(int(longest_row or limit), limit)
    known = f" (the longest row has {tokens:,} tokens)" if longest_row else ""
    return f"Set max_seq_length to {max(8, tokens // 2)} or less{known}, or use a machine with more memory."
