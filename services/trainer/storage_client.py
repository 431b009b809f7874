"""The trainer's side of storage: datasets in, adapters out; used by preparation and delivery."""

import asyncio
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

import grpc
from blake3 import blake3

from services.common.channels import call_metadata, translated
from services.common.errors import ServiceError
from services.common.failpoints import around
from services.common.verified_file import fetch_verified, write_verified
from services.trainer.composition import Split
from services.trainer.run import Request
from services.trainer.run_directory import Provenance, Result
from tunesmith.checksum import Checksum
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

Upload = artifact_service_pb2.UploadArtifactRequest

_CALL_SECONDS = 20.0
_CHUNK_BYTES = 512 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterFile:
    """A file to upload; `path` is relative to the adapter's directory."""

    path: str
    size_bytes: int
    sha256: str = ""
    """Of a file to upload: empty = BLAKE3 is computed while it is sent."""
    blake3: str = ""
    """Of a stored file: empty = storage does not know it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Adapter:
    """A finished adapter and all that its manifest says."""

    directory: pathlib.Path
    files: tuple[AdapterFile, ...]
    task: str
    provenance: Provenance
    result: Result
    request: Request
    """Its numbers go into the manifest as they came."""
    request_id: str
    labels: tuple[str, ...] = ()
    """Of a checkpoint."""
    eval_loss: float | None = None
    """Of a checkpoint."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAdapter:
    """What storage made of it. `expire_time` in seconds since 1970."""

    name: str
    size_bytes: int
    expire_time: float


@dataclasses.dataclass(frozen=True, slots=True)
class Learned:
    """How far a model was trained, and on what."""

    step: int = 0
    """Optimizer steps."""
    datasets: tuple[tuple[str, int], ...] = ()
    """Names and sizes in bytes, as far as they are still there."""
    split: Split | None = None
    """None = it learned all rows."""
    dataset_count: int = 0
    """Of all there were."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint that storage has committed. `create_time` in seconds since 1970."""

    name: str
    step: int
    attempt: int
    files: tuple[AdapterFile, ...]
    create_time: float


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetDigests:
    """SHA-256 of a dataset, lower-case hexadecimal."""

    sha256: str
    """Of the bytes as uploaded."""
    rows_sha256: str
    """Of its rows; empty when storage does not tell."""


class StorageClient:
    """Calls of one storage service; every failure is a ServiceError, STORAGE_UNAVAILABLE when it did not answer.

    `describe` tells what the manifest of a result says of how it was made.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        describe: Callable[[Adapter], artifact_pb2.ArtifactManifest],
        api_key: str = "",
    ) -> None:
        self._describe = describe
        self._datasets = dataset_service_pb2_grpc.DatasetServiceStub(channel)
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._api_key = api_key

    async def fetch_dataset(self, name: str, target: pathlib.Path, on_download: Callable[[], None]) -> DatasetDigests:
        """Brings the rows of a dataset to `target`, a JSON object a line, unless they are there already.

        Calls `on_download` before bytes move. Raises NotFound, and CHECKSUM_MISMATCH when other bytes than stored arrive.
        """
        with translated("STORAGE_UNAVAILABLE", "storage"):
            request = dataset_service_pb2.GetDatasetRequest(name=name)
            dataset = await self._datasets.GetDataset(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
            # Of datasets from before rows were kept by themselves, the uploaded file is the rows.
            expected = dataset.rows_sha256 or dataset.sha256
            if not await asyncio.to_thread(_has_digest, target, expected):
                on_download()
                await write_verified(target, Checksum(expected), self._dataset_chunks(name, has_rows=bool(dataset.rows_sha256)))
        return DatasetDigests(dataset.sha256, dataset.rows_sha256)

    async def learned(self, model: str) -> Learned:
        """Of `artifacts/{uuid}` and versions of registered models; every other model has learned nothing here.

        Raises NotFound for one that is gone.
        """
        manifest = await self._manifest(model)
        sizes = {name: await self._dataset_size(name) for name in dict.fromkeys(use.dataset for use in manifest.datasets)}
        known = tuple((name, size) for name, size in sizes.items() if size is not None)
        return Learned(manifest.step, known, _split(manifest), len(sizes))

    async def upload_dataset(self, display_name: str, path: pathlib.Path) -> str:
        """Stores a file of rows as a dataset and returns its name; the same rows under the same name are the same dataset."""
        with translated("STORAGE_UNAVAILABLE", "storage"):
            dataset = await self._datasets.UploadDataset(_rows(display_name, path), metadata=call_metadata(self._api_key))
        return str(dataset.name)

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        """Stores an adapter; a repeat with the same request_id returns the first. Raises STALE_EPOCH."""
        described = self._describe(adapter)
        with translated("STORAGE_UNAVAILABLE", "storage"), around("upload"):
            artifact = await self._artifacts.UploadArtifact(_upload(adapter, described), metadata=call_metadata(self._api_key))
        return StoredAdapter(artifact.name, artifact.size_bytes, artifact.expire_time.ToMicroseconds() / 1e6)

    async def list_checkpoints(self, task: str) -> list[StoredCheckpoint]:
        """What storage has committed of a task and still serves."""
        request = artifact_service_pb2.ListArtifactsRequest(task=task, kind=artifact_pb2.Artifact.CHECKPOINT, page_size=1000)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            answer = await self._artifacts.ListArtifacts(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return [_stored_checkpoint(artifact) for artifact in answer.artifacts]

    async def fetch_file(self, artifact: str, file: AdapterFile, target: pathlib.Path) -> None:
        """Brings one file of an artifact to `target`; raises NotFound, and CHECKSUM_MISMATCH when other bytes arrive."""
        with translated("STORAGE_UNAVAILABLE", "storage"):
            await fetch_verified(target, Checksum.of(file), functools.partial(self._file_chunks, artifact, file.path))

    async def _manifest(self, model: str) -> artifact_pb2.ArtifactManifest:
        metadata = call_metadata(self._api_key)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            if model.startswith("artifacts/"):
                artifact = artifact_service_pb2.GetArtifactRequest(name=model)
                return (await self._artifacts.GetArtifact(artifact, timeout=_CALL_SECONDS, metadata=metadata)).manifest
            if model.startswith("models/"):
                version = model_service_pb2.GetModelVersionRequest(name=model)
                return (await self._models.GetModelVersion(version, timeout=_CALL_SECONDS, metadata=metadata)).manifest
        return artifact_pb2.ArtifactManifest()

    async def _dataset_size(self, name: str) -> int | None:
        """In bytes; None when it does not exist any more."""
        request = dataset_service_pb2.GetDatasetRequest(name=name)
        try:
            with translated("STORAGE_UNAVAILABLE", "storage"):
                dataset = await self._datasets.GetDataset(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        except ServiceError as error:
            if error.reason != "DATASET_NOT_FOUND":
                raise
            return None
        return int(dataset.size_bytes)

    async def _file_chunks(self, artifact: str, path: str, caller_verifies: bool) -> AsyncIterator[bytes]:
        request = artifact_service_pb2.DownloadArtifactRequest(name=artifact, path=path, caller_verifies=caller_verifies)
        async for response in self._artifacts.DownloadArtifact(request, metadata=call_metadata(self._api_key)):
            yield response.chunk

    async def _dataset_chunks(self, name: str, *, has_rows: bool) -> AsyncIterator[bytes]:
        request = dataset_service_pb2.DownloadDatasetRequest(name=name)
        request.content = request.ROWS if has_rows else request.ORIGINAL
        async for response in self._datasets.DownloadDataset(request, metadata=call_metadata(self._api_key)):
            yield response.chunk


def adapter_files(directory: pathlib.Path) -> tuple[AdapterFile, ...]:
    """Every file below `directory` with its size, sorted by path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return tuple(AdapterFile(path.relative_to(directory).as_posix(), path.stat().st_size) for path in paths)


