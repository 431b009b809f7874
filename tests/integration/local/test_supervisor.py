"""The supervisor with tiny real processes: order, restarts, hopeless children, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tunesmith.local import child_process
from tunesmith.local.child_process import ChildSpec
from tunesmith.local.errors import LocalError
from tunesmith.local.processes import identify
from tunesmith.local.supervisor import Supervisor

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 30.0

SERVER = """
import pathlib, sys, time
with open(sys.argv[1], "a") as log: log.write(sys.argv[2] + "\\n")
print("started", flush=True)
pathlib.Path(sys.argv[3]).touch()
time.sleep(600)
"""


async def eventually(condition) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  # another process, so there is no event to wait for
            await asyncio.sleep(0.01)


class Bench:
    """Makes children that write their start into one file, and are ready when their own file exists."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.starts_file = root / "starts"
        self.reports: list[tuple[str, str]] = []

    def spec(self, name: str, *needs: str, code: str = SERVER, **options) -> ChildSpec:
        marker = self.root / f"{name}.ready"

        async def is_ready() -> bool:
            return marker.exists()

        return ChildSpec(
            name=name,
            command=(sys.executable, "-c", code, str(self.starts_file), name, str(marker)),
            environment=dict(os.environ),
            is_ready=is_ready,
            needs=needs,
            prepare=lambda: marker.unlink(missing_ok=True),
            patience_seconds=options.pop("patience_seconds", 10.0),
            **options,
        )

    def supervisor(self, *specs: ChildSpec) -> Supervisor:
        return Supervisor(specs, self.root, lambda name, text: self.reports.append((name, text)))

    @property
    def run_pid(self) -> int:
        """What a child started in a session of its own."""
        return int(self.starts_file.with_name("starts.run").read_text())

    @property
    def starts(self) -> list[str]:
        return self.starts_file.read_text().split() if self.starts_file.exists() else []


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(child_process, "FIRST_DELAY_SECONDS", 0.01)
    return Bench(tmp_path)


async def run_until(supervisor: Supervisor, body) -> None:
    """Run the children, then `body`, then stop; nothing of ours is left."""
    before = psutil.Process().children()
    stop = asyncio.Event()

    async def work() -> None:
        await supervisor.wait_ready(DEADLINE_SECONDS)
        await body()
        stop.set()

    async with asyncio.timeout(2 * DEADLINE_SECONDS):
        await supervisor.run(lambda child: None, work(), stop)
    assert started_since(before) == []


def started_since(before: list[psutil.Process]) -> list[psutil.Process]:
    """Living children that are not among `before`: the session's Postgres and S3 are."""
    return [p for p in psutil.Process().children() if p not in before and p.status() != psutil.STATUS_ZOMBIE]


async def nothing() -> None:
    return


async def test_children_start_when_what_they_need_is_ready(bench):
    supervisor = bench.supervisor(bench.spec("third", "second"), bench.spec("second", "first"), bench.spec("first"))
    await run_until(supervisor, nothing)
    assert bench.starts == ["first", "second", "third"]


async def test_a_killed_child_is_started_again_and_that_is_said(bench):
    supervisor = bench.supervisor(bench.spec("one"))
    child = supervisor.children["one"]

    async def kill_it() -> None:
        os.kill(child.pid, signal.SIGKILL)
        await eventually(lambda: child.restarts == 1 and child.ready.is_set())

    await run_until(supervisor, kill_it)
    assert bench.starts == ["one", "one"]
    assert bench.reports[0][0] == "one"
    assert "was killed by SIGKILL; starting it again" in bench.reports[0][1]


async def test_a_child_that_keeps_dying_is_given_longer_and_longer_pauses(bench):
    supervisor = bench.supervisor(bench.spec("one"))
    child = supervisor.children["one"]

    async def kill_it_thrice() -> None:
        for time_killed in range(1, 4):
            os.kill(child.pid, signal.SIGKILL)
            await eventually(lambda n=time_killed: child.restarts == n and child.ready.is_set())

    await run_until(supervisor, kill_it_thrice)
    assert [text.rpartition(" in ")[2] for _, text in bench.reports] == ["0.01 s", "0.02 s", "0.04 s"]


