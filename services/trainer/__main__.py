"""`python -m services.trainer`: the gRPC face of the trainer. SIGTERM leaves the runs alone, SIGINT ends them for good."""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import grpc
import structlog

from services.common import config, logs
from services.common.bundles import BundleStore
from services.common.channels import connect
from services.common.server import serving, wait_for_signal
from services.trainer import four_bit
from services.trainer.answering.inference import Inference
from services.trainer.checkpoint_delivery import CheckpointDelivery
from services.trainer.contact import Contact
from services.trainer.delivery import Delivery
from services.trainer.keeper import Means
from services.trainer.kinds.table import describe
from services.trainer.launcher import Launcher, supervisor_options
from services.trainer.preparation import Preparation
from services.trainer.ranks import has_gpu
from services.trainer.restoring import Restoring
from services.trainer.runs import Runs
from services.trainer.servicer import TrainerServicer
from services.trainer.settings import TrainerSettings
from services.trainer.speed import Speed
from services.trainer.storage_client import StorageClient
from services.trainer.warm_base import likely_base
from services.trainer.warm_inference import WarmInference
from services.trainer.warm_pool import WarmPool
from tunesmith.v1 import trainer_service_pb2, trainer_service_pb2_grpc

log = structlog.get_logger()

_NAME = trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name
_KEEP_SECONDS = 600.0


def main() -> int:
    """Runs the trainer until a signal; returns the exit code."""
    try:
        settings = config.load(TrainerSettings, "TUNESMITH_TRAINER_", os.environ)
        logs.configure("trainer", settings.log_level)
        with _owning(settings.data_dir):
            asyncio.run(run(settings))
    except config.ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


async def run(settings: TrainerSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    authority = _read(settings.storage_tls_ca, "STORAGE_TLS_CA")
    async with connect(settings.storage_address, tls_ca=authority) as channel:
        warm = _warm_pool(settings)
        bundles = BundleStore(channel, settings.cache_dir, api_key=settings.storage_api_key, max_bytes=settings.cache_max_bytes)
        runs = _runs(settings, channel, bundles, warm)
        device = "cuda" if has_gpu() else "cpu"
        speed = Speed(settings.data_dir / "speed.json", module=settings.speed_module, threads=settings.threads_for(1))
        servicer = TrainerServicer(
            runs,
            device=device,
            labels={**settings.label_map(), **four_bit.labels()},
            contact=Contact(settings.fence()),
            fenced_after=settings.fenced_after(),
            speed=speed,
            warm=warm,
            stopping=stopping,
            clock=time.time,
        )

        def register(server: grpc.aio.Server) -> None:
            trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)

        async with (
            runs.kept(),
            serving(settings, register, [_NAME], stopping=stopping),
            _beside(_while_idle(runs, speed, warm, settings.warm_base_max_bytes)),
            _beside(_keep_files(runs, bundles)),
            _beside(_warm_inference(settings, runs)),
        ):
            if await wait_for_signal() is signal.SIGINT:
                log.info("runs.stopping", count=len(runs.active()))
                await runs.stop()


async def _while_idle(runs: Runs, speed: Speed, warm: WarmPool, most_bytes: int) -> None:
    """Both would measure or disturb the other."""
    await speed.measure(runs.is_idle)
    await warm.keep(runs.is_idle, lambda: likely_base(runs.newest_first(), most_bytes))


async def _keep_files(runs: Runs, bundles: BundleStore) -> None:
    """What a run reads when it is restarted stays in the cache as long as it is active."""
    while True:
        await bundles.keep([path for run in runs.active() for path in run.fetched()])
        await asyncio.sleep(_KEEP_SECONDS)


async def _warm_inference(settings: TrainerSettings, runs: Runs) -> None:
    """Nothing where there is no inference service."""
    if not settings.inference_address:
        return
    key = settings.inference_api_key
    try:
        authority = _read(settings.inference_tls_ca, "INFERENCE_TLS_CA")
        async with connect(settings.inference_address, api_key=key, tls_ca=authority) as channel:
            await WarmInference(Inference(channel, api_key=key)).keep(runs.active)
    except config.ConfigError as error:
        # Evaluations will say so, too; trainings work without.
        log.warning("inference.not_asked", message=str(error))


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Does `work` beside the block, and ends it with the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _warm_pool(settings: TrainerSettings) -> WarmPool:
    options = supervisor_options(
        settings.training_module,
        settings.stop_grace.total_seconds(),
        settings.threads_for(1),
        settings.stall_floor.total_seconds(),
        settings.fence(),
    )
    return WarmPool(settings.warm_processes, options, settings.warm_module)


def _runs(settings: TrainerSettings, channel: grpc.aio.Channel, base_models: BundleStore, warm: WarmPool) -> Runs:
    storage = StorageClient(channel, describe=describe, api_key=settings.storage_api_key)
    means = Means(
        preparation=Preparation(storage, base_models, time.monotonic),
        delivery=Delivery(storage, time.monotonic),
        checkpoints=CheckpointDelivery(storage),
        restoring=Restoring(storage),
        launcher=Launcher(
            settings.training_module,
            settings.stop_grace.total_seconds(),
            settings.threads_for,
            settings.stall_floor.total_seconds(),
            settings.fence(),
            settings.inference_environment(),
            warm,
        ),
    )
    return Runs(
        settings.data_dir.resolve() / "runs",
        means,
        capacity=settings.processes,
        retention=settings.run_retention.total_seconds(),
        clock=time.time,
    )


def _read(path: pathlib.Path | None, name: str) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise config.ConfigError(f"TUNESMITH_TRAINER_{name}={path}: {error.strerror}") from error


@contextlib.contextmanager
def _owning(data_dir: pathlib.Path) -> Iterator[None]:
    """Two trainers over one directory would start every run twice."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise config.ConfigError(f"TUNESMITH_TRAINER_DATA_DIR={data_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise config.ConfigError(f"TUNESMITH_TRAINER_DATA_DIR={data_dir}: another trainer uses it") from error
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
