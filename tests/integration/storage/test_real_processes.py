"""Datasets through the real checker, tokenizer and task manager's contract, over Postgres and S3."""

import datetime
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tiny_model import make_tiny_model
from unit.storage.dataset_suite import BAD
from unit.storage.dataset_tokens_suite import analyze, preview
from unit.storage.service import Service, lines, refused, row

from services.common.interceptors import EdgeInterceptor
from services.storage.base_model_files import BaseModelFiles
from services.storage.object_store import MinioObjectStore
from services.storage.process_checker import start_checker
from services.storage.registration import Repositories, Surroundings, register
from services.storage.sweeper import Sweeper
from services.storage.tokens.client import TokenWorker
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

pytestmark = pytest.mark.integration
Content = dataset_service_pb2.DownloadDatasetRequest


@pytest.fixture
async def service(
    repositories: Repositories, store: MinioObjectStore, service: Service, tmp_path: Path
) -> AsyncIterator[Service]:
    server = grpc.aio.server(interceptors=[EdgeInterceptor()])
    port = server.add_insecure_port("127.0.0.1:0")
    files = BaseModelFiles(store, tmp_path / "cache")
    around = Surroundings(
        store=store,
        sweeper=Sweeper(repositories.sweeps, repositories.pending, store, limit=1000),
        start_checker=start_checker,
        tokens=TokenWorker(),
        small_files=files,
        tasks=service.tasks,
        upload_lifetime=datetime.timedelta(hours=24),
    )
    register(server, repositories, around)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(channel, service.keys, store=store, repositories=repositories)
    await server.stop(2.0)


def small_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


async def test_an_array_is_kept_whole_and_trains_as_lines(service: Service) -> None:
    content = json.dumps([row("a"), row("b")], indent=2).encode()
    dataset = await service.upload(content)
    assert await service.download(dataset.name) == content
    rows = await service.download(dataset.name, content=Content.ROWS)
    assert [json.loads(line) for line in rows.splitlines()] == [row("a"), row("b")]
    assert hashlib.sha256(rows).hexdigest() == dataset.rows_sha256
    assert (dataset.format, dataset.statistics.message_count) == (dataset_pb2.Dataset.CHAT, 4)


async def test_bad_rows_are_refused_by_place_or_left_out_by_budget(service: Service) -> None:
    content = lines(row("a"), BAD, row("b"))
    async with refused("DATASET_INVALID") as refusal:
        await service.upload(content)
    assert any(field.startswith("line 2") and "messages[1].role" in field for field in refusal.fields)
    assert await service.keys() == set()
    dataset = await service.upload(content, max_invalid_rows=1)
    assert (dataset.statistics.example_count, dataset.dropped_row_count) == (2, 1)
    (dropped,) = (await service.download(dataset.name, content=Content.DROPPED)).splitlines()
    assert json.loads(dropped)["line"] == 2


async def test_a_check_reports_what_an_upload_would_refuse(service: Service) -> None:
    report = await service.check(lines(row(), BAD))
    assert (report.valid, report.violation_count) == (False, 1)
    assert (await service.check(lines(row()))).valid


async def test_a_model_is_gated_and_its_view_of_rows_is_exact(service: Service, tmp_path: Path) -> None:
    model = await service.register_model(small_files(make_tiny_model(tmp_path / "tiny")), context_length=512)
    assert model.chat_template_problem == ""
    dataset = await service.upload(lines(*(row(f"answer {n}") for n in range(3000))))
    shown = await preview(service, dataset.name, row=2500, row_count=2)
    assert [each.row for each in shown] == [2500, 2501]
    (rendering,) = shown[0].renderings
    assert "answer 2499" in rendering.text
    learned = "".join(rendering.text[token.start : token.end] for token in rendering.tokens if token.trained)
    assert learned.startswith("answer 2499<|im_end|>")
    packed = b"".join(struct.pack("<I?", token.id, token.trained) for token in rendering.tokens)
    assert hashlib.sha256(packed).hexdigest() == shown[0].sha256


async def test_counts_and_shared_rows_are_exact(service: Service, tmp_path: Path) -> None:
    await service.register_model(small_files(make_tiny_model(tmp_path / "tiny")), context_length=512)
    dataset = await service.upload(lines(*(row(f"answer {n}") for n in range(50))))
    other = await service.upload(lines(row("answer 7"), row("something else")), display_name="held out")
    analysis = await analyze(service, dataset.name, base_model="tiny", against=other.name)
    shown = [each for n in (1, 21, 41) for each in await preview(service, dataset.name, row=n, row_count=20)]
    tokens = [token for each in shown for token in each.renderings[0].tokens]
    assert analysis.tokens.example_count == len(shown) == 50
    assert analysis.tokens.token_count == len(tokens)
    assert analysis.tokens.trainable_token_count == sum(token.trained for token in tokens)
    assert (analysis.tokens.base_model, analysis.tokens.max_seq_length) == ("baseModels/tiny", 512)
    assert (analysis.overlap.same_row_count, analysis.overlap.against) == (1, other.name)
    assert 8 in analysis.overlap.rows
    assert await analyze(service, dataset.name, base_model="tiny", against=other.name) == analysis


async def test_a_template_without_an_end_of_turn_is_registered_with_its_problem(service: Service, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    model = await service.register_model(small_files(make_tiny_model(tmp_path / "bad", chat_template=template)))
    assert model.chat_template_problem
    dataset = await service.upload(lines(row()))
    async with refused("CHAT_TEMPLATE_UNUSABLE") as refusal:
        await preview(service, dataset.name)
    assert model.chat_template_problem in refusal.message
