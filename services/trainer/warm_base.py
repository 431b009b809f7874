"""Which base model a process that waits reads beforehand: that of the newest run, if it is small; used by `__main__`."""

import pathlib
from collections.abc import Iterable

from services.trainer.run_directory import RunDirectory


def likely_base(newest_first: Iterable[RunDirectory], most_bytes: int) -> pathlib.Path | None:
    """Its directory; None = there is none, it is gone, or its files have more than `most_bytes`."""
    try:
        directory = next(filter(None, (run.base_model() for run in newest_first)), None)
        if directory is None or not directory.is_dir():
            return None
        size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
    except OSError:
        # Runs and fetched models are removed at any moment.
        return None
    return directory if size <= most_bytes else None
