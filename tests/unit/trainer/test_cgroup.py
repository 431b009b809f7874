"""A run's own control group: made below the present one, left at the end, and nothing where the system has none."""

import os
from pathlib import Path

import pytest

from services.trainer import cgroup

PID = os.getpid()


class Groups:
    """A directory that looks like cgroup v2; what is written to `cgroup.procs` is a list of moves."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str = "cgroup2", present: str = "/own") -> None:
        self.root = root / "unified"
        (self.root / "own").mkdir(parents=True)
        self.mounts, self.membership = root / "mounts", root / "cgroup"
        self.mounts.write_text(f"proc /proc proc rw 0 0\n{kind} {self.root} {kind} rw 0 0\n")
        self.membership.write_text(f"4:memory:/elsewhere\n0::{present}\n")
        monkeypatch.setattr(cgroup, "_MOUNTS", self.mounts)
        monkeypatch.setattr(cgroup, "_MEMBERSHIP", self.membership)

    def procs(self, name: str = "") -> Path:
        return self.root / "own" / name / "cgroup.procs"


def test_the_group_is_made_below_the_present_one_and_left_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, moves = Groups(tmp_path, monkeypatch), []
    monkeypatch.setattr(cgroup, "_moved", lambda group, pids: moves.append((group, list(pids))) or True)
    expected = groups.root / "own" / "tunesmith-run"
    with cgroup.own_group("run", [12, 13]) as group:
        assert (group, expected.is_dir()) == (expected, True)
        assert moves == [(expected, [PID, 12, 13])]
    assert moves[1:] == [(groups.root / "own", [PID])]
    assert not expected.exists()


def test_processes_are_moved_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = [], Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, text: written.append((path.name, text)) or write(path, text))
    assert cgroup._moved(tmp_path, [7, 8])
    assert written == [("cgroup.procs", "7"), ("cgroup.procs", "8")]


@pytest.mark.parametrize("present", ["", "0::/own is not the form", "3:cpu:/own"])
def test_without_a_group_of_this_process_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: str) -> None:
    groups = Groups(tmp_path, monkeypatch)
    groups.membership.write_text(present.replace("0::/own is not the form", "1:name=systemd:/own") + "\n")
    with cgroup.own_group("run", []) as group:
        assert group is None
    assert [path.name for path in (groups.root / "own").iterdir()] == []


@pytest.mark.parametrize("lacks", ["mount", "table", "right", "move"])
def test_where_the_system_has_none_a_run_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    groups = Groups(tmp_path, monkeypatch, kind="cgroup" if lacks == "mount" else "cgroup2")
    if lacks == "table":
        groups.mounts.unlink()
    if lacks == "right":
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    if lacks == "move":
        monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(PermissionError()))
    with cgroup.own_group("run", []) as group:
        assert group is None
    assert not (groups.root / "own" / "tunesmith-run").exists()


def test_who_could_not_take_all_along_goes_back_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, moves = Groups(tmp_path, monkeypatch), []
    own, parent = groups.root / "own" / "tunesmith-run", groups.root / "own"
    monkeypatch.setattr(cgroup, "_moved", lambda group, pids: moves.append((group, list(pids))) or group == parent)
    with cgroup.own_group("run", [12]) as group:
        assert group is None
    assert moves == [(own, [PID, 12]), (parent, [PID])]
    assert (own.exists(), parent.exists()) == (False, True)


def test_a_process_that_is_gone_meanwhile_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: Path, text: str) -> int:
        if text == "12":
            raise ProcessLookupError
        return len(text)

    monkeypatch.setattr(Path, "write_text", write)
    assert cgroup._moved(tmp_path, [12, 13])


def test_members_are_the_numbers_in_it(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("7\n12\n")
    assert cgroup.members(tmp_path) == {7, 12}
    assert cgroup.members(tmp_path / "gone") == cgroup.members(None) == set()


def test_ending_kills_and_ending_nothing_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "cgroup.kill").write_text("")
    cgroup.end(tmp_path)
    assert (tmp_path / "cgroup.kill").read_text() == "1"
    cgroup.end(tmp_path / "gone")
    cgroup.end(None)