async def test_a_child_that_never_becomes_ready_ends_the_start_with_its_last_words(bench):
    before = psutil.Process().children()
    broken = bench.spec("broken", code="import sys; sys.exit('no such setting')")
    with pytest.raises(LocalError) as caught:
        await run_until(bench.supervisor(bench.spec("fine"), broken), nothing)
    assert caught.value.reason == "SERVICE_DIES"
    assert "broken ended with exit code 1" in caught.value.message
    assert "no such setting" in caught.value.message
    assert started_since(before) == []


async def test_a_start_that_takes_too_long_names_who_is_late(bench):
    before = psutil.Process().children()
    slow = bench.spec("slow", code="import time; time.sleep(600)")
    supervisor = bench.supervisor(slow, bench.spec("fine"))
    with pytest.raises(LocalError, match="slow"):
        await supervisor_times_out(supervisor)
    assert started_since(before) == []


async def supervisor_times_out(supervisor: Supervisor) -> None:
    await supervisor.run(lambda child: None, supervisor.wait_ready(0.5), asyncio.Event())


async def test_a_child_that_ignores_its_stop_signal_is_killed(bench):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    supervisor = bench.supervisor(bench.spec("stubborn", code=stubborn, patience_seconds=0.2))
    await run_until(supervisor, nothing)
    assert bench.reports == [("stubborn", "did not stop within 0.2 s: killed")]


@pytest.mark.parametrize("relation", ["needs", "stopped_before"])
async def test_dependents_are_stopped_first(bench, relation):
    said = textwrap.dedent("""
        import signal, sys, time
        def stop(*_):
            if sys.argv[2] == "second": time.sleep(0.3)
            with open(sys.argv[1], "a") as log: log.write("stop-" + sys.argv[2] + "\\n")
            sys.exit()
        signal.signal(signal.SIGTERM, stop)
    """)
    supervisor = bench.supervisor(
        bench.spec("first", code=said + SERVER), replace(bench.spec("second", code=said + SERVER), **{relation: ("first",)})
    )
    await run_until(supervisor, nothing)
    assert sorted(bench.starts[:2]) == ["first", "second"]
    assert bench.starts[2:] == ["stop-second", "stop-first"]


async def test_what_a_child_started_in_a_session_of_its_own_is_ended_too(bench):
    family = textwrap.dedent("""
        import subprocess, sys
        run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        with open(sys.argv[1] + ".run", "w") as file: file.write(str(run.pid))
    """)
    supervisor = bench.supervisor(bench.spec("one", code=family + SERVER))
    child = supervisor.children["one"]

    async def orphan_the_run() -> None:
        os.kill(child.pid, signal.SIGKILL)
        await eventually(lambda: child.restarts == 1 and child.ready.is_set())

    await run_until(supervisor, orphan_the_run)
    assert identify(bench.run_pid) is None


async def test_a_process_that_was_there_before_is_left_alone(bench):
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    try:
        await run_until(bench.supervisor(bench.spec("one")), nothing)
        assert other.returncode is None
        assert psutil.pid_exists(other.pid)
    finally:
        other.kill()
        await other.wait()


async def test_an_orphan_that_ends_does_not_stay_a_zombie(bench):
    family = textwrap.dedent("""
        import subprocess, sys
        run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"], start_new_session=True)
        with open(sys.argv[1] + ".run", "w") as file: file.write(str(run.pid))
    """)
    supervisor = bench.supervisor(bench.spec("one", code=family + SERVER))
    child = supervisor.children["one"]

    async def orphan_the_run() -> None:
        orphan = bench.run_pid
        os.kill(child.pid, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(orphan))

    await run_until(supervisor, orphan_the_run)


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path):
    code = textwrap.dedent(f"""
        import asyncio, os, pathlib, sys
        from tunesmith.local.child_process import ChildSpec
        from tunesmith.local.supervisor import Supervisor
        ready = pathlib.Path({str(tmp_path / "ready")!r})
        async def is_ready(): return ready.exists()
        command = (sys.executable, "-c", {SERVER!r}, {str(tmp_path / "starts")!r}, "one", str(ready))
        supervisor = Supervisor([ChildSpec("one", command, dict(os.environ), is_ready)], pathlib.Path({str(tmp_path)!r}), print)
        def show(child): print(child.pid, flush=True)
        asyncio.run(supervisor.run(show, supervisor.wait_ready(30), asyncio.Event()))
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        child = psutil.Process(int(supervisor.stdout.readline()))
        assert child.is_running()
        supervisor.kill()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
