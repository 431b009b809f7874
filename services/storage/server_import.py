"""From files that lie where the server reads them itself to base models and versions; used by the model servicer.

They go the way of uploads, so that every check stands once. An upload declares its checksums first; here a first reading finds
them, and what changes before the second is refused.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence

from services.common.blocking import in_thread
from services.common.errors import InvalidArgument, ServiceError
from services.storage.base_model import BaseModel, BaseModelDraft, missing_files
from services.storage.base_model_upload import BaseModelUpload
from services.storage.file import File
from services.storage.model_facts import parameters, with_facts
from services.storage.model_import import ImportDraft, ModelImport
from services.storage.model_safety import MAX_CONFIG_BYTES, json_object, refuse_gguf, refuse_unsafe_names, unsafe
from services.storage.registered_model import ModelVersion
from services.storage.safetensors_header import HeaderError, Tensor, read_first_tensors
from services.storage.server_place import FoundFile, ServerPlace, changed


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a caller says that the files lie."""

    kind: str
    """`directory` or `s3_prefix`."""
    name: str
    """As `checked_name` has let it through."""


class ServerImport:
    """Imports and registers from `places`, by the kind of their sources; a kind that the operator does not allow has none."""

    def __init__(self, places: Mapping[str, ServerPlace], *, models: ModelImport, base_models: BaseModelUpload) -> None:
        self._places = places
        self._models = models
        self._base_models = base_models

    async def import_model(self, draft: ImportDraft, source: Source) -> ModelVersion:
        """The next version, or the first of the same request_id; the draft's files are those of the source.

        Raises as ServerPlace and ModelImport do, and ServiceError (SERVER_IMPORT_OFF).
        """
        place = self._place(source)
        found = await _found(place, source)
        files = await _described(place, source, found)
        async with contextlib.aclosing(_items(place, source, found)) as items:
            return await self._models.receive(dataclasses.replace(draft, files=files), items)

    async def register(self, draft: BaseModelDraft, source: Source) -> BaseModel:
        """The base model; what the draft leaves open is read from the files of the source.

        Raises as ServerPlace and BaseModelUpload do, and ServiceError (SERVER_IMPORT_OFF).
        """
        place = self._place(source)
        found = await _found(place, source)
        if missing := [*missing_files([file.path for file in found], "source")]:
            raise InvalidArgument(*missing)
        draft = await _with_facts(draft, place, source, found)
        files = await _described(place, source, found)
        async with contextlib.aclosing(_items(place, source, found)) as items:
            return await self._base_models.receive(dataclasses.replace(draft, files=files), items)

    def _place(self, source: Source) -> ServerPlace:
        place = self._places.get(source.kind)
        if place is None:
            message = f"this server reads no models from a source of the kind {source.kind}"
            raise ServiceError("SERVER_IMPORT_OFF", message, metadata={"source": source.kind})
        return place


async def _found(place: ServerPlace, source: Source) -> Sequence[FoundFile]:
    refuse_gguf([source.name])
    found = await place.files(source.name)
    # Before anything large is read.
    refuse_unsafe_names([file.path for file in found])
    return found


async def _described(place: ServerPlace, source: Source, found: Sequence[FoundFile]) -> tuple[File, ...]:
    return tuple([File(file.path, file.size_bytes, await _sha256(place, source, file)) for file in found])


async def _sha256(place: ServerPlace, source: Source, file: FoundFile) -> str:
    digest, size_bytes = hashlib.sha256(), 0
    async with contextlib.aclosing(place.read(source.name, file)) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            size_bytes += len(chunk)
            await in_thread(digest.update, chunk)
    if size_bytes != file.size_bytes:
        raise changed(file.path, f"had {file.size_bytes} bytes and has {size_bytes}")
    return digest.hexdigest()


async def _items(place: ServerPlace, source: Source, found: Sequence[FoundFile]) -> AsyncGenerator[str | bytes, None]:
    """What a client would stream."""
    for file in found:
        yield file.path
        async with contextlib.aclosing(place.read(source.name, file)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk


async def _with_facts(draft: BaseModelDraft, place: ServerPlace, source: Source, found: Sequence[FoundFile]) -> BaseModelDraft:
    config = next(file for file in found if file.path == "config.json")
    if config.size_bytes > MAX_CONFIG_BYTES:
        raise unsafe(config.path, f"it has {config.size_bytes} bytes; a configuration has at most {MAX_CONFIG_BYTES}")
    text = b"".join([chunk async for chunk in place.read(source.name, config)])
    weights = [file for file in found if file.path.endswith(".safetensors")]
    count = sum([parameters(await _tensors(place, source, file)) for file in weights])
    return with_facts(draft, json_object(config.path, text), count)


async def _tensors(place: ServerPlace, source: Source, file: FoundFile) -> Mapping[str, Tensor]:
    try:
        return await read_first_tensors(place.read(source.name, file), file.size_bytes)
    except HeaderError as error:
        raise unsafe(file.path, str(error)) from error
