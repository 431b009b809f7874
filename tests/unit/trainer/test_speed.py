"""The machine's speed is measured once, only while nothing runs, and remembered as long as it can be true."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.trainer.speed import Speed
from services.trainer.training.speed import fastest

REPORTS = 'import json, os; print(json.dumps({"flops_per_second": 2.5e9, "key": os.environ.get("TUNESMITH_SECRET")}))'
NEVER_ENDS = "import pathlib, time; pathlib.Path('began').touch(); time.sleep(600)"


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that a child process of this directory can run."""
    for name, code in {
        "reports": REPORTS,
        "broken": "print('no JSON')",
        "fails": "raise SystemExit(3)",
        "slow": NEVER_ENDS,
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def speed(root: Path, module: str = "reports", threads: int = 2) -> Speed:
    return Speed(root / "speed.json", module=module, threads=threads, pause=0.001)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.01)


async def test_it_is_measured_and_remembered(tmp_path: Path) -> None:
    first = speed(tmp_path)
    assert first.flops_per_second == 0

    await asyncio.wait_for(first.measure(lambda: True), 30)

    assert first.flops_per_second == 2.5e9
    assert speed(tmp_path, "fails").flops_per_second == 2.5e9


async def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    await asyncio.wait_for(speed(tmp_path).measure(lambda: True), 30)

    await asyncio.wait_for(speed(tmp_path, "slow").measure(lambda: True), 30)

    assert not (tmp_path / "began").exists()


async def test_another_number_of_threads_or_another_torch_is_another_speed(tmp_path: Path) -> None:
    await asyncio.wait_for(speed(tmp_path).measure(lambda: True), 30)
    assert speed(tmp_path, threads=1).flops_per_second == 0

    value = json.loads((tmp_path / "speed.json").read_text())
    (tmp_path / "speed.json").write_text(json.dumps(value | {"torch": "0.0.1"}))

    assert speed(tmp_path).flops_per_second == 0


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"flops_per_second": "x"}', '{"torch": null}'])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, kept: str) -> None:
    (tmp_path / "speed.json").write_text(kept)

    assert speed(tmp_path).flops_per_second == 0


@pytest.mark.parametrize("module", ["broken", "fails", "absent", ""])
async def test_a_measurement_that_fails_is_given_up(tmp_path: Path, module: str) -> None:
    one = speed(tmp_path, module)

    await asyncio.wait_for(one.measure(lambda: True), 30)

    assert one.flops_per_second == 0
    assert not (tmp_path / "speed.json").exists()


async def test_nothing_is_measured_while_a_run_is_active_and_a_new_run_ends_the_measurement(tmp_path: Path) -> None:
    looks = 0

    def is_idle() -> bool:
        nonlocal looks
        looks += 1
        # Busy, then idle until the measurement has begun, then busy for good.
        return looks > 3 and not (tmp_path / "began").exists()

    task = asyncio.create_task(speed(tmp_path, "slow").measure(is_idle))
    await until((tmp_path / "began").exists)
    before = looks
    await until(lambda: looks >= before + 5)
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()


async def test_leaving_ends_the_measurement(tmp_path: Path) -> None:
    task = asyncio.create_task(speed(tmp_path, "slow").measure(lambda: True))
    await until((tmp_path / "began").exists)
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()


async def test_the_child_sees_no_setting_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_SECRET", "x")
    code = "import os, pathlib; pathlib.Path('seen').write_text(repr(sorted(n for n in os.environ if 'TUNESMITH' in n)))"
    (tmp_path / "looks.py").write_text(code)

    await asyncio.wait_for(speed(tmp_path, "looks").measure(lambda: True), 30)

    assert (tmp_path / "seen").read_text() == "[]"


def test_the_fastest_call_counts_and_the_first_one_does_not() -> None:
    durations = iter([100.0, 3.0, 1.0, 2.0, 50.0])
    now = 0.0

    def work() -> None:
        nonlocal now
        now += next(durations)

    assert fastest(work, 6.0, lambda: now) == 1.0


def test_a_budget_of_nothing_still_measures_once() -> None:
    now = 0.0

    def work() -> None:
        nonlocal now
        now += 4.0

    assert fastest(work, 0.0, lambda: now) == 4.0
