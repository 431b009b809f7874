"""The supervisor's loop: starts the ranks, reads all they print, ends them all when one fails or a signal asks for it."""

import contextlib
import os
import pathlib
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict

from services.trainer import batch_cut, processes, ranks
from services.trainer.contact import Silence
from services.trainer.journal import Journal
from services.trainer.kernel_kills import out_of_memory_kills
from services.trainer.rank_output import RankOutput
from services.trainer.ranks import Launch, Rank
from services.trainer.stalls import StallWatch, stall_message
from services.trainer.warm_start import WarmRank

STORED = "stored"
"""Directory of a run in which the face leaves word of committed checkpoints."""

SAVING_SECONDS = 600.0
"""A run that is asked to rest gets so long beyond its grace, if that brings what it has done into a checkpoint."""

_TURN_SECONDS, _ENDING_TURN_SECONDS = 1.0, 0.2
"""Longest time between two turns; output, signals and the end of a rank begin one at once."""
_LEFTOVER_SECONDS = 10.0
_READ_BYTES = 64 * 1024


class Supervision:
    """One run. `grace` is the time between SIGTERM and SIGKILL in seconds, `clock` is monotonic.

    `stalls` tells ranks that do not move, which are ended with `ends_stalls`. `kernel_kills` counts processes ended for lack of
    memory. `warm` is the only rank of the run, started before it. With `silence` the run ends
    when nobody asks its trainer for anything any more, and is given no time to save what it has done.
    """

    def __init__(
        self,
        journal: Journal,
        launch: Launch,
        *,
        grace: float,
        clock: Callable[[], float],
        stalls: StallWatch,
        ends_stalls: bool = False,
        kernel_kills: Callable[[], int] = out_of_memory_kills,
        warm: WarmRank | None = None,
        silence: Silence | None = None,
    ) -> None:
        self._journal = journal
        self._launch = launch
        self._grace = grace
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._ranks: dict[int, Rank] = {}
        self._stalls = stalls
        self._ends_stalls = ends_stalls
        self._kernel_kills = kernel_kills
        self._kills_before = kernel_kills()
        self._output = RankOutput(journal, stalls)
        self._cancelled = False
        self._failed_rank: int | None = None
        self._kill_time: float | None = None
        self._warm = warm
        self._silence = silence
        self._is_fenced = False
        self._told_of_patience = False

    def run(self, *, identity: processes.Identity | None, group: pathlib.Path | None = None) -> None:
        """Until no process is left; the journal then has an `exit` record.

        `identity`, and the control group that all processes are in, are written down for whoever comes after.
        """
        with self._signals():
            self._journal.control(
                "started", supervisor=asdict(identity) if identity else None, group=str(group) if group else None
            )
            try:
                self._attempt()
                while self._may_try_again():
                    self._reset()
                    self._attempt()
            finally:
                self._end_everything()
        codes = {str(number): rank.exit_code for number, rank in self._ranks.items()}
        self._journal.control("exit", exit_codes=codes, cancelled=self._cancelled, failed_rank=self._failed_rank)

    def _attempt(self) -> None:
        port = ranks.free_port()
        try:
            for number in range(self._launch.processes):
                warm, self._warm = self._warm, None
                self._add(ranks.start(self._launch, number, port, warm))
        except OSError as error:
            self._output.failure(reason="TRAINING_FAILED", message=f"a process could not be started: {error}")
            self._stop()
        while any(rank.exit_code is None for rank in self._ranks.values()):
            self._turn()
        self._end_everything()

    def _add(self, rank: Rank) -> None:
        self._ranks[rank.number] = rank
        for name, pipe in rank.pipes.items():
            self._selector.register(pipe, selectors.EVENT_READ, (rank, name))

    def _turn(self) -> None:
        self._read(_TURN_SECONDS if self._kill_time is None else _ENDING_TURN_SECONDS)
        self._output.tell_stored(self._launch.directory / STORED)
        self._reap()
        self._look_for_stalls()
        self._look_for_silence()
        if self._kill_time is None and (self._cancelled or self._is_fenced or self._failed_rank is not None):
            self._stop()
        if self._kill_time is not None and self._clock() >= self._kill_time and not self._is_patient(self._kill_time):
            self._signal(signal.SIGKILL)

    def _read(self, timeout: float) -> bool:
        ready = self._selector.select(timeout)
        for key, _ in ready:
            data = _read_some(key.fd)
            if key.data is None or data is None:
                continue
            rank, name = key.data
            self._output.feed(rank.number, name, data)
            if not data:
                self._selector.unregister(key.fileobj)
                rank.pipes[name].close()
        self._output.flush()
        return bool(ready)

    def _reap(self) -> None:
        ended = []
        for pid, code in _ended_children():
            for rank in self._ranks.values():
                if rank.process.pid == pid:
                    rank.exit_code = rank.process.returncode = code
                    ended.append(rank)
        failed = [rank for rank in ended if rank.exit_code != 0]
        if failed and self._failed_rank is None and self._kill_time is None:
            # A killed rank makes the others fail; among those found together it is the cause.
            self._failed_rank = min(failed, key=lambda rank: rank.exit_code or 0).number

    def _stop(self) -> None:
        self._kill_time = self._clock() + self._grace
        self._signal(signal.SIGTERM)

    def _is_patient(self, since: float) -> bool:
        """Whether ranks whose time is up should still be let: until a checkpoint under way is durable, or a long step is done."""
        is_kept = self._cancelled and not self._is_fenced and self._failed_rank is None
        if not is_kept or (self._launch.directory / "cancel").exists():
            return False
        working = any(rank.exit_code is None and rank.number in self._output.saving for rank in self._ranks.values())
        seconds = SAVING_SECONDS if working else min(SAVING_SECONDS, 2 * self._stalls.usual())
        waits = self._clock() < since + seconds
        if waits and not self._told_of_patience:
            self._told_of_patience = True
            # Whoever watches the supervisor has to be as patient.
            self._journal.control("patience", seconds=SAVING_SECONDS)
            what = "a checkpoint is being written" if working else "a step takes longer than that"
            self._output.note(f"{self._grace:g} s are over, but {what}: the processes get at most {seconds:.0f} s more")
        return waits

    def _signal(self, number: signal.Signals) -> None:
        for rank in self._ranks.values():
            rank.send(number)

    def _end_everything(self) -> None:
        """Kills what the ranks left behind, then reads what is still in the pipes."""
        deadline = self._clock() + _LEFTOVER_SECONDS
        while (left := processes.descendants(os.getpid())) and self._clock() < deadline:
            processes.kill(left)
            self._read(0.01)
            self._reap()
        self._reap()
        while self._read(0):
            pass
        self._output.end()

    def _look_for_stalls(self) -> None:
        if self._kill_time is not None:
            return
        for number in self._stalls.to_ask():
            self._ranks[number].send(signal.SIGUSR1)
        for stall in self._stalls.explained():
            message = stall_message(stall, processes.condition(self._ranks[stall.rank].process.pid))
            self._output.anomaly("TRAINING_STALLED", message, rank=stall.rank, log_lines=stall.lines)
            if self._ends_stalls and self._failed_rank is None:
                self._output.failure(reason="TRAINING_STALLED", message=message, metadata={"rank": str(stall.rank)})
                self._failed_rank = stall.rank

    def _look_for_silence(self) -> None:
        if self._silence is None or self._is_fenced or not (seconds := self._silence.too_long()):
            return
        self._is_fenced = True
        what = f"no task manager has asked this trainer for anything for {seconds:.0f} s"
        self._output.failure(reason="RUN_FENCED", message=f"{what}, so the run may have been given elsewhere")

    def _may_try_again(self) -> bool:
        """Whether the ranks that are gone now deserve another start."""
        if self._failed_rank is None or self._cancelled or self._is_fenced:
            return False
        failed = self._ranks[self._failed_rank]
        if failed.is_warm and (failed.exit_code or 0) < 0 and not self._output.was_heard:
            self._output.note("the process that was kept ready is gone; starting another")
            return True
        if self._output.port_was_taken:
            self._output.note("the port of the process group was taken; starting again with another")
            return True
        return self._memory_ran_out(failed) and self._cut_batches()

    def _memory_ran_out(self, failed: Rank) -> bool:
        by_kernel = failed.exit_code == -signal.SIGKILL and self._kernel_kills() > self._kills_before
        return by_kernel or self._output.out_of_memory is not None

    def _cut_batches(self) -> bool:
        """Whether smaller micro-batches are left to try; writes down what is done, or that nothing can be."""
        smaller = batch_cut.cut(self._launch.directory / "config.json")
        told = self._output.out_of_memory
        rank = self._failed_rank if told is None else told.fields["rank"]
        what = f"rank {rank} ran out of memory" + (f" ({told.fields['message']})" if told else ", and the kernel ended it")
        if smaller is None:
            longest = told.fields["metadata"].get("longest_row_tokens", "") if told else ""
            self._output.failure(
                reason="OUT_OF_MEMORY",
                message=f"{what}{batch_cut.least(self._launch.directory / 'config.json')}",
                hint=batch_cut.hint(self._launch.directory / "config.json", longest),
            )
            return False
        numbers = ", ".join(f"{name} = {value}" for name, value in smaller.items())
        message = f"{what}; going on with {numbers}: the same global batch and the same losses, but slower"
        self._output.anomaly("OUT_OF_MEMORY", message, rank=rank or 0)
        return True

    def _reset(self) -> None:
        for rank in self._ranks.values():
            for pipe in rank.pipes.values():
                if not pipe.closed:
                    self._selector.unregister(pipe)
                    pipe.close()
        self._ranks.clear()
        self._output.retry()
        self._stalls.forget()
        self._kills_before = self._kernel_kills()
        self._failed_rank = self._kill_time = None

    def _cancel(self, *_: object) -> None:
        self._cancelled = True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals wake the selector up, so that a turn sees them at once and never in the middle of a write."""
        receiving, sending = socket.socketpair()
        with receiving, sending, self._selector:
            receiving.setblocking(False)
            sending.setblocking(False)
            self._selector.register(receiving, selectors.EVENT_READ, None)
            signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
            signal.signal(signal.SIGTERM, self._cancel)
            signal.signal(signal.SIGINT, self._cancel)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            yield
            signal.set_wakeup_fd(-1)


def _read_some(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None


def _ended_children() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)
