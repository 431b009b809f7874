"""Models that lie where the server reads them itself; run against the fakes and against Postgres and S3.

Every test but those of links runs for a directory and for a prefix.
"""

import io
import json
import pathlib
from collections.abc import AsyncIterator, Mapping

import pytest
from unit.storage.import_suite import LORA, adapter_files, base_files, polyglot, tensor_file
from unit.storage.service import Service, named_weights, refused, tensors

from services.storage.object_store import ObjectStore
from services.storage.server_directory import ServerDirectory
from services.storage.server_place import FoundFile, ServerPlace
from services.storage.server_prefix import ServerPrefix
from tunesmith.v1 import base_model_pb2, model_service_pb2, registered_model_pb2

PREFIX = "shelf/"
CONFIG = json.dumps({"model_type": "llama", "max_position_embeddings": 512, "n_ctx": 7}).encode()


def places_of(directory: pathlib.Path, store: ObjectStore) -> dict[str, ServerPlace]:
    """The places of a service under test."""
    return {"directory": ServerDirectory(directory / "shelf"), "s3_prefix": ServerPrefix(store, PREFIX)}


class Shelf:
    """A place of the server, as its operator fills it."""

    def __init__(self, kind: str, directory: pathlib.Path, store: ObjectStore) -> None:
        self.kind = kind
        self.directory = directory / "shelf"
        self.directory.mkdir(exist_ok=True)
        self.store = store

    async def put(self, name: str, files: Mapping[str, bytes]) -> model_service_pb2.ServerPlace:
        for path, content in files.items():
            if self.kind == "s3_prefix":
                await self.store.put(f"{PREFIX}{name}/{path}", io.BytesIO(content), len(content))
                continue
            target = self.directory / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return self.named(name)

    def named(self, name: str) -> model_service_pb2.ServerPlace:
        return model_service_pb2.ServerPlace(**{self.kind: name})


async def take(service: Service, source: model_service_pb2.ServerPlace, **header: object) -> registered_model_pb2.ModelVersion:
    header = {"model": "models/mine"} | header
    request = model_service_pb2.ImportServerModelRequest(header=model_service_pb2.ImportModelHeader(**header), source=source)
    return await service.models.ImportServerModel(request)


async def enter(service: Service, source: model_service_pb2.ServerPlace, **header: object) -> base_model_pb2.BaseModel:
    header = {"name": "baseModels/tiny"} | header
    request = model_service_pb2.RegisterServerBaseModelRequest(header=base_model_pb2.BaseModel(**header), source=source)
    return await service.models.RegisterServerBaseModel(request)


class Shifting:
    """A place whose second reading of a file differs from the first."""

    def __init__(self, place: ServerPlace, path: str, then: bytes) -> None:
        self._place = place
        self._path = path
        self._then = then
        self._readings = 0

    async def files(self, name: str) -> list[FoundFile]:
        return list(await self._place.files(name))

    async def read(self, name: str, file: FoundFile) -> AsyncIterator[bytes]:
        self._readings += file.path == self._path
        if file.path == self._path and self._readings > 1:
            yield self._then
            return
        async for chunk in self._place.read(name, file):
            yield chunk


class Shelves:
    """The places that a suite is run for."""

    @pytest.fixture(params=["directory", "s3_prefix"])
    def shelf(self, request: pytest.FixtureRequest, tmp_path: pathlib.Path, store: ObjectStore) -> Shelf:
        return Shelf(request.param, tmp_path, store)


