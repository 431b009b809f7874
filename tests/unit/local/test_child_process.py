"""One child with tiny scripts: what it is given, when it counts as ready, how its deaths are told, and when to give up."""

import asyncio
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from tunesmith.local import child, child_process
from tunesmith.local.child_process import Child, ChildSpec
from tunesmith.local.errors import LocalError

DEADLINE_SECONDS = 30.0
SLEEPER = "print('up', flush=True); import time; time.sleep(600)"


async def always() -> bool:
    return True


async def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(child_process, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(child_process, "LONGEST_DELAY_SECONDS", 0.004)
    monkeypatch.setattr(child_process, "PROBE_INTERVAL_SECONDS", 0.001)


@pytest.fixture
def make(tmp_path):
    """Makes a child that runs a script; what it reports is in `make.reports`, where it prints is `make.log`."""

    def make(code: str, **options) -> Child:
        given = {"is_ready": always, "environment": dict(os.environ), "patience_seconds": DEADLINE_SECONDS, **options}
        spec = ChildSpec("it", (sys.executable, "-c", code), **given)
        return Child(spec, make.log, lambda *report: make.reports.append(report))

    make.reports, make.log = [], tmp_path / "it.log"
    make.log.touch()
    return make


async def until(condition) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - another process, so there is no event to wait for
            await asyncio.sleep(0.005)


async def run_until(it: Child, condition, needs=()) -> None:
    """Supervise until the condition holds, then stop."""
    supervision = asyncio.create_task(it.supervise(list(needs)))
    try:
        await until(lambda: condition() or supervision.done())
    finally:
        await it.stop(hurry=True)
        await asyncio.wait_for(supervision, DEADLINE_SECONDS)


async def test_it_gets_exactly_its_environment_and_no_input(make):
    code = "import os, sys; print(sorted(os.environ), repr(sys.stdin.read()), os.environ.get('SETTING'), flush=True)"
    await run_until(make(code, environment={"SETTING": "1", "PYTHONPATH": os.getcwd()}), lambda: make.log.stat().st_size)
    line = make.log.read_text().splitlines()[0]
    assert "''" in line
    assert line.endswith(" 1")
    assert "HOME" not in line


async def test_both_of_its_outputs_go_to_its_log_and_are_added_to_what_is_there(make):
    make.log.write_text("of before\n")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); import time; time.sleep(600)"
    await run_until(make(code), lambda: "err" in make.log.read_text())
    assert make.log.read_text() == "of before\nout\nerr\n"


async def test_it_runs_in_a_session_of_its_own_so_that_ctrl_c_is_not_its(make):
    code = "import os; print(os.getsid(0) == os.getpid(), flush=True); import time; time.sleep(600)"
    await run_until(make(code), lambda: make.log.stat().st_size)
    assert make.log.read_text() == "True\n"


async def test_it_has_a_pid_only_while_it_runs(make):
    it, pids = make(SLEEPER), []
    assert it.pid is None

    def runs():
        pids.append(it.pid)
        return it.ready.is_set()

    await run_until(it, runs)
    assert isinstance(pids[-1], int)
    assert it.pid is None
    assert (it.ready.is_set(), it.died.is_set()) == (False, True)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("", "ended with exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", "was killed by SIGTERM"),
    ],
)
async def test_a_death_is_reported_as_what_it_was(make, code, ending):
    await run_until(make(code), lambda: make.reports)
    assert make.reports[0] == ("it", f"{ending}; starting it again in 0.001 s")


async def test_pauses_double_up_to_the_longest_while_deaths_follow_each_other(make):
    it = make("")
    await run_until(it, lambda: it.restarts >= 4 and len(make.reports) >= 4)
    assert [text.rpartition(" in ")[2] for _, text in make.reports[:4]] == ["0.001 s", "0.002 s", "0.004 s", "0.004 s"]


async def test_one_that_was_ready_for_long_starts_again_without_the_pauses_of_before(make, monkeypatch):
    monkeypatch.setattr(child_process, "STEADY_AFTER_SECONDS", -1.0)
    it = make("")
    await run_until(it, lambda: len(make.reports) >= 3)
    assert {text.rpartition(" in ")[2] for _, text in make.reports[:3]} == {"0.001 s"}


@pytest.mark.parametrize("deaths", [1, 2, 3])
async def test_one_that_was_never_ready_is_given_up_after_its_last_chance(make, monkeypatch, deaths):
    monkeypatch.setattr(child_process, "DEATHS_BEFORE_GIVING_UP", deaths)
    it = make("import sys; sys.exit('no such setting')", is_ready=never)
    with pytest.raises(LocalError) as caught:
        await asyncio.wait_for(it.supervise([]), DEADLINE_SECONDS)
    assert caught.value.reason == "SERVICE_DIES"
    assert caught.value.message.startswith(f"it ended with exit code 1, {deaths} times in a row; its last lines:")
    assert caught.value.message.count("no such setting") == deaths
    assert caught.value.hint == f"The whole log: {make.log}"
    assert len(make.reports) == deaths - 1


