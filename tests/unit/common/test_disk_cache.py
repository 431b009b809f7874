"""What is fetched stays within a size, and what somebody uses stays whatever the size."""

import os
from pathlib import Path

import pytest

from services.common.disk_cache import IN_USE_SECONDS, DiskCache

HOUR, DAY = 3600.0, 86400.0
KIB = 1024


class Times:
    """A clock; a directory made now is as old as the clock says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0


@pytest.fixture
def times() -> Times:
    return Times()


def made(root: Path, name: str, times: Times, *, kib: int = 10, age: float = 2 * HOUR) -> Path:
    directory = root / name
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "weights").write_bytes(b"w" * (kib * KIB))
    os.utime(directory, (times.now - age, times.now - age))
    return directory


def cache(root: Path, times: Times, kib: int) -> DiskCache:
    return DiskCache(root, kib * KIB, now=lambda: times.now)


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


@pytest.mark.parametrize(("kib", "stay"), [(40, "abcd"), (30, "acd"), (29, "ad"), (10, "d"), (9, "")])
def test_what_was_used_longest_ago_makes_room(tmp_path: Path, times: Times, kib: int, stay: str) -> None:
    for name, hours in {"a": 4, "b": 9, "c": 8, "d": 2}.items():
        made(tmp_path, name, times, age=hours * HOUR)
    cache(tmp_path, times, kib).trim()
    assert left(tmp_path) == list(stay)


def test_without_a_limit_everything_stays(tmp_path: Path, times: Times) -> None:
    made(tmp_path, "a", times, age=100 * DAY)
    cache(tmp_path, times, 0).trim()
    assert left(tmp_path) == ["a"]


def test_what_is_in_use_stays_though_it_is_too_much(tmp_path: Path, times: Times) -> None:
    for name in "abc":
        made(tmp_path, name, times)
    own = cache(tmp_path, times, 1)
    assert own.use("a")
    own.keep([tmp_path / "c" / "sub", tmp_path / "gone", "/elsewhere/b", tmp_path])
    own.trim()
    assert left(tmp_path) == ["a", "c"]
    times.now += IN_USE_SECONDS - 1
    own.trim()
    assert left(tmp_path) == ["a", "c"]
    times.now += 2
    own.trim()
    assert left(tmp_path) == []


def test_what_is_not_there_is_not_in_use(tmp_path: Path, times: Times) -> None:
    own = cache(tmp_path / "new", times, 1)
    assert not own.use("a")
    own.keep([tmp_path / "new" / "a"])
    own.trim()
    assert left(tmp_path / "new") == []


def test_a_directory_of_the_same_name_elsewhere_is_another_one(tmp_path: Path, times: Times) -> None:
    made(tmp_path / "root", "a", times)
    made(tmp_path / "other", "a", times)
    own = cache(tmp_path / "root", times, 1)
    own.keep([tmp_path / "other" / "a"])
    own.trim()
    assert left(tmp_path / "root") == []
    assert left(tmp_path / "other") == ["a"]


def test_what_processes_that_died_were_making_goes_after_a_day(tmp_path: Path, times: Times) -> None:
    made(tmp_path, ".a.0123", times, age=DAY - 1)
    made(tmp_path, ".b.4567", times, age=DAY + 1)
    cache(tmp_path, times, 100).trim()
    assert left(tmp_path) == [".a.0123"]


def test_a_size_is_that_of_all_files(tmp_path: Path, times: Times) -> None:
    (made(tmp_path, "a", times) / "more").write_bytes(b"m" * (10 * KIB))
    os.utime(tmp_path / "a", (times.now - 2 * HOUR,) * 2)
    cache(tmp_path, times, 20).trim()
    assert left(tmp_path) == ["a"]
    cache(tmp_path, times, 19).trim()
    assert left(tmp_path) == []


def test_two_processes_share_a_root(tmp_path: Path, times: Times) -> None:
    for name in "ab":
        made(tmp_path, name, times)
    one, other = cache(tmp_path, times, 1), cache(tmp_path, times, 1)
    one.use("a")
    other.trim()
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("refused", ["open", "rename"])
def test_what_the_disk_refuses_ends_nobody(tmp_path: Path, times: Times, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    made(tmp_path, "a", times)
    own = cache(tmp_path, times, 1)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    with monkeypatch.context() as patched:
        patched.setattr(Path, refused, fail)
        own.trim()
        own.keep([tmp_path / "gone"])
        assert left(tmp_path) == ["a"]
    own.trim()
    assert left(tmp_path) == []
