"""An engine in another process: what is asked arrives whole, and a death costs the rows it had and nothing else."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_rows import alone
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, FakeEngine, write_adapter_weights
from remote_engines import Mortal, in_a_thread

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.inference import engine_wire as wire
from services.inference.engine import GenerationRequest, Sampling, Token, Written
from services.inference.engine_process import Options
from services.inference.remote_engine import EngineProcess, RemoteEngine
from services.inference.scheduler import Limits, Scheduler
from services.inference.worker import Worker

A, B = "baseModels/a", "baseModels/b"


def counting(request: GenerationRequest) -> Iterator[int]:
    return itertools.count(request.prompt[0])


def a_request(base: str = A, adapter: str | None = None, first: int = 5, **more: object) -> GenerationRequest:
    return GenerationRequest(base, adapter, (first, 1), 3, **more)  # type: ignore[arg-type]


class Machine:
    """Processes one after the other; the first one's poison is `poison`, later ones have none unless it `stays`."""

    def __init__(self, poison: str = "", *, stays: bool = False) -> None:
        self.engines: list[Mortal] = []
        self._poison = frozenset({poison} - {""})
        self._stays = stays

    def start(self) -> EngineProcess:
        self.engines.append(Mortal(counting, self._poison if self._stays or not self.engines else frozenset()))
        return in_a_thread(self.engines[-1])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").touch()
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter_weights(tmp_path / "adapter")


def refused(call: object, *arguments: object) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


# ---- what goes over the wire


def test_requests_and_tokens_arrive_as_they_were(base: Path) -> None:
    seen: list[GenerationRequest] = []

    def script(request: GenerationRequest) -> Iterator[int]:
        seen.append(request)
        return itertools.repeat(7)

    engine = RemoteEngine(lambda: in_a_thread(FakeEngine(script)))
    engine.load_base(A, base)
    sampling = Sampling(0.7, 0.9, 2**63 - 1, 40, 0.05, 0.1, -0.2, 1.1, ((3, -1.5), (9, 100.0)))
    request = a_request(sampling=sampling, logprobs=2, judged_from=1)
    engine.admit(2**40, request)
    assert seen == [request]
    [(ticket, written)] = engine.step(A).items()
    assert (ticket, type(written)) == (2**40, Written)
    assert written == next(iter(_direct(base, request).step(A).values()))


def test_what_the_device_has_left_arrives() -> None:
    own = FakeEngine()
    engine = RemoteEngine(lambda: in_a_thread(own))
    for own.device_bytes in (0, 80 * 1024**3):
        assert engine.free_device_bytes() == own.device_bytes


def _direct(base: Path, request: GenerationRequest) -> FakeEngine:
    engine = FakeEngine(lambda _: itertools.repeat(7))
    engine.load_base(A, base)
    engine.admit(1, request)
    return engine


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("BASE_MODEL_UNUSABLE", "no", hint="look there", metadata={"path": "x"}),
        InvalidArgument(Violation("a.b", "is wrong"), Violation("c", "too")),
    ],
    ids=["plain", "fields"],
)
def test_errors_arrive_as_they_were(error: ServiceError) -> None:
    found = wire.Failure.of(error)
    told = wire.decode_answer(wire.encode(found))
    assert isinstance(told, wire.Failure)
    back = told.error()
    assert isinstance(back, ServiceError)
    for name in ("reason", "message", "hint", "metadata", "violations", "status", "error_class"):
        assert getattr(back, name) == getattr(error, name)


def test_what_is_no_error_of_ours_is_told_and_the_engine_goes_on(base: Path) -> None:
    engine = RemoteEngine(lambda: in_a_thread(FakeEngine(counting)))
    engine.load_base(A, base)
    with pytest.raises(RuntimeError, match="AssertionError"):
        engine.admit(1, a_request("baseModels/unknown"))
    assert alone(engine, a_request()) == [5, 6, 7]


def test_a_row_that_fails_is_told_and_forgotten(base: Path) -> None:
    def script(request: GenerationRequest) -> Iterator[int]:
        yield 4
        raise ServiceError("GENERATION_FAILED", "the model failed: NaN")

    own = FakeEngine(script)
    engine = RemoteEngine(lambda: in_a_thread(own))
    engine.load_base(A, base)
    engine.admit(1, a_request())
    assert engine.step(A) == {1: Written(4)}
    failed = engine.step(A)[1]
    assert isinstance(failed, ServiceError)
    assert (failed.reason, failed.message) == ("GENERATION_FAILED", "the model failed: NaN")
    assert engine.step(A) == {}


