"""`python -m services.storage` as an operator meets it."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from embedded import S3
from grpc_health.v1 import health_pb2, health_pb2_grpc
from integration.storage.relay import Relay
from tiny_model import make_tiny_model
from unit.storage.artifact_suite import until
from unit.storage.import_suite import base_files
from unit.storage.server_import_suite import take
from unit.storage.service import Service, artifact_messages, lines, model_messages, row

from services.common.bundles import BundleStore
from services.storage.object_store import MinioObjectStore
from tunesmith.local.ports import pick_free
from tunesmith.v1 import artifact_service_pb2, model_service_pb2

pytestmark = pytest.mark.integration


def environment(dsn: str, s3: S3, **changes: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TUNESMITH_STORAGE_LISTEN": f"127.0.0.1:{pick_free(1)[0]}",
        "TUNESMITH_POSTGRES_DSN": dsn,
        "TUNESMITH_S3_ENDPOINT": s3.endpoint,
        "TUNESMITH_S3_ACCESS_KEY": s3.access_key,
        "TUNESMITH_S3_SECRET_KEY": s3.secret_key,
        "TUNESMITH_S3_BUCKET": s3.bucket,
    } | changes


class Process:
    """A started service; its log is what it wrote to standard error."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self.address = settings["TUNESMITH_STORAGE_LISTEN"]
        self.log = log
        command = [sys.executable, "-m", "services.storage"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, env=settings, stdout=output, stderr=output)

    async def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        async with grpc.aio.insecure_channel(self.address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            return answer.status == health_pb2.HealthCheckResponse.SERVING

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines()]

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 30)


Start = Callable[..., Process]


