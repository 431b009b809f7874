"""Failpoints do what they are told and nothing else; every one that is named is placed, and every one that is placed is named."""

import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.common import failpoints
from services.common.failpoints import POINTS, Failed, arm, around, failpoint, watch

NAME = "start_run.before"
SERVICES = pathlib.Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_nothing_happens_unless_it_is_asked_for() -> None:
    for name in POINTS:
        failpoint(name)
    arm(f"{NAME}=raise")
    failpoint("start_run.after")


def test_it_raises() -> None:
    arm(f"{NAME}=raise")
    for _ in range(2):
        with pytest.raises(Failed, match=NAME):
            failpoint(NAME)


def test_it_acts_in_one_hit_alone() -> None:
    arm(f"{NAME}=raise@2")
    failpoint(NAME)
    with pytest.raises(Failed):
        failpoint(NAME)
    failpoint(NAME)


def test_it_waits() -> None:
    waited: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", waited.append)
        arm(f"{NAME}=delay:0.25")
        failpoint(NAME)
    assert waited == [0.25]


def test_it_stops_the_process() -> None:
    sent: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.kill", lambda pid, number: sent.append(number))
        arm(f"{NAME}=stop")
        failpoint(NAME)
    assert sent == [signal.SIGSTOP]


def test_it_ends_the_process_by_the_environment() -> None:
    code = f"from services.common.failpoints import failpoint; failpoint({NAME!r}); print('on')"
    environment = {"TUNESMITH_FAILPOINTS": f"{NAME}=exit"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=SERVICES.parent, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (failpoints.EXIT_CODE, b"")


def test_around_meets_the_second_only_behind_success() -> None:
    seen: list[str] = []
    watch(seen.append)
    with around("upload"):
        assert seen == ["upload.before"]
    with pytest.raises(KeyError), around("spawn"):
        raise KeyError
    assert seen == ["upload.before", "upload.after", "spawn.before"]


@pytest.mark.parametrize("text", ["nobody=exit", f"{NAME}=explode", NAME, f"{NAME}=exit@x", f"{NAME}=delay:long"])
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"TUNESMITH_FAILPOINTS|invalid literal|could not convert"):
        arm(text)


def test_every_name_has_its_place_and_every_place_its_name() -> None:
    sources = [path.read_text() for path in SERVICES.rglob("*.py") if path.name != "failpoints.py"]
    calls = {name for text in sources for name in re.findall(r'around\("([^"]+)"\)', text)}
    commits = {name for text in sources for name in re.findall(r'transaction\(self\._pool, "([^"]+)"\)', text)}
    placed = {f"{name}.{where}" for name in calls for where in ("before", "after")}
    placed |= {f"{name}.{where}" for name in commits for where in ("commit", "committed")}
    placed |= {name for text in sources for name in re.findall(r' failpoint\("([^"]+)"\)', text)}
    assert placed == set(POINTS)
