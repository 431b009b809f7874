"""The Engine in a process of its own: a crash of native code fails the rows it had, and the next question finds a new one."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import structlog

from services.common.errors import ServiceError
from services.inference import engine_wire as wire
from services.inference.engine import GenerationRequest, Guide, Written
from services.inference.engine_process import Options

log = structlog.get_logger()

Outcome = Written | ServiceError

_MODULE = "services.inference.engine_process"
_END_SECONDS = 5.0
_NO_START = "The last lines of the inference log say why; TUNESMITH_INFERENCE_ENGINE_PYTHON names the interpreter, if one is set."
_PROGRAM = Path(__file__).parents[2]


class EngineProcess:
    """One process with an engine, and the wire to it; `child` None = what answers is no process."""

    def __init__(self, connection: Connection, child: subprocess.Popen[bytes] | None = None) -> None:
        """Returns when it is ready; raises EOFError when it does not become so."""
        self._connection = connection
        self._child = child
        try:
            # Its first word comes when everything is imported.
            self._receive()
        except EOFError as error:
            raise EOFError(self.end()) from error

    @classmethod
    def start(cls, options: Options, interpreter: Path | None = None) -> "EngineProcess":
        """Returns when it is ready; raises EOFError or OSError when there can be none.

        `interpreter` is that of another environment; its own packages, and this program.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            words = [str(theirs.fileno()), str(os.getpid()), json.dumps(dataclasses.asdict(options))]
            # Keys of the service are none of its business.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
            # Weights are read from end to end in every step: over pages of 2 MiB in three quarters of the time that 4 KiB take.
            environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            if interpreter:
                environment["PYTHONPATH"] = str(_PROGRAM)
            python = str(interpreter or sys.executable)
            command = [python, *(["-P"] if sys.flags.safe_path else []), "-m", _MODULE, *words]
            child = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        return cls(Connection(ours.detach()), child)

    def ask(self, question: wire.Question) -> wire.Answer:
        """The answer; raises EOFError or OSError when the process is gone, and what the engine has raised."""
        self._connection.send_bytes(wire.encode(question))
        return self._receive()

    def end(self) -> str:
        """No process is left; returns how it has ended."""
        self._connection.close()
        if self._child is None:
            return "was lost"
        try:
            code = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _receive(self) -> wire.Answer:
        answer = wire.decode_answer(self._connection.recv_bytes())
        if isinstance(answer, wire.Failure):
            raise answer.error()
        return answer


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    base: str
    guide: Guide | None


