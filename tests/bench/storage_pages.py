"""Pages of many artifacts; used by `tests.bench.storage`."""

import json
import pathlib
import time
from collections.abc import Iterator

import grpc
import psycopg

from tests.e2e.local_stack import LocalStack
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc

_PAGES = 100


def pages(stack: LocalStack, data: pathlib.Path, count: int) -> None:
    """Pages of 50 and of 1,000 among `count` artifacts, from the first to the last."""
    kept = json.loads((data / "settings.json").read_text())
    address = stack.state()["addresses"]["postgres"]
    _fill(f"postgresql://tunesmith:{kept['postgres_password']}@{address}/tunesmith", count)
    print(f"\n{count:,} artifacts with three files each, {_PAGES} pages one after the other:\n")
    print("| page | p50, ms | p99, ms |\n|---|---|---|")
    with grpc.insecure_channel(
        stack.state()["addresses"]["storage"], options=[("grpc.max_receive_message_length", 2**26)]
    ) as channel:
        stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        for size in (50, 1000):
            times = sorted(_page_times(stub, size))
            print(f"| {size} | {times[len(times) // 2]:.1f} | {times[int(len(times) * 0.99)]:.1f} |")


def _page_times(stub: artifact_service_pb2_grpc.ArtifactServiceStub, size: int) -> Iterator[float]:
    token = ""
    for _ in range(_PAGES):
        started = time.perf_counter()
        page = stub.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(page_size=size, page_token=token))
        yield (time.perf_counter() - started) * 1000
        token = page.next_page_token


def _fill(dsn: str, count: int) -> None:
    manifest = artifact_pb2.ArtifactManifest(base_model="baseModels/tiny", versions={"torch": "2.13.0", "peft": "0.21.2"})
    manifest.metrics.update({"loss": 0.5, "eval_loss": 0.6})
    manifest.files.extend(artifact_pb2.File(path=f"file-{n}", size_bytes=1, sha256=f"{n:064x}") for n in range(3))
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO storage.blob (sha256, size_bytes, object_key) SELECT lpad(n::text, 64, '0'), 1, 'blobs/bench' || n"
            " FROM generate_series(0, 2) AS n ON CONFLICT DO NOTHING"
        )
        cursor.execute(
            "INSERT INTO storage.artifact (id, kind, task, epoch, request_id, manifest, size_bytes, create_time, expire_time)"
            " SELECT gen_random_uuid(), 'ADAPTER', gen_random_uuid(), 1, 'r', %(manifest)s, 3, now() - n * interval '1 second',"
            " now() + interval '15 days' FROM generate_series(1, %(count)s) AS n",
            {"manifest": manifest.SerializeToString(), "count": count},
        )
        cursor.execute(
            "INSERT INTO storage.artifact_file (artifact, position, path, sha256) SELECT id, n, 'file-' || n,"
            " lpad(n::text, 64, '0') FROM storage.artifact, generate_series(0, 2) AS n WHERE request_id = 'r'"
            " ON CONFLICT DO NOTHING"
        )
        connection.commit()
        connection.autocommit = True
        cursor.execute("ANALYZE storage.artifact, storage.artifact_file, storage.blob")
