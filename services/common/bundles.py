"""Fetches the files of base models and artifacts from storage into a cache keyed by content; used by trainer and inference."""

import asyncio
import dataclasses
import functools
import pathlib
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterable

import grpc
import structlog

from services.common.blocking import in_thread
from services.common.channels import call_metadata, translated
from services.common.content_key import content_key
from services.common.disk_cache import DiskCache
from services.common.verified_file import fetch_verified
from tunesmith.checksum import Checksum
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
)

log = structlog.get_logger()

_CALL_SECONDS = 20.0
_KIND = artifact_pb2.Artifact.Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """A directory with every file of a base model or artifact, complete and verified."""

    name: str
    """Resource name: `baseModels/{id}`, `artifacts/{uuid}` or `models/{id}/versions/{version}`."""
    directory: pathlib.Path
    base_model: str
    """The base model beneath; of a base model, itself."""
    base_model_revision: str
    is_adapter: bool = False
    """Not a model by itself: it goes into the base model beneath."""
    kind: str = ""
    """Of an artifact or a version: the name of its kind or format."""
    manifest: bytes = b""
    """Of an artifact: its ArtifactManifest, serialised."""


Chunks = Callable[[str, bool], AsyncIterator[bytes]]
"""The bytes of a file, by path, and whether the caller verifies them."""


class BundleStore:
    """Local copies of what storage has, below `root`, of at most `max_bytes`, 0 = without limit; processes may share a root."""

    def __init__(self, channel: grpc.aio.Channel, root: pathlib.Path, *, api_key: str = "", max_bytes: int = 0) -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._root = root
        self._cache = DiskCache(root, max_bytes)
        self._api_key = api_key
        self._locks: dict[str, asyncio.Lock] = {}

    async def base_model(self, name: str) -> Bundle:
        """A base model's files; raises NotFound, Unavailable (STORAGE_UNAVAILABLE) or CHECKSUM_MISMATCH."""
        with translated("STORAGE_UNAVAILABLE", "storage"):
            request = model_service_pb2.GetBaseModelRequest(name=name)
            model = await self._models.GetBaseModel(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        directory = await self._fetch(model.files, functools.partial(self._model_chunks, model.name))
        return Bundle(model.name, directory, model.name, model.revision)

    async def artifact(self, name: str) -> Bundle:
        """An artifact's files, which must not expire while they are used; raises as `base_model` does."""
        with translated("STORAGE_UNAVAILABLE", "storage"):
            request = artifact_service_pb2.HoldArtifactRequest(name=name)
            artifact = await self._artifacts.HoldArtifact(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        manifest = artifact.manifest
        directory = await self._fetch(manifest.files, functools.partial(self._artifact_chunks, artifact.name))
        kind = _KIND.Name(artifact.kind)
        return Bundle(
            artifact.name,
            directory,
            manifest.base_model,
            manifest.base_model_revision,
            is_adapter=kind == "ADAPTER",
            kind=kind,
            manifest=manifest.SerializeToString(),
        )

    async def model_version(self, name: str) -> Bundle:
        """The files of a version of a registered model, by number, by alias or the newest; raises as `base_model` does."""
        with translated("STORAGE_UNAVAILABLE", "storage"):
            request = model_service_pb2.GetModelVersionRequest(name=name)
            found = await self._models.GetModelVersion(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        manifest = found.manifest
        directory = await self._fetch(manifest.files, functools.partial(self._model_chunks, found.name))
        kind = registered_model_pb2.ModelVersion.Format.Name(found.format)
        return Bundle(found.name, directory, manifest.base_model, manifest.base_model_revision, kind == "ADAPTER", kind)

    async def _model_chunks(self, name: str, path: str, caller_verifies: bool) -> AsyncIterator[bytes]:
        request = model_service_pb2.DownloadModelRequest(name=name, path=path, caller_verifies=caller_verifies)
        async for response in self._models.DownloadModel(request, metadata=call_metadata(self._api_key)):
            yield response.chunk

    async def _artifact_chunks(self, name: str, path: str, caller_verifies: bool) -> AsyncIterator[bytes]:
        request = artifact_service_pb2.DownloadArtifactRequest(name=name, path=path, caller_verifies=caller_verifies)
        async for response in self._artifacts.DownloadArtifact(request, metadata=call_metadata(self._api_key)):
            yield response.chunk

    async def _fetch(self, files: Iterable[artifact_pb2.File], chunks: Chunks) -> pathlib.Path:
        wanted = sorted(files, key=lambda file: file.path)
        key = content_key((file.path, file.sha256) for file in wanted)
        async with self._locks.setdefault(key, asyncio.Lock()):
            directory = self._root / key
            if not await asyncio.to_thread(self._cache.use, key):
                await self._download(wanted, chunks, directory)
                await asyncio.to_thread(self._cache.trim)
            return directory

    async def keep(self, directories: Iterable[str | pathlib.Path]) -> None:
        """Says that these are used: they stay for the next hour, see DiskCache."""
        await asyncio.to_thread(self._cache.keep, directories)

    async def _download(self, files: list[artifact_pb2.File], chunks: Chunks, directory: pathlib.Path) -> None:
        scratch = self._root / f".{directory.name}.{uuid.uuid4().hex}"
        try:
            for file in files:
                with translated("STORAGE_UNAVAILABLE", "storage"):
                    await fetch_verified(scratch / file.path, Checksum.of(file), functools.partial(chunks, file.path))
            await in_thread(_publish, scratch, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        log.info("bundle.fetched", directory=directory.name, files=len(files))


def _publish(scratch: pathlib.Path, directory: pathlib.Path) -> None:
    try:
        scratch.rename(directory)
    except OSError:
        # Another process was faster; its copy has the same content by construction of the key.
        if not directory.is_dir():
            raise