class RemoteEngine:
    """See Engine. `start` makes a process; it is called at the first use and after a crash, when models are loaded as needed."""

    def __init__(self, start: Callable[[], EngineProcess]) -> None:
        self._start = start
        self._process: EngineProcess | None = None
        self._known: dict[str, wire.LoadBase | wire.LoadAdapter] = {}
        self._loaded: set[str] = set()
        """Of the known ones, those that the present process has."""
        self._rows: dict[int, _Row] = {}
        self._lost: dict[str, dict[int, Outcome]] = {}
        """Rows of a process that is gone, by base model, until a step tells it."""

    def start(self) -> None:
        """Makes the process now; without it the first use does."""
        if self._process is None:
            try:
                self._process = self._start()
            except (EOFError, OSError) as error:
                message = f"the process that computes answers cannot start: {error}"
                raise ServiceError("ENGINE_CRASHED", message, hint=_NO_START) from error

    def load_base(self, name: str, directory: Path) -> None:
        """See Engine; raises ServiceError (ENGINE_CRASHED), too."""
        self._load(wire.LoadBase(name, str(directory)))

    def load_adapter(self, base: str, name: str, directory: Path) -> None:
        """See Engine; raises ServiceError (ENGINE_CRASHED), too."""
        self._require(base)
        self._load(wire.LoadAdapter(base, name, str(directory)))

    def unload(self, name: str) -> None:
        """See Engine."""
        gone = {each.name for each in self._known.values() if isinstance(each, wire.LoadAdapter) and each.base == name} | {name}
        self._known = {each: known for each, known in self._known.items() if each not in gone}
        self._loaded -= gone
        self._forget(wire.Unload(name))

    def free_device_bytes(self) -> int:
        """See Engine; raises ServiceError (ENGINE_CRASHED), too."""
        answer = self._ask(wire.FreeDevice())
        assert isinstance(answer, wire.Free)
        return answer.bytes

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine; raises ServiceError (ENGINE_CRASHED), too."""
        self._require(request.base)
        if request.adapter is not None:
            self._require(request.adapter)
        bare = dataclasses.replace(request, guide=None)
        self._ask(wire.Admit(ticket, bare, request.guide is not None))
        self._rows[ticket] = _Row(request.base, request.guide)

    def step(self, base: str) -> Mapping[int, Outcome]:
        """See Engine. The rows of a process that is gone have ENGINE_CRASHED in the place of their token."""
        if lost := self._lost.pop(base, None):
            return lost
        outcomes: dict[int, Outcome] = {}
        allowed = self._allowed(base, outcomes)
        try:
            answer = self._ask(wire.Step(base, allowed))
        except ServiceError as error:
            if self._process is not None:
                raise
            log.warning("engine.rows_lost", base=base, reason=error.reason)
            return outcomes | self._lost.pop(base, {})
        assert isinstance(answer, wire.Stepped)
        for ticket, failure in answer.failed.items():
            failed = failure.error()
            assert isinstance(failed, ServiceError)
            outcomes[ticket] = failed
            self._rows.pop(ticket, None)
        return outcomes | {ticket: self._taken(ticket, written) for ticket, written in answer.written.items()}

    def leave(self, ticket: int) -> None:
        """See Engine."""
        for rows in self._lost.values():
            rows.pop(ticket, None)
        if self._rows.pop(ticket, None):
            self._forget(wire.Leave(ticket))

    def _allowed(self, base: str, outcomes: dict[int, Outcome]) -> dict[int, bytes]:
        """What guides allow the rows of a base model; the row of a guide that is lost fails."""
        allowed: dict[int, bytes] = {}
        for ticket, row in [(ticket, row) for ticket, row in self._rows.items() if row.base == base and row.guide]:
            assert row.guide is not None
            try:
                allowed[ticket] = row.guide.allowed()
            except ValueError as error:
                outcomes[ticket] = self._failed(ticket, error)
        return allowed

    def _taken(self, ticket: int, written: Written) -> Outcome:
        row = self._rows.get(ticket)
        if row is not None and row.guide is not None:
            try:
                row.guide.take(written.id)
            except ValueError as error:
                return self._failed(ticket, error)
        return written

    def _failed(self, ticket: int, error: ValueError) -> ServiceError:
        self.leave(ticket)
        return ServiceError("GENERATION_FAILED", f"the model failed: {error}")

    def _load(self, question: wire.LoadBase | wire.LoadAdapter) -> None:
        self._ask(question)
        self._known[question.name] = question
        self._loaded.add(question.name)

    def _require(self, name: str) -> None:
        """Loads again what was loaded into a process that is gone."""
        self.start()
        if name in self._known and name not in self._loaded:
            self._load(self._known[name])

    def _forget(self, question: wire.Unload | wire.Leave) -> None:
        """A process that is gone, or goes now, has forgotten it, too."""
        if self._process is not None:
            try:
                self._ask(question)
            except ServiceError as error:
                log.warning("engine.not_told", question=type(question).__name__, reason=error.reason)

    def _ask(self, question: wire.Question) -> wire.Answer:
        self.start()
        assert self._process is not None
        try:
            return self._process.ask(question)
        except (EOFError, OSError) as error:
            raise self._crashed(self._process) from error

    def _crashed(self, process: EngineProcess) -> ServiceError:
        how = process.end()
        log.error("engine.crashed", how=how, rows=len(self._rows), models=len(self._loaded))
        self._process = None
        self._loaded.clear()
        for ticket, row in self._rows.items():
            self._lost.setdefault(row.base, {})[ticket] = _crash(how)
        self._rows.clear()
        return _crash(how)


def _crash(how: str) -> ServiceError:
    return ServiceError("ENGINE_CRASHED", f"the process that computes answers {how}")
