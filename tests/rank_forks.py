"""Ranks forked from a process that has done their imports, as a warm rank has them done: the imports take ten seconds of a
processor, a fork a tenth of one. One such process for each test process, ended with it."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.rank_imports"])
# Settled when torch is imported, so before the fork.
_OF_ALL = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def fork_rank(module: str, config: Path, environment: Mapping[str, str], log: Path, events: Connection) -> ForkServerProcess:
    """`python -m MODULE CONFIG` with this environment and `events` as its pipe; what it prints is appended to `log`."""
    process = _CONTEXT.Process(target=_be_rank, args=(module, str(config), dict(environment) | _OF_ALL, str(log), events))
    with mock.patch.dict(os.environ, _OF_ALL):
        process.start()
    return process


def _be_rank(module: str, config: str, environment: Mapping[str, str], log: str, events: Connection) -> None:
    os.environ.update(environment, TUNESMITH_EVENTS_FD=str(events.fileno()))
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for standard in (sys.stdout, sys.stderr):
        os.dup2(output, standard.fileno())
    sys.argv = [module, config]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
