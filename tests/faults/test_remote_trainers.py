"""A real task manager with real trainers as they are set up on other machines: over TLS with a key, and strict."""

import datetime
import pathlib
import shutil
import subprocess
from collections.abc import AsyncIterator

import grpc
import pytest

from services.common.config import Secret
from services.task_manager.domain import attempt
from tests.faults.proxy import Mood, Proxy
from tests.faults.trainer_subjects import RealTrainer
from tests.integration.task_manager import manager_harness
from tests.integration.task_manager.fake_peers import DATASET, serving_storage
from tests.integration.task_manager.fake_peers import FakeStorage as ManagersStorage
from tests.integration.task_manager.manager_harness import Platform, events_in, make_settings, platform_of
from tests.integration.trainer.trainer_face import eventually
from tests.integration.trainer.trainer_scripts import GOOD, HELD
from tests.integration.trainer.trainer_storage import FakeStorage
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration

KEY = "a key of the trainer"
OUTSIDE = "0.0.0.0"
"""An address that is not loopback by its name, and leads here."""


@pytest.fixture
async def scripts() -> AsyncIterator[FakeStorage]:
    """What trainers fetch from; its one dataset is the script, and it is the one that the task manager knows."""
    storage = FakeStorage()
    await storage.start()
    yield storage
    await storage.stop()


def tell(storage: FakeStorage, *script: dict) -> None:
    """What every run does from now on."""
    storage.datasets[DATASET] = storage.datasets.pop(storage.add_script(*script))


@pytest.fixture
async def known() -> AsyncIterator[str]:
    """The storage that the task manager asks."""
    async with serving_storage(ManagersStorage()) as address:
        yield address


# ---- TLS


class RemoteTrainer(RealTrainer):
    """Listens where others reach it."""

    def __init__(self, root: pathlib.Path, storage: FakeStorage, certificate: pathlib.Path, key: pathlib.Path) -> None:
        super().__init__(root, storage)
        self.host = OUTSIDE
        self.certificate = certificate
        self.settings |= {"TLS_CERT": str(certificate), "TLS_KEY": str(key), "API_KEY": KEY}

    def connect(self) -> grpc.aio.Channel:
        """See Face."""
        secured = grpc.ssl_channel_credentials(self.certificate.read_bytes())
        return grpc.aio.secure_channel(
            self.address, grpc.composite_channel_credentials(secured, grpc.access_token_call_credentials(KEY))
        )


def certificate(directory: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
    """One that signs itself, and its key."""
    files = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=trainer", "-addext", f"subjectAltName=IP:{OUTSIDE}"]
    subprocess.run([*command, *subject, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")
async def test_a_trainer_over_tls_runs_tasks_of_whoever_has_its_key_and_trusts_its_certificate(
    postgres_dsn: str, known: str, scripts: FakeStorage, tmp_path: pathlib.Path
) -> None:
    pem, private = certificate(tmp_path, "right")
    other, _ = certificate(tmp_path, "other")
    trainer = RemoteTrainer(tmp_path, scripts, pem, private)
    await trainer.start()
    tell(scripts, *GOOD)
    try:
        for authority, key in ((other, KEY), (pem, "another key")):
            settings = make_settings(postgres_dsn, known, (trainer.address,), trainer_tls_ca=authority, peer_api_key=Secret(key))
            async with platform_of(settings, None) as manager:  # type: ignore[arg-type]
                waiting = await manager.create("waits")
                await until_told(manager, waiting.name, "does not answer")
        settings = make_settings(postgres_dsn, known, (trainer.address,), trainer_tls_ca=pem, peer_api_key=Secret(KEY))
        async with platform_of(settings, None) as manager:  # type: ignore[arg-type]
            listed = await manager.stub.ListTasks(api.ListTasksRequest())
            for task in listed.tasks:
                done = await manager.until(task.name, task_pb2.Task.SUCCEEDED)
                assert done.attempt == 1
            assert len(listed.tasks) == len([*trainer.runs.glob("*-1")]) == 2, "nobody else has started anything"
    finally:
        await trainer.clean_up()


async def until_told(manager: Platform, name: str, why: str) -> None:
    """Until the task says that it waits for that."""

    async def told() -> bool | None:
        return why in (await manager.get(name)).state_reason or None

    await manager_harness.eventually(told, f"{name} tells that its trainer {why}")


# ---- strict


async def test_a_strict_trainer_that_is_cut_off_has_ended_its_run_before_another_one_begins(
    postgres_dsn: str, known: str, scripts: FakeStorage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "LOST_ANSWER", datetime.timedelta(seconds=0.2))
    trainers = [RealTrainer(tmp_path / name, scripts) for name in ("one", "other")]
    for trainer in trainers:
        trainer.root.mkdir()
        trainer.settings |= {"FENCING": "strict", "FENCING_AFTER": "4s"}
        await trainer.start()
    tell(scripts, {"do": "spawn", "detached": True}, *HELD, {"do": "steps", "first": 3, "last": 3}, {"do": "result", "step": 3})
    proxies = [Proxy(trainer.address) for trainer in trainers]
    try:
        async with proxies[0].serving(), proxies[1].serving():
            settings = make_settings(postgres_dsn, known, tuple(proxy.address for proxy in proxies))
            async with platform_of(settings, None) as manager:  # type: ignore[arg-type]
                task = await manager.create("moves")
                first = f"runs/{task.name.removeprefix('tasks/')}-1"
                await eventually(lambda: any(trains(one, first) for one in trainers), "the first attempt trains")
                await until_stored(manager, task.name, steps=2)
                lost, kept = (0, 1) if trains(trainers[0], first) else (1, 0)

                proxies[lost].set(Mood.REFUSE)
                second = first.removesuffix("1") + "2"
                await eventually(lambda: trains(trainers[kept], second), "the second attempt trains elsewhere")
                assert trainers[lost].remains() == [], "and the first one is over by then, with all its processes"

                proxies[lost].set(Mood.PASS)
                (trainers[kept].directory(second) / "go").touch()
                done = await manager.until(task.name, task_pb2.Task.SUCCEEDED)
                assert done.attempt == 2
                assert {run: artifact.name for run, artifact in scripts.artifacts.items()} == {second: done.artifact}
                stored = events_in(await manager.watch(task.name))
                steps = [(event.attempt, event.step_metrics.step) for event in stored if event.HasField("step_metrics")]
                assert steps == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
                assert [event.sequence for event in stored] == list(range(1, len(stored) + 1))
                assert "RUN_FENCED" in trainers[lost].journal(first)
    finally:
        for trainer in trainers:
            await trainer.clean_up()


def trains(trainer: RealTrainer, run: str) -> bool:
    """Whether it has come to the place where it waits."""
    return (trainer.directory(run) / "ready").exists()


async def until_stored(manager: Platform, name: str, *, steps: int) -> None:
    """Until the task manager has so many steps of the run."""

    async def stored() -> bool | None:
        answer = await manager.stub.ListEvents(api.ListEventsRequest(name=name))
        return sum(event.HasField("step_metrics") for event in answer.events) == steps or None

    await manager_harness.eventually(stored, f"{name} has {steps} steps")