def _split(manifest: artifact_pb2.ArtifactManifest) -> Split | None:
    if not manifest.HasField("validation_split_ratio"):
        return None
    return Split(manifest.validation_split_ratio, manifest.effective_hyperparameters.seed)


def _stored_checkpoint(artifact: artifact_pb2.Artifact) -> StoredCheckpoint:
    manifest = artifact.manifest
    files = tuple(AdapterFile(file.path, file.size_bytes, file.sha256, file.blake3) for file in manifest.files)
    return StoredCheckpoint(artifact.name, manifest.step, manifest.attempt, files, artifact.create_time.ToMicroseconds() / 1e6)


async def _rows(display_name: str, path: pathlib.Path) -> AsyncIterator[dataset_service_pb2.UploadDatasetRequest]:
    yield dataset_service_pb2.UploadDatasetRequest(header=dataset_service_pb2.DatasetHeader(display_name=display_name))
    with path.open("rb") as content:
        while chunk := await asyncio.to_thread(content.read, _CHUNK_BYTES):
            yield dataset_service_pb2.UploadDatasetRequest(chunk=chunk)


async def _upload(adapter: Adapter, described: artifact_pb2.ArtifactManifest) -> AsyncIterator[Upload]:
    yield Upload(header=_header(adapter, described))
    for file in adapter.files:
        yield Upload(path=file.path)
        digest = None if file.sha256 else blake3()
        with (adapter.directory / file.path).open("rb") as content:
            while chunk := await asyncio.to_thread(_read, content, digest):
                yield Upload(chunk=chunk)
        if digest is not None:
            yield Upload(blake3=digest.hexdigest())


def _read(content: BinaryIO, digest: blake3 | None) -> bytes:
    chunk = content.read(_CHUNK_BYTES)
    if digest is not None:
        digest.update(chunk)
    return chunk


def _header(adapter: Adapter, described: artifact_pb2.ArtifactManifest) -> artifact_service_pb2.ArtifactHeader:
    manifest = artifact_pb2.ArtifactManifest(
        files=[artifact_pb2.File(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in adapter.files],
        task=adapter.task,
        step=adapter.result.step,
        versions=adapter.result.versions,
        metrics=adapter.result.metrics,
        rendered_rows_sha256=adapter.result.rendered_rows_sha256,
        attempt=adapter.request.name.attempt,
        labels=adapter.labels,
        eval_loss=adapter.eval_loss,
    )
    manifest.MergeFrom(described)
    return artifact_service_pb2.ArtifactHeader(
        kind=artifact_pb2.Artifact.Kind.Value(adapter.result.kind),
        manifest=manifest,
        epoch=adapter.request.epoch,
        request_id=adapter.request_id,
        first_attempt=adapter.request.first_attempt,
    )


def _has_digest(path: pathlib.Path, sha256: str) -> bool:
    return path.exists() and _digest(path) == sha256


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