class ServerImportSuite(Shelves):
    """What becomes of good files; tests take the fixtures `service`, `store` and `tmp_path`."""

    async def test_an_adapter_becomes_what_its_upload_would_become(self, service: Service, shelf: Shelf) -> None:
        base = await service.register_model(base_files())
        files = adapter_files() | {"README.md": b"# mine", "sub/tokens.txt": b""}
        source = await shelf.put("runs/best-1", files | {".gitattributes": b"x", ".cache/lock": b"", "sub/.hidden.bin": b"x"})
        version = await take(service, source, base_model=base.name, alias="best", description="from the shelf")
        assert (version.name, list(version.aliases), version.description) == (
            "models/mine/versions/1",
            ["best"],
            "from the shelf",
        )
        uploaded = await service.import_model(files, base_model=base.name)
        assert version.format == uploaded.format == registered_model_pb2.ModelVersion.ADAPTER
        of = lambda each: {file.path: (file.size_bytes, file.sha256) for file in each.manifest.files}  # noqa: E731
        assert of(version) == of(uploaded)
        assert version.manifest.base_model_revision == base.revision
        for path, content in files.items():
            assert await service.download_model(version.name, path) == content

    async def test_a_whole_model_becomes_a_version_or_a_base_model_with_the_facts_of_its_files(
        self, service: Service, shelf: Shelf
    ) -> None:
        shard = named_weights({"model.norm.weight": (4,)})
        source = await shelf.put("whole", base_files() | {"config.json": CONFIG, "model-2.safetensors": shard})
        assert (await take(service, source)).format == registered_model_pb2.ModelVersion.MODEL
        model = await enter(service, source, license="Apache-2.0")
        assert (model.display_name, model.family, model.license) == ("tiny", "llama", "Apache-2.0")
        assert (model.parameter_count, model.context_length) == (6 * 4 + 10 * 4 + 4, 512)
        told = {"display_name": "Mine", "family": "mistral", "parameter_count": 5, "context_length": 9}
        other = await enter(service, source, name="baseModels/other", **told)
        assert {field: getattr(other, field) for field in told} == told
        assert other.revision == model.revision

    async def test_repeats_make_nothing_new(self, service: Service, shelf: Shelf) -> None:
        source = await shelf.put("whole", base_files() | {"config.json": CONFIG})
        version, model = await take(service, source, request_id="r"), await enter(service, source)
        keys = await service.keys()
        assert await take(service, source, request_id="r") == version
        assert await enter(service, source) == model
        assert await service.keys() == keys
        await shelf.put("whole", {"NOTICE": b"changed"})
        async with refused("REQUEST_ID_REUSED"):
            await take(service, source, request_id="r")
        async with refused("BASE_MODEL_EXISTS"):
            await enter(service, source)

    async def test_what_is_not_there_is_told(self, service: Service, shelf: Shelf) -> None:
        await shelf.put("whole", base_files())
        await shelf.put("hidden", {".git/config": b"x"})
        for name in ("other", "whole/config.json", "who", "whole/sub", "hidden"):
            async with refused("IMPORT_SOURCE_NOT_FOUND") as refusal:
                await take(service, shelf.named(name))
            assert name in refusal.message


class RefusedServerImportSuite(Shelves):
    """What is refused, or told; tests take the fixtures `service`, `store` and `tmp_path`."""

    async def test_a_base_model_is_asked_whether_its_template_trains(self, service: Service, shelf: Shelf) -> None:
        broken = {"chat_template.jinja": b"broken: no generation prompt"}
        source = await shelf.put("whole", base_files() | broken | {"config.json": CONFIG})
        assert (await enter(service, source)).chat_template_problem == "no generation prompt"

    @pytest.mark.parametrize("name", ["whole", "model.gguf"], ids=["among others", "by its own name"])
    async def test_a_gguf_file_is_sent_to_the_command_line(self, service: Service, shelf: Shelf, name: str) -> None:
        source = await shelf.put(name, base_files() | {"model.gguf": b"GGUF"})
        for call in (take(service, source), enter(service, source)):
            async with refused("BASE_MODEL_UNSAFE") as refusal:
                await call
            assert "model.gguf" in refusal.message
            assert "tunesmith model add FILE.gguf" in refusal.hint

    @pytest.mark.parametrize(
        ("path", "content", "why"),
        [
            ("training_args.bin", b"\x80\x04", "only .safetensors"),
            ("modeling.py", b"import os", "only .safetensors"),
            ("model.safetensors", polyglot(), "zip"),
            ("tokenizer.json", b"PK\x03\x04rest", "zip"),
            ("model.safetensors", (17 * 2**20).to_bytes(8, "little") + bytes(64), "header claims"),
            ("model.safetensors", tensors(header=b'{"a":' + b"[" * 9_000), "JSON"),
            ("model.safetensors", tensor_file(("a", [4], [0, 16]), ("b", [2], [8, 16])), "overlaps"),
            ("config.json", b'{"auto_map": {}, "n_ctx": 1}', "auto_map"),
            ("config.json", b'{"trust_remote_code": true, "n_ctx": 1}', "trust_remote_code"),
            ("config.json", b"[" * 10, "JSON"),
            ("chat_template.jinja", b"{{ x }}" * 20_000, "chat template"),
        ],
        ids=[
            "pickle",
            "code",
            "polyglot",
            "zip",
            "header-bomb",
            "deep",
            "overlap",
            "auto-map",
            "remote-code",
            "json",
            "template",
        ],
    )
    async def test_hostile_files_are_refused_as_in_uploads(
        self, service: Service, shelf: Shelf, path: str, content: bytes, why: str
    ) -> None:
        source = await shelf.put("evil", base_files() | {"config.json": CONFIG} | {path: content})
        before = await service.keys()
        for call in (take(service, source), enter(service, source)):
            async with refused("BASE_MODEL_UNSAFE") as refusal:
                await call
            assert path in refusal.message
            assert why in refusal.message
        assert await service.keys() == before
        async with refused("REGISTERED_MODEL_NOT_FOUND"):
            await service.version("models/mine")

    async def test_an_adapter_must_fit_its_base_model(self, service: Service, shelf: Shelf) -> None:
        base = await service.register_model(base_files())
        source = await shelf.put("misfit", adapter_files(LORA, r=8))
        before = await service.keys()
        async with refused("MODEL_UNFIT"):
            await take(service, source, base_model=base.name)
        async with refused("INVALID_FIELD") as refusal:
            await take(service, source)
        assert refusal.fields == ["header.base_model"]
        assert await service.keys() == before

    @pytest.mark.parametrize(
        "name",
        ["../shelf/whole", "/etc", "", ".", "whole/..", "a//b", "whole/", "a\\b", "a b", "ä", "\x00", "x" * 129, "a/" * 600],
    )
    async def test_a_name_that_is_no_path_below_is_refused(self, service: Service, shelf: Shelf, name: str) -> None:
        await shelf.put("whole", base_files())
        for call in (take(service, shelf.named(name)), enter(service, shelf.named(name))):
            async with refused("INVALID_FIELD") as refusal:
                await call
            assert refusal.fields == [f"source.{shelf.kind}"]

    async def test_what_is_missing_is_told_by_field(self, service: Service, shelf: Shelf) -> None:
        source = await shelf.put("half", {"tokenizer.json": b"{}", "model.safetensors": tensors()})
        for call, fields in (
            (take(service, source, model="models/mine"), ["header.files"]),
            (enter(service, source), ["source"]),
            (enter(service, source, context_length=-1), ["header.context_length"]),
            (take(service, model_service_pb2.ServerPlace()), ["source"]),
            (enter(service, model_service_pb2.ServerPlace()), ["source"]),
            (take(service, source, description="x" * 5000), ["header.description"]),
        ):
            async with refused("INVALID_FIELD") as refusal:
                await call
            assert refusal.fields == fields
        await shelf.put("half", {"config.json": b'{"model_type": 7, "n_ctx": true, "n_positions": -1}'})
        async with refused("INVALID_FIELD") as refusal:
            await enter(service, source)
        assert refusal.fields == ["header.context_length"]
        assert (await enter(service, source, context_length=12)).family == ""

    async def test_a_strange_name_among_the_files_is_refused(self, service: Service, shelf: Shelf) -> None:
        source = await shelf.put("whole", base_files() | {"my model.json": b"{}"})
        async with refused("BASE_MODEL_UNSAFE") as refusal:
            await take(service, source)
        assert "my model.json" in refusal.message