# ---- guides stay here


class Alternating:
    """Allows token 8, then 9, then 8, …; is lost when something else is written, and after `lasts` tokens."""

    def __init__(self, lasts: int = 100) -> None:
        self.taken: list[int] = []
        self._lasts = lasts

    def allowed(self) -> bytes:
        if len(self.taken) >= self._lasts:
            raise ValueError("too much work")
        return b"\0" + (b"\1" if len(self.taken) % 2 == 0 else b"\2")

    def take(self, token: int) -> None:
        if token != 8 + len(self.taken) % 2:
            raise ValueError(f"{token} was not allowed")
        self.taken.append(token)


def obeying(request: GenerationRequest) -> Iterator[int]:
    """The lowest token that the guide allows."""
    assert request.guide is not None
    while True:
        mask = int.from_bytes(request.guide.allowed(), "little")
        yield (mask & -mask).bit_length() - 1


def test_a_guide_is_asked_before_every_token_and_told_of_each(base: Path) -> None:
    engine, guide = RemoteEngine(lambda: in_a_thread(FakeEngine(obeying))), Alternating()
    engine.load_base(A, base)
    assert alone(engine, a_request(guide=guide)) == [8, 9, 8]
    assert guide.taken == [8, 9, 8]


@pytest.mark.parametrize("why", ["lasts", "disobeyed"])
def test_a_guide_that_is_lost_costs_its_own_row(base: Path, why: str) -> None:
    own = FakeEngine(obeying if why == "lasts" else lambda request: itertools.cycle((request.prompt[0], 9)))
    engine = RemoteEngine(lambda: in_a_thread(own))
    engine.load_base(A, base)
    engine.admit(1, a_request(guide=Alternating(lasts=1)))
    engine.admit(2, a_request(guide=Alternating(), first=8))
    first = engine.step(A)
    second = engine.step(A)
    failed = [each for each in (first[1], second.get(1)) if isinstance(each, ServiceError)]
    assert [error.reason for error in failed] == ["GENERATION_FAILED"]
    assert (first[2], second[2]) == (Written(8), Written(9))
    assert set(engine.step(A)) == {2}
    assert set(own.rows) == {2}


# ---- a process that dies


def test_its_rows_fail_once_and_the_next_question_finds_a_new_one(base: Path, adapter: Path) -> None:
    machine = Machine(f"step {A}")
    engine = RemoteEngine(machine.start)
    for name in (A, B):
        engine.load_base(name, base)
    engine.load_adapter(A, ARTIFACT, adapter)
    engine.load_adapter(A, OTHER_ARTIFACT, adapter)
    engine.admit(1, a_request(A, ARTIFACT))
    engine.admit(2, a_request(A))
    engine.admit(3, a_request(B))
    died = engine.step(A)
    assert {ticket: error.reason for ticket, error in died.items() if isinstance(error, ServiceError)} == {
        1: "ENGINE_CRASHED",
        2: "ENGINE_CRASHED",
    }
    other = engine.step(B)[3]
    assert isinstance(other, ServiceError)
    assert (other.reason, other.message) == ("ENGINE_CRASHED", "the process that computes answers was lost")
    assert alone(engine, a_request(A, ARTIFACT)) == [5, 6, 7]
    assert (engine.step(A), engine.step(B)) == ({}, {})
    assert len(machine.engines) == 2
    assert list(machine.engines[1].bases) == [A], "what nobody has asked for is loaded again"
    assert list(machine.engines[1].adapters) == [ARTIFACT]
    assert alone(engine, a_request(B)) == [5, 6, 7]


def test_a_model_that_kills_keeps_no_other_from_answering(base: Path, adapter: Path) -> None:
    machine = Machine(f"load {ARTIFACT}", stays=True)
    engine = RemoteEngine(machine.start)
    engine.load_base(A, base)
    engine.admit(1, a_request())
    for _ in range(2):
        assert refused(engine.load_adapter, A, ARTIFACT, adapter).reason == "ENGINE_CRASHED"
    lost = engine.step(A)[1]
    assert isinstance(lost, ServiceError)
    assert lost.reason == "ENGINE_CRASHED"
    engine.load_adapter(A, OTHER_ARTIFACT, adapter)
    assert alone(engine, a_request(A, OTHER_ARTIFACT)) == [5, 6, 7]


