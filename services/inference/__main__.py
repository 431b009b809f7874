"""`python -m services.inference`: wires settings, storage, engine and server together."""

import asyncio
import datetime
import functools
import logging
import os
import secrets
import sys
import time
from collections.abc import Coroutine
from typing import Any

import grpc
import structlog

from services.common import config, logs, memory
from services.common.bundles import BundleStore
from services.common.channels import connect
from services.common.errors import ServiceError
from services.common.server import serving, wait_for_signal
from services.inference.artifact_lookup import ArtifactLookup
from services.inference.engine import Engine
from services.inference.engine_process import Options
from services.inference.host import ModelHost
from services.inference.packing_bytes import Packing
from services.inference.registry import Registry
from services.inference.remote_engine import EngineProcess, RemoteEngine
from services.inference.resolver import Resolver
from services.inference.scheduler import Limits, Scheduler
from services.inference.servicer import InferenceServicer
from services.inference.settings import PREFIX, InferenceSettings
from services.inference.spare import Spare
from services.inference.upkeep import Upkeep
from services.inference.worker import Worker
from tunesmith.v1 import inference_service_pb2, inference_service_pb2_grpc

log = structlog.get_logger()

_NAME = inference_service_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name
# A long answer of a large model on a CPU is minutes of work.
_CHAT_SECONDS = 600.0


def main() -> None:
    """Runs the service until SIGTERM or SIGINT."""
    try:
        settings = config.load(InferenceSettings, PREFIX, os.environ)
        logs.configure("inference", settings.log_level)
        asyncio.run(serve(settings))
    except config.ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except ServiceError as error:
        sys.stderr.write(f"error: {error}\n  hint: {error.hint}\n")
        sys.exit(1)
    # The engine's thread can neither be interrupted while it waits for the engine's process, nor has it anything to save.
    logging.shutdown()
    os._exit(0)


async def serve(settings: InferenceSettings) -> None:
    """Serves until a signal; the engine starts once the server is listening."""
    engine = RemoteEngine(lambda: EngineProcess.start(_options(settings), settings.engine_python))
    ca = settings.storage_tls_ca.read_bytes() if settings.storage_tls_ca else None
    async with connect(settings.storage_address, tls_ca=ca) as channel:
        with Worker("engine") as worker:
            host = _make_host(settings, channel, worker, engine)
            servicer = InferenceServicer(host)
            register = functools.partial(inference_service_pb2_grpc.add_InferenceServiceServicer_to_server, servicer)
            async with serving(settings, register, [_NAME], unary_timeout=_CHAT_SECONDS):
                idle = datetime.timedelta(seconds=settings.idle_unload_seconds)
                await _until_signal(_run(worker, engine, Upkeep(host, settings.pinned_models, idle)))


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Has `work` done, which never ends by itself; raises what it fails with."""
    running, received = asyncio.create_task(work, name="engine"), asyncio.create_task(wait_for_signal())
    await asyncio.wait((running, received), return_when=asyncio.FIRST_COMPLETED)
    if received.done():
        log.info("server.stopping", signal=received.result().name)
        running.cancel()
    await asyncio.wait((running,))
    if not running.cancelled():
        running.result()


async def _run(worker: Worker, engine: RemoteEngine, upkeep: Upkeep) -> None:
    started = time.monotonic()
    await worker.run(engine.start)
    log.info("engine.ready", seconds=round(time.monotonic() - started, 2))
    await upkeep.run()


def _make_host(settings: InferenceSettings, channel: grpc.aio.Channel, worker: Worker, engine: Engine) -> ModelHost:
    bundles = BundleStore(channel, settings.cache_dir, api_key=settings.storage_api_key, max_bytes=settings.cache_max_bytes)
    return ModelHost(
        resolver=Resolver(bundles, ArtifactLookup(channel, api_key=settings.storage_api_key)),
        worker=worker,
        registry=Registry(
            engine,
            max_bytes=settings.max_loaded_bytes,
            now=lambda: datetime.datetime.now(datetime.UTC),
            packing=_packing(settings),
            spare=_spare(settings),
        ),
        scheduler=Scheduler(worker, engine, Limits(settings.max_running, settings.max_batch_tokens)),
        max_questions=settings.max_running + settings.max_waiting,
        new_seed=lambda: secrets.randbits(63),
    )


def _options(settings: InferenceSettings) -> Options:
    return Options(
        threads=settings.threads or os.cpu_count() or 1,
        prefix_tokens=settings.prefix_tokens,
        pack_up_to=settings.pack_up_to_bytes,
        engine=settings.engine,
        half=settings.precision == "bfloat16",
        rows=settings.max_running,
        cache_bytes=settings.vllm_cache_bytes,
        log_level=settings.log_level,
    )


def _spare(settings: InferenceSettings) -> Spare:
    set_aside = settings.vllm_cache_bytes if settings.engine == "vllm" else 0
    return Spare(settings.ahead_max_bytes, lambda: memory.read().available, set_aside)


def _packing(settings: InferenceSettings) -> Packing:
    up_to = settings.pack_up_to_bytes if settings.engine == "transformers" else 0
    return Packing(up_to, half=settings.precision == "bfloat16")


if __name__ == "__main__":
    main()