async def test_the_last_words_are_the_last_eight_lines_whatever_their_bytes(make, monkeypatch):
    monkeypatch.setattr(child_process, "DEATHS_BEFORE_GIVING_UP", 1)
    make.log.write_bytes(b"\xff\xfe of before\n")
    code = "import sys; [print(f'line {n}') for n in range(7)]; sys.exit(1)"
    with pytest.raises(LocalError) as caught:
        await asyncio.wait_for(make(code, is_ready=never).supervise([]), DEADLINE_SECONDS)
    shown = caught.value.message.splitlines()[1:]
    assert len(shown) == 8
    assert shown[0].endswith(" of before")
    assert shown[-1] == "    line 6"


async def test_preparation_comes_before_every_start(make):
    prepared = []
    it = make("", prepare=lambda: prepared.append(it.restarts))
    await run_until(it, lambda: len(make.reports) >= 2)
    assert prepared[:2] == [0, 1]


async def test_a_preparation_that_fails_ends_the_supervision_and_nothing_is_started(make):
    def prepare():
        raise LocalError("POSTGRES_VERSION", "made by another", "dump it")

    with pytest.raises(LocalError, match="made by another"):
        await make(SLEEPER, prepare=prepare).supervise([])
    assert make.log.read_text() == ""


async def test_it_is_not_started_before_everything_it_needs_is_ready(make):
    order = []

    async def wait():
        order.append("waited")

    need = SimpleNamespace(ready=SimpleNamespace(wait=wait))
    it = make("", prepare=lambda: order.append("started"))
    await run_until(it, lambda: make.reports, needs=[need, need])
    assert order[:3] == ["waited", "waited", "started"]


async def test_a_stop_is_the_signal_of_its_spec_and_no_restart(make):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(print('interrupted', flush=True)))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    it = make(code, stop_signal=signal.SIGINT)
    supervision = asyncio.create_task(it.supervise([]))
    await until(lambda: "up" in make.log.read_text())
    await it.stop()
    await asyncio.wait_for(supervision, DEADLINE_SECONDS)
    assert make.log.read_text() == "up\ninterrupted\n"
    assert (it.restarts, make.reports) == (0, [])


async def test_one_that_does_not_stop_is_killed_and_that_is_said(make):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    it = make(code, patience_seconds=0.01)
    supervision = asyncio.create_task(it.supervise([]))
    await until(lambda: "up" in make.log.read_text())
    await it.stop()
    await asyncio.wait_for(supervision, DEADLINE_SECONDS)
    assert make.reports == [("it", "did not stop within 0.01 s: killed")]


async def test_stopping_what_never_ran_or_has_ended_does_nothing(make):
    it = make(SLEEPER)
    await it.stop()
    await it.stop()
    assert make.reports == []


async def test_a_stop_while_it_is_being_started_ends_it_at_once(make):
    loop = asyncio.get_running_loop()
    it = make(SLEEPER, prepare=lambda: asyncio.run_coroutine_threadsafe(it.stop(), loop).result())
    await asyncio.wait_for(it.supervise([]), DEADLINE_SECONDS)
    assert (it.pid, it.restarts, make.reports) == (None, 0, [])


async def test_once_stopped_it_is_not_started_again(make):
    it = make(SLEEPER)
    await it.stop()
    await asyncio.wait_for(it.supervise([]), DEADLINE_SECONDS)
    assert make.log.read_text() == ""


class TestShim:
    """`tunesmith.local.child` becomes the command it is given."""

    @pytest.fixture
    def became(self, monkeypatch):
        commands = []
        monkeypatch.setattr(child.os, "execvp", lambda program, arguments: commands.append((program, arguments)))
        monkeypatch.setattr(child.sys, "platform", "elsewhere")  # this process asks the kernel for no signal
        return commands

    def test_it_becomes_the_command_with_all_its_arguments(self, became):
        child.main(["SIGTERM", str(os.getppid()), "program", "--option", "a b"])
        assert became == [("program", ["program", "--option", "a b"])]

    def test_without_its_supervisor_it_becomes_nothing(self, became):
        with pytest.raises(SystemExit) as caught:
            child.main(["SIGTERM", str(os.getppid() + 1), "program"])
        assert (caught.value.code, became) == (1, [])

    @pytest.mark.parametrize("name", ["SIGNONE", "", "15"])
    def test_a_signal_that_does_not_exist_is_refused_before_anything_runs(self, became, name):
        with pytest.raises(KeyError):
            child.main([name, str(os.getppid()), "program"])
        assert became == []
