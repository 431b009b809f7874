"""Why the processes of a run ended other than well; used by the keeper when it ends the run."""

import dataclasses
import signal

from services.trainer.history import Exit, History
from services.trainer.run import Failure

_STOPPED = 128 + signal.SIGTERM
"""A rank that finishes its step, saves a checkpoint and leaves because somebody asked for it."""
_FOUND_BY_SUPERVISOR = ("OUT_OF_MEMORY", "TRAINING_STALLED", "RUN_FENCED")


def failure_of(history: History, *, loses_nothing: bool = False) -> Failure:
    """The failure of a run whose processes are gone and did not all end well. `loses_nothing`: when they are killed, another
    attempt goes on where this one stopped."""
    assert history.exit is not None
    failure = _failure(history.exit, history.failure)
    if loses_nothing and failure.reason == "TRAINING_PROCESS_KILLED":
        failure = Failure.because("RUN_LOST", failure.message, **failure.metadata)
    return dataclasses.replace(failure, step=failure.step or history.step)


def _failure(end: Exit, reported: Failure | None) -> Failure:
    if end.lost:
        return reported or Failure.because("RUN_LOST", f"the supervisor of the run was gone without a word: {end.lost}")
    if end.cancelled:
        return Failure.because("RUN_STOPPED", "somebody outside of the trainer stopped the run's supervisor")
    rank = end.failed_rank
    code = end.codes.get(rank) if rank is not None else None
    # What the supervisor itself found is the cause; what other ranks report after one was killed is only that it is gone.
    if reported and reported.reason in _FOUND_BY_SUPERVISOR:
        return reported
    if code is not None and code < 0:
        return _killed(rank or 0, -code)
    if code == _STOPPED:
        return Failure.because("RUN_STOPPED", f"rank {rank} was stopped by SIGTERM and has saved a checkpoint")
    return reported or _exited(rank, code)


def _killed(rank: int, number: int) -> Failure:
    name = _signal_name(number)
    return Failure.because("TRAINING_PROCESS_KILLED", f"rank {rank} was killed by {name}", signal=name, rank=str(rank))


def _exited(rank: int | None, code: int | None) -> Failure:
    message = f"rank {rank} ended with exit code {code} and gave no reason"
    return Failure.because("TRAINING_PROCESS_EXITED", message, exit_code=str(code), rank=str(rank))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
