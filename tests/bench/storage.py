"""Throughput of storage beside the MinIO SDK on the same files and the same server, and pages of 10,000 artifacts.

`python -m tests.bench.storage [--size-mb 128] [--rounds 8] [--artifacts 10000]`. A whole local stack runs; every transfer goes
from a file on disk to the object store or back to a new file, by turns, and the median counts. Peaks are what the system counts
(VmHWM) of the storage service, set back before each transfer.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import time
import uuid
from collections.abc import Iterator

import grpc
import minio
import psutil
from blake3 import blake3

from tests.bench.storage_pages import pages
from tests.bench.transfer_rounds import Measured, Way, in_turns, settle, table
from tests.e2e.local_stack import LocalStack, local_stack
from tunesmith.checksum import Checksum
from tunesmith.dataset_parts import _Sender
from tunesmith.direct_download import DirectDownload
from tunesmith.transfers import receive
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc, dataset_service_pb2
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub

CHUNK_BYTES = 2**20
_BUCKET = "bench"
_UPLOAD = artifact_service_pb2.UploadArtifactRequest


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=8)
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
        self.name, self.checksum = "", Checksum()

    def new_file(self) -> None:
        """Other bytes each time: equal contents are not stored twice."""
        with self.file.open("wb") as out:
            for _ in range(self.size_mb):
                out.write(os.urandom(CHUNK_BYTES))

    def rpc_upload(self) -> None:
        """UploadArtifact; the BLAKE3 is computed while the file is sent, as runners do."""
        described = artifact_pb2.File(path="file.safetensors", size_bytes=self.file.stat().st_size)
        manifest = artifact_pb2.ArtifactManifest(files=[described], task=f"tasks/{uuid.uuid4()}")
        header = artifact_service_pb2.ArtifactHeader(
            kind=artifact_pb2.Artifact.ADAPTER, manifest=manifest, epoch=1, request_id="r"
        )
        artifact = self.artifacts.UploadArtifact(self._messages(header))
        self.name, self.checksum = artifact.name, Checksum.of(artifact.manifest.files[0])

    def rpc_download(self) -> None:
        """DownloadArtifact into a file, received as the client receives files."""

        def fetch(offset: int) -> Iterator[bytes]:
            request = artifact_service_pb2.DownloadArtifactRequest(
                name=self.name, path="file.safetensors", offset=offset, caller_verifies=True
            )
            return (part.chunk for part in self.artifacts.DownloadArtifact(request))

        receive(fetch, self.out, key="bench", checksum=self.checksum, progress=lambda _: None)

    def direct_download(self) -> None:
        """Straight from the object store by a presigned URL, received as the client receives files."""
        size = self.file.stat().st_size
        described = artifact_pb2.File(path="file.safetensors", size_bytes=size)

        def sign(path: str) -> artifact_service_pb2.SignedDownload:
            return self.artifacts.SignArtifactDownload(
                artifact_service_pb2.SignArtifactDownloadRequest(name=self.name, path=path)
            )

        def refuse(path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
            raise AssertionError(f"{path} came through the service from {offset}")

        source = DirectDownload([described], refuse, sign)
        receive(
            lambda offset: source.read(described.path, offset),
            self.out,
            key="bench",
            checksum=self.checksum,
            progress=lambda _: None,
        )

    def sdk_upload(self) -> None:
        """fput_object."""
        self.sdk.fput_object(_BUCKET, "file", str(self.file))

    def sdk_download(self) -> None:
        """fget_object."""
        self.sdk.fget_object(_BUCKET, "file", str(self.out))

    def sdk_verified_download(self) -> None:
        """fget_object, and a SHA-256."""
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

    def measured(self, work: Way) -> Measured:
        """One transfer on a machine that has settled; downloads make a new file."""
        self.out.unlink(missing_ok=True)
        settle()
        pathlib.Path(f"/proc/{self.storage_pid}/clear_refs").write_text("5")
        size, spent, started = _memory(self.storage_pid, "VmRSS"), self._processor(), time.perf_counter()
        work()
        seconds, after = time.perf_counter() - started, self._processor()
        grown = _memory(self.storage_pid, "VmHWM") - size
        return Measured(seconds, grown, [now - then for now, then in zip(after, spent, strict=True)])

    def _processor(self) -> list[float]:
        """Seconds of processor so far: client, storage, S3 server."""
        return [time.process_time(), *(sum(psutil.Process(pid).cpu_times()[:2]) for pid in (self.storage_pid, self.s3_pid))]

    def _messages(self, header: artifact_service_pb2.ArtifactHeader) -> Iterator[_UPLOAD]:
        yield _UPLOAD(header=header)
        yield _UPLOAD(path="file.safetensors")
        digest = blake3()
        with self.file.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                yield _UPLOAD(chunk=chunk)
        yield _UPLOAD(blake3=digest.hexdigest())


def transfers(bench: Bench, rounds: int) -> None:
    """Every way once in each round: uploads, then downloads of what was uploaded."""
    uploads = {
        "MinIO SDK, `fput_object`": bench.sdk_upload,
        "`UploadArtifact`": bench.rpc_upload,
        "presigned parts": bench.parts_upload,
    }
    downloads = {
        "MinIO SDK, `fget_object`": bench.sdk_download,
        "the same, and a SHA-256": bench.sdk_verified_download,
        "`DownloadArtifact`": bench.rpc_download,
        "presigned ranges": bench.direct_download,
    }
    found: dict[str, list[Measured]] = {way: [] for way in (*uploads, *downloads)}
    for number in range(rounds + 1):
        bench.new_file()
        for ways in (uploads, downloads):
            for way in in_turns(tuple(ways), number):
                measured = bench.measured(ways[way])
                if number:  # the first round warms up
                    found[way].append(measured)
    print(f"{bench.size_mb} MiB, {rounds} rounds:")
    for ways in (uploads, downloads):
        print("", *table({way: found[way] for way in ways}, bench.size_mb), sep="\n")


def _memory(pid: int, field: str) -> float:
    """MiB."""
    with contextlib.closing(pathlib.Path(f"/proc/{pid}/status").open()) as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
