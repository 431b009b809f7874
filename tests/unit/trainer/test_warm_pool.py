"""The supervisors that wait: none is left behind."""

import asyncio
import subprocess
import threading

import pytest

from services.trainer import warm_pool
from services.trainer.warm_pool import WarmPool


class Supervisor:
    """As a Popen without pipes."""

    stdin, stdout, returncode = None, None, None

    def __init__(self) -> None:
        self.is_dismissed = False

    def poll(self) -> None:
        return None

    def kill(self) -> None:
        pass

    def wait(self) -> None:
        self.is_dismissed = True


async def test_one_that_is_being_started_when_the_trainer_ends_is_dismissed(monkeypatch: pytest.MonkeyPatch) -> None:
    starting, machine_is_fast_again, supervisor = threading.Event(), threading.Event(), Supervisor()

    def start(command: list[str], **options: object) -> Supervisor:
        starting.set()
        machine_is_fast_again.wait(20)
        return supervisor

    monkeypatch.setattr(warm_pool.subprocess, "Popen", start)
    keeping = asyncio.create_task(WarmPool(1, [], "json").keep(lambda: True, lambda: None))
    await asyncio.to_thread(starting.wait, 20)
    keeping.cancel()
    asyncio.get_running_loop().call_later(0.05, machine_is_fast_again.set)
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert supervisor.is_dismissed


async def test_a_machine_without_room_for_a_process_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    loop, tries = asyncio.get_running_loop(), iter([OSError("no room"), OSError("no room")])

    def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        if (error := next(tries, None)) is not None:
            raise error
        loop.call_soon_threadsafe(started.set)
        raise OSError("enough")

    monkeypatch.setattr(warm_pool, "_AFTER_FAILURE_SECONDS", 0.0)
    monkeypatch.setattr(warm_pool, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(warm_pool.subprocess, "Popen", start)
    keeping = asyncio.create_task(WarmPool(1, [], "json").keep(lambda: True, lambda: None))
    await asyncio.wait_for(started.wait(), 20)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