class ShelfOnDiskSuite:
    """What only directories have, and prefixes; these need no repeat over Postgres. Tests take `service`, `store`, `tmp_path`."""

    @pytest.fixture
    def shelf(self, tmp_path: pathlib.Path, store: ObjectStore) -> Shelf:
        return Shelf("directory", tmp_path, store)

    async def test_markers_of_consoles_are_no_files(self, service: Service, tmp_path: pathlib.Path, store: ObjectStore) -> None:
        shelf = Shelf("s3_prefix", tmp_path, store)
        source = await shelf.put("whole", base_files() | {"": b"", "sub/": b""})
        assert len((await take(service, source)).manifest.files) == 3
        await shelf.put("whole", {"sub/": b"bytes"})
        async with refused("BASE_MODEL_UNSAFE"):
            await take(service, source)

    @pytest.mark.parametrize("key", ["../config.json", "a//b.json", "/b.json", "a\\b.json"])
    async def test_a_key_that_leaves_the_prefix_is_refused(
        self, service: Service, tmp_path: pathlib.Path, store: ObjectStore, key: str
    ) -> None:
        source = await Shelf("s3_prefix", tmp_path, store).put("whole", base_files())
        store.objects[f"{PREFIX}whole/{key}"] = b"{}"
        async with refused("BASE_MODEL_UNSAFE"):
            await take(service, source)

    @pytest.mark.parametrize("kind", ["directory", "s3_prefix"])
    async def test_more_files_than_a_model_has_are_not_read(
        self, service: Service, tmp_path: pathlib.Path, store: ObjectStore, kind: str
    ) -> None:
        shelf = Shelf(kind, tmp_path, store)
        source = await shelf.put("whole", base_files())
        await shelf.put("whole", {f"{letter}/{number}.json": b"{}" for letter in "ab" for number in range(499)})
        async with refused("INVALID_FIELD") as refusal:
            await take(service, source)
        assert refusal.fields == ["source"]
        assert "more than 1000 files" in refusal.message
