"""Throughput of storage beside the MinIO SDK on the same files and the same server, and pages of 10,000 artifacts.

`python -m tests.bench.storage [--size-mb 256] [--rounds 5] [--artifacts 10000]`. A whole local stack runs; every transfer goes
from a file on disk to the object store or back to a file, by turns, and the median counts. Peaks are what the system counts
(VmHWM) of the storage service, set back before each transfer.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator

import grpc
import minio
import psutil
import psycopg

from tests.e2e.local_stack import LocalStack, local_stack
from tunesmith.dataset_parts import _Sender
from tunesmith.direct_download import DirectDownload
from tunesmith.transfers import receive
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc, dataset_service_pb2
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub

CHUNK_BYTES = 2**20
_PAGES = 100
_BUCKET = "bench"
_UPLOAD = artifact_service_pb2.UploadArtifactRequest


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--artifacts", type=int, default=10_000)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        with local_stack(root / "data", "--no-base-model") as stack:
            transfers(Bench(stack, root, options.size_mb), options.rounds)
            pages(stack, root / "data", options.artifacts)
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


class Bench:
    """A stack, a client of it, and the SDK beside it."""

    def __init__(self, stack: LocalStack, root: pathlib.Path, size_mb: int) -> None:
        addresses = stack.state()["addresses"]
        kept = json.loads((root / "data" / "settings.json").read_text())
        options = [("grpc.max_receive_message_length", 16 * CHUNK_BYTES)]
        self.channel = grpc.insecure_channel(addresses["storage"], options=options)
        self.artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(self.channel)
        self.datasets = DatasetServiceStub(self.channel)
        self.sdk = minio.Minio(
            addresses["object_store"], kept["s3_access_key"], kept["s3_secret_key"], secure=False, region="us-east-1"
        )
        self.sdk.make_bucket(_BUCKET)
        self.storage_pid, self.s3_pid, self.size_mb = stack.pid("storage"), stack.pid("object_store"), size_mb
        self.file, self.out = root / "file", root / "out"
        self.name = ""

    def new_file(self) -> None:
        """Other bytes each time: equal contents are not stored twice."""
        with self.file.open("wb") as out:
            for _ in range(self.size_mb):
                out.write(os.urandom(CHUNK_BYTES))

    def rpc_upload(self) -> None:
        """UploadArtifact; the SHA-256 the caller has to declare is part of it."""
        with self.file.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        described = artifact_pb2.File(path="file.safetensors", size_bytes=self.file.stat().st_size, sha256=sha256)
        manifest = artifact_pb2.ArtifactManifest(files=[described], task=f"tasks/{uuid.uuid4()}")
        header = artifact_service_pb2.ArtifactHeader(
            kind=artifact_pb2.Artifact.ADAPTER, manifest=manifest, epoch=1, request_id="r"
        )
        self.name = self.artifacts.UploadArtifact(self._messages(header)).name

    def rpc_download(self) -> None:
        """DownloadArtifact into a file, compared with its checksum as the client does."""
        request = artifact_service_pb2.DownloadArtifactRequest(name=self.name, path="file.safetensors")
        digest = hashlib.sha256()
        with self.out.open("wb") as out:
            for part in self.artifacts.DownloadArtifact(request):
                digest.update(part.chunk)
                out.write(part.chunk)

    def direct_download(self) -> None:
        """In ranges from the object store, by a presigned URL, received as the client receives files."""
        size = self.file.stat().st_size
        described = artifact_pb2.File(path="file.safetensors", size_bytes=size)

        def sign(path: str) -> artifact_service_pb2.SignedDownload:
            return self.artifacts.SignArtifactDownload(
                artifact_service_pb2.SignArtifactDownloadRequest(name=self.name, path=path)
            )

        def refuse(path: str, offset: int) -> Iterator[bytes]:
            raise AssertionError(f"{path} came through the service from {offset}")

        source = DirectDownload([described], refuse, sign)
        receive(lambda offset: source.read(described.path, offset), self.out, key="bench", sha256="", progress=lambda _: None)

    def sdk_upload(self) -> None:
        """fput_object."""
        self.sdk.fput_object(_BUCKET, "file", str(self.file))

    def sdk_download(self) -> None:
        """fget_object."""
        self.sdk.fget_object(_BUCKET, "file", str(self.out))

    def sdk_verified_download(self) -> None:
        """fget_object, and the SHA-256 that ours compare."""
        self.sdk_download()
        with self.out.open("rb") as source:
            hashlib.file_digest(source, "sha256")

    def parts_upload(self) -> None:
        """The parts of CreateDatasetUpload, as the client sends them; their check afterwards is not part of it."""
        size = self.file.stat().st_size
        header = dataset_service_pb2.DatasetHeader(display_name="bench")
        begun = self.datasets.CreateDatasetUpload(dataset_service_pb2.CreateDatasetUploadRequest(header=header, size_bytes=size))
        _Sender(self.file, size, None).send(begun.parts)
        self.datasets.AbortDatasetUpload(dataset_service_pb2.AbortDatasetUploadRequest(name=begun.name))

    def processor(self) -> list[float]:
        """Seconds of processor so far: client, storage, S3 server."""
        return [time.process_time(), *(sum(psutil.Process(pid).cpu_times()[:2]) for pid in (self.storage_pid, self.s3_pid))]

    def peak(self, work: Callable[[], None]) -> tuple[float, float]:
        """Seconds, and the MiB by which the storage service has grown at most."""
        pathlib.Path(f"/proc/{self.storage_pid}/clear_refs").write_text("5")
        before = _memory(self.storage_pid, "VmRSS")
        started = time.perf_counter()
        work()
        return time.perf_counter() - started, _memory(self.storage_pid, "VmHWM") - before

    def _messages(self, header: artifact_service_pb2.ArtifactHeader) -> Iterator[_UPLOAD]:
        yield _UPLOAD(header=header)
        yield _UPLOAD(path="file.safetensors")
        with self.file.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield _UPLOAD(chunk=chunk)


def transfers(bench: Bench, rounds: int) -> None:
    """By turns, so that whatever else the machine does hits all alike."""
    ways = {
        "MinIO SDK, fput_object": bench.sdk_upload,
        "UploadArtifact": bench.rpc_upload,
        "presigned parts": bench.parts_upload,
        "MinIO SDK, fget_object": bench.sdk_download,
        "MinIO SDK, fget_object and SHA-256": bench.sdk_verified_download,
        "DownloadArtifact": bench.rpc_download,
        "presigned ranges": bench.direct_download,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[list[float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        bench.new_file()
        for way, work in ways.items():
            before = bench.processor()
            taken, peak = bench.peak(work)
            if number:  # the first round warms up
                seconds[way].append(taken)
                peaks[way].append(peak)
                processor[way].append([after - then for after, then in zip(bench.processor(), before, strict=True)])
    print(f"{bench.size_mb} MiB, median of {rounds}:\n")
    print(
        "| way | MiB/s | of the SDK's | peak of storage, MiB | CPU seconds: client, storage, S3 server |\n|---|---|---|---|---|"
    )
    for way in ways:
        beside = (
            "MinIO SDK, fget_object" if any(word in way for word in ("ownload", "fget", "ranges")) else "MinIO SDK, fput_object"
        )
        share = statistics.median(seconds[beside]) / statistics.median(seconds[way])
        speed = bench.size_mb / statistics.median(seconds[way])
        spent = ", ".join(f"{statistics.median(each):.2f}" for each in zip(*processor[way], strict=True))
        print(f"| {way} | {speed:.0f} | {share:.2f} | {max(peaks[way]):.0f} | {spent} |")


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


def _memory(pid: int, field: str) -> float:
    """MiB."""
    with contextlib.closing(pathlib.Path(f"/proc/{pid}/status").open()) as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
