"""A real trainer process for a test: start, kill, start again, and look at what it leaves behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import psutil

from services.trainer.processes import RUN_VARIABLE
from tests.ports import free_port
from tunesmith.v1 import task_event_pb2, task_pb2, task_spec_pb2, trainer_service_pb2, trainer_service_pb2_grpc

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
DEADLINE_SECONDS = 60.0


class Face:
    """`python -m services.trainer` over `root`, with the fake training process."""

    def __init__(self, root: Path, storage_port: int, **settings: str) -> None:
        self.root = root
        self.runs = root / "data" / "runs"
        self.settings = {
            "STORAGE_ADDRESS": f"127.0.0.1:{storage_port}",
            "DATA_DIR": str(root / "data"),
            "CACHE_DIR": str(root / "cache"),
            "PROCESSES": "4",
            "STOP_GRACE": "500ms",
            "TRAINING_MODULE": "fake_training",
            "SPEED_MODULE": "",
            "WARM_PROCESSES": "0",
            "WARM_MODULE": "json",
            **settings,
        }
        self.host = "127.0.0.1"
        self.address = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.aio.Channel | None = None
        self.stub: trainer_service_pb2_grpc.TrainerServiceStub

    async def start(self) -> None:
        await self.disconnect()
        self.address = f"{self.host}:{free_port()}"
        variables = {f"TUNESMITH_TRAINER_{name}": value for name, value in (self.settings | {"LISTEN": self.address}).items()}
        environment = {**os.environ, **variables, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        self.process = await asyncio.to_thread(self._spawn, environment)
        self.channel = self.connect()
        self.stub = trainer_service_pb2_grpc.TrainerServiceStub(self.channel)
        await self.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest(), wait_for_ready=True, timeout=DEADLINE_SECONDS)

    def connect(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address)

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.root / "face.log").open("ab") as log:
            command = [sys.executable, "-m", "services.trainer"]
            return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log, cwd=REPOSITORY)

    async def end(self, number: signal.Signals) -> int:
        """Sends a signal and waits for the end of the process; returns the exit code."""
        assert self.process
        self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, DEADLINE_SECONDS)
        await self.disconnect()
        return code

    async def disconnect(self) -> None:
        if self.channel:
            await self.channel.close()
            self.channel = None

    async def clean_up(self) -> None:
        """Nothing of a test outlives it."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        await self.disconnect()
        for process in self.survivors():
            process.kill()

    async def submit(self, dataset: str, *, attempt: int = 1, epoch: int = 1, task: str = "", processes: int = 1, **more) -> str:
        run = make_run(dataset, attempt=attempt, epoch=epoch, task=task, processes=processes, **more)
        await self.stub.StartRun(trainer_service_pb2.StartRunRequest(run=run), timeout=DEADLINE_SECONDS)
        return run.name

    async def get(self, name: str) -> trainer_service_pb2.Run:
        return await self.stub.GetRun(trainer_service_pb2.GetRunRequest(name=name), timeout=DEADLINE_SECONDS)

    async def cancel(self, name: str) -> trainer_service_pb2.Run:
        return await self.stub.CancelRun(trainer_service_pb2.CancelRunRequest(name=name), timeout=DEADLINE_SECONDS)

    async def watch(
        self, name: str, after: int = 0, seconds: float = DEADLINE_SECONDS
    ) -> tuple[list[task_event_pb2.TaskEvent], task_event_pb2.StreamEnd]:
        """Every event after the cursor and the end."""
        events: list[task_event_pb2.TaskEvent] = []
        request = trainer_service_pb2.StreamRunEventsRequest(name=name, after_sequence=after)
        async for response in self.stub.StreamRunEvents(request, timeout=seconds):
            events += response.events
            if response.WhichOneof("control") == "end":
                return events, response.end
        raise AssertionError("the stream closed without an end message")

    async def until(self, name: str, state: str) -> trainer_service_pb2.Run:
        """The run once it is in `state`."""
        wanted = task_pb2.Task.State.Value(state)
        await eventually_async(lambda: self._is(name, wanted), f"{name} never became {state}")
        return await self.get(name)

    async def _is(self, name: str, state: int) -> bool:
        return (await self.get(name)).state == state

    def directory(self, name: str) -> Path:
        return self.runs / name.removeprefix("runs/")

    def journal(self, name: str) -> str:
        """What the run's journal holds now."""
        path = self.directory(name) / "journal.jsonl"
        return path.read_text() if path.exists() else ""

    def survivors(self) -> list[psutil.Process]:
        """Every living process that a run of this trainer has started, supervisors included."""
        return [process for process in psutil.process_iter() if _environment(process).startswith(str(self.runs))]

    def remains(self) -> list[str]:
        """The survivors' command lines."""
        return [" ".join(_command(process)) for process in self.survivors()]

    def supervisors(self) -> list[psutil.Process]:
        return [process for process in self.survivors() if "services.trainer.supervisor" in _command(process)]

    def ranks(self) -> list[psutil.Process]:
        return [process for process in self.survivors() if "fake_training" in _command(process)[2:3]]


def make_run(
    dataset: str,
    *,
    attempt: int = 1,
    epoch: int = 1,
    task: str = "",
    processes: int = 1,
    validation: str = "",
    mixture: dict[str, float] | None = None,
    split: float | None = None,
    sample_prompts: Sequence[str] = (),
    **more: object,
) -> trainer_service_pb2.Run:
    """What the task manager would send: every number resolved."""
    task = task or str(uuid.uuid4())
    tuning = task_spec_pb2.FineTuning(
        base_model="baseModels/tiny",
        dataset=dataset,
        validation_dataset=validation,
        method="SFT",
        tuning="LORA",
        mixture=[task_spec_pb2.WeightedDataset(dataset=name, weight=weight) for name, weight in (mixture or {}).items()],
        validation_split_ratio=split,
        sample_prompts=sample_prompts,
    )
    numbers = task_spec_pb2.Hyperparameters(
        num_train_epochs=1,
        learning_rate=1e-3,
        global_batch_size=2 * processes,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        lr_scheduler_type="cosine",
        warmup_ratio=0.1,
        weight_decay=0,
        max_grad_norm=1,
        max_seq_length=128,
        seed=7,
        logging_steps=1,
        precision="fp32",
        num_processes=processes,
        zero_stage=0,
        lora=task_spec_pb2.Lora(rank=4, alpha=8, dropout=0, target_modules=["all-linear"], use_rslora=False, use_dora=False),
    )
    numbers.MergeFrom(task_spec_pb2.Hyperparameters(**more))
    return trainer_service_pb2.Run(
        name=f"runs/{task}-{attempt}",
        task=f"tasks/{task}",
        attempt=attempt,
        epoch=epoch,
        spec=task_spec_pb2.TaskSpec(fine_tuning=tuning),
        hyperparameters=numbers,
    )


def texts(events: list[task_event_pb2.TaskEvent], rank: int | None = None) -> list[str]:
    """The log lines, of one rank or of all."""
    entries = [event.log_entry for event in events if event.WhichOneof("event") == "log_entry"]
    return [entry.text for entry in entries if rank is None or entry.rank == rank]


def assert_dense(events: list[task_event_pb2.TaskEvent], first: int = 1) -> None:
    """Numbered without gap and without repeat."""
    assert [event.sequence for event in events] == list(range(first, first + len(events)))


async def eventually(predicate: Callable[[], object], what: str) -> None:
    """Waits until it holds; fails with `what` after a minute."""

    async def ask() -> object:
        return predicate()

    await eventually_async(ask, what)


async def eventually_async(predicate, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await predicate():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def _environment(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(RUN_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
