"""`python -m services.inference.engine_process FD PARENT OPTIONS`: an engine and nothing else, so that what native code breaks is
this process alone; started by `remote_engine`.

Questions come and answers go through the socket FD (`engine_wire`). It ends with the process PARENT, whatever happens to that.
OPTIONS are the engine's, as JSON.
"""

import dataclasses
import json
import logging
import os
import pathlib
import signal
import sys
import warnings
from multiprocessing.connection import Connection

import structlog

from services.common import logs
from services.common.errors import ServiceError
from services.common.parenthood import die_with
from services.inference import engine_wire as wire
from services.inference.engine import Engine

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True)
class Options:
    """See InferenceSettings."""

    threads: int
    prefix_tokens: int
    pack_up_to: int
    engine: str = "transformers"
    half: bool = False
    rows: int = 16
    cache_bytes: int = 4 * 1024**3
    log_level: str = "info"


def main() -> None:
    """Until nobody asks any more."""
    descriptor, parent, options = int(sys.argv[1]), int(sys.argv[2]), Options(**json.loads(sys.argv[3]))
    die_with(parent)
    # Who presses Ctrl-C means the service, which takes this process along.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure("inference", options.log_level)
    prepare_libraries()
    with Connection(descriptor) as connection:
        serve(connection, engine_of(options))
    # Nothing here has to be saved, and freeing gigabytes one by one takes long.
    logging.shutdown()
    os._exit(0)


def engine_of(options: Options) -> Engine:
    """The engine that is asked for; importing it takes seconds."""
    if options.engine == "vllm":
        os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
        from services.inference.vllm_engine import VllmEngine
        from services.inference.vllm_model import Vllm, free_device_bytes

        remembers = options.prefix_tokens > 0
        return VllmEngine(
            lambda path: Vllm(path, rows=options.rows, cache_bytes=options.cache_bytes, remembers=remembers), free_device_bytes
        )
    from services.inference.transformers_engine import TransformersEngine

    return TransformersEngine(
        threads=options.threads, prefix_tokens=options.prefix_tokens, pack_up_to=options.pack_up_to, half=options.half
    )


def prepare_libraries() -> None:
    """What must be settled before torch and transformers are imported."""
    # Models come from storage alone; nothing here may ask a hub.
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    # Threads that spin for long while they wait make an answer ten times slower as soon as a training run shares the cores;
    # those that sleep at once are woken up a thousand times a second, on the core of who wakes them: two threads on one core.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.captureWarnings(True)
    # What libraries announce to the programmers of other libraries.
    warnings.simplefilter("ignore", FutureWarning)


def serve(connection: "Connection", engine: Engine) -> None:
    """Answers questions, the first answer unasked, until the other side is gone."""
    asked = _Asked(engine)
    try:
        connection.send_bytes(wire.encode(wire.Done()))
        while True:
            connection.send_bytes(wire.encode(asked.answer(wire.decode_question(connection.recv_bytes()))))
    except (EOFError, OSError):
        return


class _GuideElsewhere:
    """A Guide whose parser is on the other side, which says before every step what is allowed, and is told what was written."""

    def __init__(self) -> None:
        self.mask = b""

    def allowed(self) -> bytes:
        return self.mask

    def take(self, token: int) -> None:
        pass


class _Asked:
    """An engine as the wire knows it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guides: dict[int, _GuideElsewhere] = {}

    def answer(self, question: wire.Question) -> wire.Answer:
        try:
            return self._do(question)
        except Exception as error:
            if not isinstance(error, ServiceError):
                log.exception("engine.failed", question=type(question).__name__)
            return wire.Failure.of(error)

    def _do(self, question: wire.Question) -> wire.Answer:
        match question:
            case wire.LoadBase(name, directory):
                self._engine.load_base(name, pathlib.Path(directory))
            case wire.LoadAdapter(base, name, directory):
                self._engine.load_adapter(base, name, pathlib.Path(directory))
            case wire.Unload(name):
                self._engine.unload(name)
            case wire.FreeDevice():
                return wire.Free(self._engine.free_device_bytes())
            case wire.Admit():
                self._admit(question)
            case wire.Step():
                return self._step(question)
            case wire.Leave(ticket):
                self._guides.pop(ticket, None)
                self._engine.leave(ticket)
        return wire.Done()

    def _admit(self, question: wire.Admit) -> None:
        guide = _GuideElsewhere() if question.is_guided else None
        self._engine.admit(question.ticket, dataclasses.replace(question.request, guide=guide))
        if guide:
            self._guides[question.ticket] = guide

    def _step(self, question: wire.Step) -> wire.Stepped:
        for ticket, mask in question.allowed.items():
            self._guides[ticket].mask = mask
        outcomes = self._engine.step(question.base)
        failed = {ticket: wire.Failure.of(each) for ticket, each in outcomes.items() if isinstance(each, ServiceError)}
        for ticket in failed:
            self._guides.pop(ticket, None)
        written = {ticket: each for ticket, each in outcomes.items() if not isinstance(each, ServiceError)}
        return wire.Stepped(written, failed)


if __name__ == "__main__":
    main()
