"""Training data as people give it: a dataset's ID or a file, with a weight in a mixture; used by `task create` and `preview`."""

import math
from pathlib import Path

import typer

_SUFFIXES = (".jsonl", ".json", ".txt", ".csv", ".parquet")


def looks_like_file(given: str) -> bool:
    """It is a file, or was meant to be one; anything else is the name of a dataset."""
    path = Path(given)
    return path.is_file() or path.suffix in _SUFFIXES or given.startswith((".", "/", "~"))


def split_weight(given: str) -> tuple[str, float | None]:
    """`ID:2` as (`ID`, 2.0); without a weight None."""
    data, colon, weight = given.rpartition(":")
    if not colon or Path(given).is_file():
        return given, None
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not data or not 0 < number <= 100:
        raise typer.BadParameter(f"{given!r}: a weight is a number above 0, at most 100: ID:0.5", param_hint="--data")
    return data, number