def test_who_left_meanwhile_is_not_told(base: Path) -> None:
    engine = RemoteEngine(Machine(f"step {A}").start)
    for name in (A, B):
        engine.load_base(name, base)
    engine.admit(1, a_request(A))
    engine.admit(2, a_request(B))
    engine.admit(3, a_request(B))
    engine.step(A)
    engine.leave(2)
    assert set(engine.step(B)) == {3}


@pytest.mark.parametrize("what", [A, ARTIFACT])
def test_what_was_unloaded_is_not_loaded_again(base: Path, adapter: Path, what: str) -> None:
    machine = Machine(f"step {B}")
    engine = RemoteEngine(machine.start)
    for name in (A, B):
        engine.load_base(name, base)
    engine.load_adapter(A, ARTIFACT, adapter)
    engine.unload(what)
    engine.admit(1, a_request(B))
    engine.step(B)
    with pytest.raises(RuntimeError):
        engine.admit(2, a_request(A, ARTIFACT))
    assert ARTIFACT not in machine.engines[1].adapters


def test_a_process_that_dies_of_unloading_has_unloaded(base: Path) -> None:
    machine = Machine(f"unload {A}")
    engine = RemoteEngine(machine.start)
    for name in (A, B):
        engine.load_base(name, base)
    engine.unload(A)
    assert alone(engine, a_request(B)) == [5, 6, 7]
    assert list(machine.engines[1].bases) == [B]


def test_unloading_starts_no_process() -> None:
    machine = Machine()
    engine = RemoteEngine(machine.start)
    engine.unload(A)
    engine.leave(1)
    assert machine.engines == []
    engine.start()
    engine.start()
    assert len(machine.engines) == 1


def test_a_process_that_cannot_start_is_told_and_tried_again(base: Path) -> None:
    machine, refusals = Machine(), iter([OSError("no memory"), EOFError("ended by SIGSEGV")])

    def start() -> EngineProcess:
        for error in refusals:
            raise error
        return machine.start()

    engine = RemoteEngine(start)
    said = [refused(engine.load_base, A, base).message for _ in range(2)]
    assert said == [f"the process that computes answers cannot start: {why}" for why in ("no memory", "ended by SIGSEGV")]
    engine.load_base(A, base)
    assert alone(engine, a_request()) == [5, 6, 7]


# ---- with those who ask


class Reader:
    """Wants three tokens."""

    gone = False

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.error: Exception | None = None
        self.ended = asyncio.Event()

    def take(self, token: Written) -> bool:
        self.tokens.append(token)
        if len(self.tokens) == 3:
            self.ended.set()
        return len(self.tokens) == 3

    def end(self, error: Exception | None) -> None:
        self.error = error
        self.ended.set()


async def test_only_those_under_way_fail_and_those_who_wait_are_answered(base: Path) -> None:
    engine = RemoteEngine(Machine(f"step {A}").start)
    for name in (A, B):
        engine.load_base(name, base)
    with Worker("engine") as worker:
        scheduler = Scheduler(worker, engine, Limits(rows=2, tokens=1000))
        readers = [Reader() for _ in range(5)]
        for reader, name in zip(readers, (A, B, A, B, A), strict=True):
            scheduler.enter(a_request(name), reader)
        async with asyncio.timeout(10):
            for reader in readers:
                await reader.ended.wait()
    reasons = [getattr(reader.error, "reason", None) for reader in readers]
    assert reasons == ["ENGINE_CRASHED", None, None, None, None]
    assert [len(reader.tokens) for reader in readers] == [0, 3, 3, 3, 3]


def test_another_environments_interpreter_is_started_with_this_program(tmp_path: Path) -> None:
    told = tmp_path / "told"
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\necho "$PYTHONPATH $*" > {told}\nexit 3\n')
    interpreter.chmod(0o755)
    with pytest.raises(EOFError, match="ended with exit code 3"):
        EngineProcess.start(Options(threads=1, prefix_tokens=0, pack_up_to=0, engine="vllm"), interpreter)
    root, *words = told.read_text().split()
    assert (Path(root) / "services" / "inference" / "engine_process.py").is_file()
    assert "services.inference.engine_process" in words


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2")],
    ids=["by itself", "as the operator wants"],
)
def test_the_engines_memory_is_in_large_pages_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, told: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\necho "$GLIBC_TUNABLES" > {tmp_path / "told"}\nexit 3\n')
    interpreter.chmod(0o755)
    with pytest.raises(EOFError):
        EngineProcess.start(Options(threads=1, prefix_tokens=0, pack_up_to=0), interpreter)
    assert (tmp_path / "told").read_text() == f"{told}\n"
