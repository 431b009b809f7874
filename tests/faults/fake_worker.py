"""The process of a fake run: writes the run's journal line by line; started by the fake trainer as `python -I -S`.

Standard library only, so that it starts in hundredths of a second. What it does stands in `plan.json` of its directory. Like a
real supervisor it holds the journal's lock while it lives, outlives the trainer, and may be killed at any moment.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

DEAF = 1
"""Ignores SIGTERM."""
DETACHED_CHILD = 2
"""Has a child that ignores SIGTERM in a session of its own."""
FAILS = 4
"""Fails for good in its last step."""
FAILS_ONCE = 8
"""Fails for the moment in its last step; later attempts do not."""
DIES_ONCE = 16
"""Is killed in its last step; later attempts are not."""
HOLDS = 32
"""Waits before its last step for a file `go` in its directory."""
_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


def main(directory: str) -> None:
    """Until the run has ended."""
    os.chdir(directory)
    journal = os.open("journal.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.flock(journal, fcntl.LOCK_EX)
    with open("plan.json") as file:
        plan = json.load(file)
    if plan["manner"] & DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if plan["manner"] & DETACHED_CHILD:
        # It must not hold the journal's lock, which means that the worker lives.
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", _CHILD], start_new_session=True, close_fds=True)
        _Run(journal, plan, child).run()
    else:
        _Run(journal, plan).run()


class _Run:
    """Writes lines; each event says whose it is and its number."""

    def __init__(self, journal: int, plan: dict, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self._journal = journal
        self._plan = plan
        self._child = child
        self._number = 0

    def run(self) -> None:
        """From the first line to the result; the end is told by the trainer, when no process is left."""
        manner, steps = self._plan["manner"], self._plan["steps"]
        is_first = self._plan["attempt"] == 1
        self._event("line")
        self._event("started", steps=steps)
        for step in range(1, steps + 1):
            time.sleep(self._plan["pace"])
            if step == steps:
                self._hold(manner)
                if manner & DIES_ONCE and is_first:
                    os.kill(os.getpid(), signal.SIGKILL)
            self._event("step", step=step)
            self._event("line")
        if manner & FAILS:
            return self._result("FAILED", reason="TRAINING_FAILED")
        if manner & FAILS_ONCE and is_first:
            return self._result("FAILED", reason="RUN_LOST")
        self._event("artifact")
        return self._result("SUCCEEDED")

    def _hold(self, manner: int) -> None:
        while manner & HOLDS and not os.path.exists("go"):
            self._end_when_fenced()
            time.sleep(0.01)

    def _end_when_fenced(self) -> None:
        if not self._plan["fence"]:
            return
        with open("../.contact") as file:
            silence = time.clock_gettime(time.CLOCK_BOOTTIME) - float(file.read())
        if silence > self._plan["fence"]:
            if self._child:
                self._child.kill()
            self._result("FAILED", reason="RUN_FENCED")
            os._exit(1)

    def _event(self, kind: str, **more: object) -> None:
        self._end_when_fenced()
        self._number += 1
        self._write(number=self._number, kind=kind, time=time.time(), **more)

    def _result(self, state: str, reason: str = "") -> None:
        self._write(result=state, reason=reason)

    def _write(self, **line: object) -> None:
        os.write(self._journal, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