@pytest.fixture
async def start(empty_dsn: str, s3: S3, tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    def start(**changes: str) -> Process:
        started.append(Process(environment(empty_dsn, s3, **changes), tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        await process.ended()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_and_data_survive(start: Start, number: signal.Signals) -> None:
    first = start()
    await until(first.answers, seconds=60)
    async with grpc.aio.insecure_channel(first.address) as channel:
        dataset = await Service(channel, set).upload(lines(row()))
    first.process.send_signal(number)
    assert await first.ended() == 0
    assert first.events()[-1] == "server.stopped"
    second = start()
    await until(second.answers, seconds=60)
    async with grpc.aio.insecure_channel(second.address) as channel:
        assert await Service(channel, set).download(dataset.name) == lines(row())


async def test_models_are_read_from_the_places_of_the_settings(
    start: Start, store: MinioObjectStore, s3: S3, tmp_path: Path
) -> None:
    root = tmp_path / "elsewhere"
    process = start(TUNESMITH_STORAGE_IMPORT_ROOT=str(root), TUNESMITH_STORAGE_IMPORT_S3=f"{s3.bucket}/offered/here")
    for path, content in base_files().items():
        (root / "whole").mkdir(parents=True, exist_ok=True)
        (root / "whole" / path).write_bytes(content)
        await store.put(f"offered/here/whole/{path}", io.BytesIO(content), len(content))
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        service = Service(channel, set)
        places = [model_service_pb2.ServerPlace(directory="whole"), model_service_pb2.ServerPlace(s3_prefix="whole")]
        first, second = [await take(service, place) for place in places]
    assert list(first.manifest.files) == list(second.manifest.files)


async def test_it_listens_once_postgres_and_s3_are_there(start: Start, s3: S3) -> None:
    async with Relay(s3.endpoint.removeprefix("http://")) as relay:
        await relay.cut()
        process = start(TUNESMITH_S3_ENDPOINT=f"http://127.0.0.1:{relay.port}")

        async def waits() -> bool:
            return "dependency.awaited" in process.events()

        await until(waits, seconds=60)
        assert not await process.answers()
        await relay.restore()
        await until(process.answers, seconds=60)


async def test_a_signal_ends_the_wait_too(start: Start) -> None:
    process = start(TUNESMITH_S3_ENDPOINT=f"http://127.0.0.1:{pick_free(1)[0]}")

    async def waits() -> bool:
        return "dependency.awaited" in process.events()

    await until(waits, seconds=60)
    process.process.send_signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_it_gives_up_when_nothing_comes(start: Start) -> None:
    process = start(TUNESMITH_S3_ENDPOINT=f"http://127.0.0.1:{pick_free(1)[0]}", TUNESMITH_STORAGE_START_TIMEOUT="1ms")
    assert await process.ended() == 1
    assert process.log.read_text().splitlines()[-1].startswith("error: the S3 server did not do its part")
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TUNESMITH_STORAGE_LISTNE": "x"}, "did you mean TUNESMITH_STORAGE_LISTEN?"),
        ({"TUNESMITH_STORAGE_LISTEN": "0.0.0.0:1"}, "reachable from outside"),
        ({"TUNESMITH_POSTGRES_DSN": "postgres//lab:pw@nowhere"}, "TUNESMITH_POSTGRES_DSN: expected postgresql://"),
    ],
)
async def test_a_wrong_setting_is_told_in_one_line(start: Start, changes: dict[str, str], says: str) -> None:
    process = start(**changes)
    assert await process.ended() == 2
    (line,) = process.log.read_text().splitlines()
    assert line.startswith("error: ")
    assert "pw" not in line
    assert says in line


async def test_a_client_killed_in_the_middle_leaves_neither_row_nor_bytes(start: Start, s3: S3, client: object) -> None:
    process = start()
    await until(process.answers, seconds=60)

    def count() -> int:
        return len(list(client.list_objects(s3.bucket, recursive=True)))

    async def stored(number: int) -> bool:
        return await asyncio.to_thread(count) == number

    script = (
        "import sys, time, grpc\n"
        "from tunesmith.v1 import artifact_service_pb2 as pb, artifact_service_pb2_grpc as stubs\n"
        "messages = [pb.UploadArtifactRequest.FromString(bytes.fromhex(text)) for text in sys.argv[2:]]\n"
        "def slowly():\n    yield from messages\n    time.sleep(600)\n"
        "stubs.ArtifactServiceStub(grpc.insecure_channel(sys.argv[1])).UploadArtifact(slowly())\n"
    )
    messages = artifact_messages({"a.bin": b"whole", "b.bin": b"never whole"})[:-1]
    arguments = [process.address, *(message.SerializeToString().hex() for message in messages)]
    uploader = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", script, *arguments])
    try:
        await until(lambda: stored(1), seconds=60)
    finally:
        uploader.kill()
        await asyncio.to_thread(uploader.wait)
    await until(lambda: stored(0), seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        listed = await Service(channel, set).artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest())
    assert not listed.artifacts


async def test_stopping_in_the_middle_of_an_upload_leaves_neither_row_nor_bytes(start: Start, s3: S3, client: object) -> None:
    process = start()
    await until(process.answers, seconds=60)

    async def stored(number: int) -> bool:
        return len(await asyncio.to_thread(lambda: list(client.list_objects(s3.bucket, recursive=True)))) == number

    async with grpc.aio.insecure_channel(process.address) as channel:
        call = Service(channel, set).artifacts.UploadArtifact()
        for message in artifact_messages({"a.bin": b"whole", "b.bin": b"never whole"})[:-1]:
            await call.write(message)
        await until(lambda: stored(1), seconds=60)
        process.process.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert await stored(0)


async def test_a_registered_model_is_fetched_whole_by_the_shared_cache(start: Start, tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "tiny")
    files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    process = start()
    await until(process.answers, seconds=60)
    async with grpc.aio.insecure_channel(process.address) as channel:
        model = await Service(channel, set).models.RegisterBaseModel(model_messages(files))
        bundle = await BundleStore(channel, tmp_path / "cache").base_model("baseModels/tiny")
    assert {path.name: path.read_bytes() for path in bundle.directory.iterdir()} == files
    assert (bundle.base_model_revision, bundle.directory.name) == (model.revision, model.revision)


async def test_it_can_be_explored_by_reflection(start: Start, tmp_path: Path) -> None:
    process = start()
    await until(process.answers, seconds=60)
    buf = Path(sys.executable).with_name("buf")
    content = lines(row())
    messages = [{"header": {"displayName": "by hand", "requestId": str(uuid.UUID(int=7))}}]
    messages.append({"chunk": base64.b64encode(content).decode()})
    command = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", "\n".join(map(json.dumps, messages))]
    url = f"http://{process.address}/tunesmith.v1.DatasetService/UploadDataset"
    variables = os.environ | {"HOME": str(tmp_path)}
    answer = await asyncio.to_thread(subprocess.run, [*command, url], env=variables, capture_output=True, timeout=60)
    assert answer.returncode == 0, answer.stderr.decode()
    assert json.loads(answer.stdout)["displayName"] == "by hand"
