"""How much memory runs can have, on a machine and in a container that is limited."""

import os
import pathlib

import pytest

from services.common import memory
from services.common.memory import Memory

KIB = 1024


@pytest.fixture
def meminfo(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  8000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB\nHugePages_Total: 0\n")
    return path


def group(directory: pathlib.Path, limit: str, used: int, cached: int = 0) -> pathlib.Path:
    found = directory / "group"
    found.mkdir()
    for name, text in {"max": limit, "current": str(used), "stat": f"anon 1\ninactive_file {cached}"}.items():
        (found / f"memory.{name}").write_text(text + "\n")
    return found


def test_this_machine_has_what_its_kernel_says() -> None:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = memory.read(group=pathlib.Path("/nowhere"))
    assert found.total == pytest.approx(pages, rel=0.01)
    assert 0 < found.available <= found.total


def test_a_machine_without_a_limit(meminfo: pathlib.Path, tmp_path: pathlib.Path) -> None:
    expected = Memory(8000 * KIB, 5000 * KIB)
    assert memory.read(meminfo, tmp_path / "none") == expected
    assert memory.read(meminfo, group(tmp_path, "max", 1)) == expected


@pytest.mark.parametrize(
    ("limit", "used", "cached", "total", "available"),
    [(4000, 1000, 0, 4000, 3000), (4000, 3900, 500, 4000, 600), (7000, 0, 0, 7000, 5000), (9000, 0, 0, 8000, 5000)],
    ids=["limited", "caches", "the machine has less", "more than the machine"],
)
def test_a_container_has_its_limit(
    meminfo: pathlib.Path, tmp_path: pathlib.Path, limit: int, used: int, cached: int, total: int, available: int
) -> None:
    found = memory.read(meminfo, group(tmp_path, str(limit * KIB), used * KIB, cached * KIB))
    assert found == Memory(total * KIB, available * KIB)


@pytest.mark.parametrize(
    ("limit", "used", "cached", "expected"),
    [
        ("max", 1, 0, Memory(8000 * KIB, 5000 * KIB)),
        (str(2**63 - 4096), 1, 0, Memory(8000 * KIB, 5000 * KIB)),
        ("500000", 100_000, 0, Memory(500_000, 400_000)),
        ("500000", 450_000, 50_000, Memory(500_000, 100_000)),
    ],
    ids=["a word", "no limit", "limited", "caches"],
)
def test_a_container_of_the_first_kind_has_its_limit_too(
    meminfo: pathlib.Path, tmp_path: pathlib.Path, limit: str, used: int, cached: int, expected: Memory
) -> None:
    (tmp_path / "memory").mkdir()
    texts = {"limit_in_bytes": limit, "usage_in_bytes": str(used), "stat": f"cache 1\ntotal_inactive_file {cached}"}
    for name, text in texts.items():
        (tmp_path / "memory" / f"memory.{name}").write_text(text + "\n")
    assert memory.read(meminfo, tmp_path) == expected


def test_a_container_over_its_limit_has_next_to_nothing_which_is_not_unknown(
    meminfo: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert memory.read(meminfo, group(tmp_path, "4096", 5000)) == Memory(4096, 1)


@pytest.mark.parametrize("text", [None, "", "MemTotal\n", "MemTotal: many kB\n"], ids=["none", "empty", "short", "words"])
def test_what_cannot_be_read_is_not_known(tmp_path: pathlib.Path, text: str | None) -> None:
    path = tmp_path / "meminfo"
    if text is not None:
        path.write_text(text)
    assert memory.read(path, group(tmp_path, "4096", 5)) == Memory(0, 0)
