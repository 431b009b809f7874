"""Fails when tunesmith/v1 is not what the protos generate; `make lint` runs it."""

import filecmp
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "protos"))

from generate import generate  # noqa: E402  # protos/ is not a package


def stale_stubs(committed: pathlib.Path) -> list[str]:
    """Names of stubs that are missing, changed or no longer generated in `committed`."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(pathlib.Path(scratch))
        fresh = pathlib.Path(scratch) / "tunesmith" / "v1"
        expected = {file.name for file in fresh.iterdir()}
        found = {file.name for file in committed.glob("*_pb2*")}
        changed = {name for name in expected & found if not filecmp.cmp(fresh / name, committed / name, shallow=False)}
        return sorted(expected ^ found | changed)


if __name__ == "__main__":
    stale = stale_stubs(ROOT / "tunesmith" / "v1")
    if stale:
        sys.exit(f"stale stubs, run `make protos`: {', '.join(stale)}")
