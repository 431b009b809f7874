"""What ImportModel promises; run against the fakes and against Postgres and S3."""

import asyncio
import json
import zipfile
from io import BytesIO

import grpc
import pytest
from unit.storage.service import (
    Service,
    declared,
    import_messages,
    model_files,
    named_weights,
    refused,
    sha256,
    tensors,
)

from tunesmith.v1 import artifact_pb2, registered_model_pb2

QUERY = "model.layers.0.self_attn.q_proj"
BASE = {f"{QUERY}.weight": (6, 4), "model.embed_tokens.weight": (10, 4)}
LORA = {f"base_model.model.{QUERY}.lora_A.weight": (2, 4), f"base_model.model.{QUERY}.lora_B.weight": (6, 2)}
LONG = "x" * 70_000
CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}


def base_files() -> dict[str, bytes]:
    return model_files(**{"model.safetensors": named_weights(BASE)})


def adapter_files(shapes: dict = LORA, **config: object) -> dict[str, bytes]:
    """An adapter, with changes to its configuration."""
    return {"adapter_config.json": json.dumps(CONFIG | config).encode(), "adapter_model.safetensors": named_weights(shapes)}


def polyglot() -> bytes:
    """A safetensors file that is a zip archive as well: its last tensor holds one."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", b"cos\nsystem\n")
    data = archive.getvalue()
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}})
    return tensors(data, header.encode())


def tensor_file(*entries: tuple[str, list[int], list[int]], payload: int = 16) -> bytes:
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": offsets} for name, shape, offsets in entries}
    return tensors(bytes(payload), json.dumps(header).encode())


class ImportSuite:
    """What becomes of good files; tests take a fixture `service`."""

    async def test_an_adapter_becomes_a_version_that_is_there_byte_for_byte(self, service: Service) -> None:
        base = await service.register_model(base_files())
        files = adapter_files() | {"README.md": b"# mine", "LICENSE": b"MIT"}
        version = await service.import_model(files, base_model=base.name, alias="best", description="made elsewhere")
        assert (version.name, list(version.aliases), version.artifact) == ("models/mine/versions/1", ["best"], "")
        assert (version.format, version.description) == (registered_model_pb2.ModelVersion.ADAPTER, "made elsewhere")
        assert (version.manifest.base_model, version.manifest.base_model_revision) == (base.name, base.revision)
        assert {file.path: file.sha256 for file in version.manifest.files} == {p: sha256(c) for p, c in files.items()}
        for path, content in files.items():
            assert await service.download_model("models/mine@best", path) == content
        assert await service.version("models/mine") == version

    async def test_a_whole_model_needs_no_base_model(self, service: Service) -> None:
        version = await service.import_model(base_files())
        assert (version.format, version.manifest.base_model) == (registered_model_pb2.ModelVersion.MODEL, "")

    async def test_versions_of_exports_and_imports_are_counted_together(self, service: Service) -> None:
        artifact = await service.store_artifact({"adapter_config.json": b"{}"})
        await service.export(artifact.name)
        assert (await service.import_model(base_files())).version == 2
        await service.delete_version("models/mine@2")
        assert (await service.export(artifact.name)).version == 3

    async def test_a_repeat_returns_the_first_version_without_its_bytes(self, service: Service) -> None:
        first = await service.import_model(base_files(), request_id="r")
        assert await service.models.ImportModel(import_messages(base_files(), request_id="r")[:1]) == first
        async with refused("REQUEST_ID_REUSED"):
            await service.import_model(base_files() | {"NOTICE": b"x"}, request_id="r")
        artifact = await service.store_artifact({"adapter_config.json": b"{}"})
        async with refused("REQUEST_ID_REUSED"):
            await service.export(artifact.name, request_id="r")
        await service.export(artifact.name, request_id="s")
        async with refused("REQUEST_ID_REUSED"):
            await service.import_model(base_files(), request_id="s")

    async def test_of_racing_repeats_one_is_stored(self, service: Service) -> None:
        answers = await asyncio.gather(*(service.import_model(base_files(), request_id="r") for _ in range(4)))
        assert {answer.version for answer in answers} == {1}
        assert len(await service.keys()) == len(base_files())

    async def test_what_was_imported_goes_when_its_version_does(self, service: Service) -> None:
        version = await service.import_model(base_files())
        await service.sweep()
        assert len(await service.keys()) == 3
        await service.delete_version(version.name)
        await service.sweep()
        assert await service.keys() == set()


class HostileImportSuite:
    """What is refused; tests take a fixture `service`."""

    @pytest.mark.parametrize(
        "path", ["adapter_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "state.pkl", "modeling.py", "x.so"]
    )
    async def test_what_could_carry_code_is_refused_by_name(self, service: Service, path: str) -> None:
        await self._refused_as(service, "BASE_MODEL_UNSAFE", {path: b"x"}, path)

    @pytest.mark.parametrize(
        ("path", "content", "why"),
        [
            ("adapter_model.safetensors", polyglot(), "zip"),
            ("tokenizer.json", b"PK\x03\x04rest", "zip"),
            ("adapter_model.safetensors", b"\xff" * 64, "header claims"),
            ("adapter_model.safetensors", (17 * 2**20).to_bytes(8, "little") + bytes(18 * 2**20), "header claims"),
            ("adapter_model.safetensors", tensors(header=b'{"a":' + b"[" * 90_000), "JSON"),
            ("adapter_model.safetensors", b"\x80\x04cposix\nsystem\n", "header claims"),
            ("adapter_model.safetensors", tensor_file(("a", [4], [0, 16]), ("b", [2], [8, 16])), "overlaps"),
            ("adapter_model.safetensors", tensor_file(("a", [2], [0, 8]), ("b", [1], [12, 16])), "hole"),
            ("adapter_model.safetensors", tensor_file(("a", [8], [0, 32])), "end at 32"),
            ("adapter_model.safetensors", tensor_file(("a", [2], [0, 8])), "end at 8"),
            ("adapter_model.safetensors", tensor_file(("a", [2**40, 2**40], [0, 16])), "claims 16 bytes"),
            ("adapter_model.safetensors", tensor_file(("a", [-4], [0, 16])), "JSON"),
            ("adapter_model.safetensors", tensor_file(("a", [4], [16, 0])), "claims -16 bytes"),
            ("adapter_config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "auto_map"),
            ("config.json", b'{"trust_remote_code": true}', "trust_remote_code"),
            ("chat_template.jinja", b"{{ x }}" * 20_000, "chat template has 140000"),
            ("tokenizer_config.json", json.dumps({"chat_template": LONG}).encode(), "chat template"),
            (
                "tokenizer_config.json",
                json.dumps({"chat_template": [{"name": "a", "template": "x" * 70_000}]}).encode(),
                "template",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_hostile_content_is_refused(self, service: Service, path: str, content: bytes, why: str) -> None:
        await self._refused_as(service, "BASE_MODEL_UNSAFE", {path: content}, why)

    @pytest.mark.parametrize(
        "path", ["../adapter_model.safetensors", "/etc/x.json", "a/../../b.json", "a\\b.json", "a//b.json", ""]
    )
    async def test_a_path_that_leaves_the_directory_is_refused(self, service: Service, path: str) -> None:
        files = [*declared(adapter_files()), artifact_pb2.File(path=path, size_bytes=1, sha256=sha256(b"x"))]
        async with refused("INVALID_FIELD") as refusal:
            await service.import_model({}, files=files, base_model="baseModels/tiny")
        assert refusal.fields == ["header.files[2].path"]

    @pytest.mark.parametrize(
        ("shapes", "config", "why"),
        [
            (LORA, {"r": 8}, "the ranks are 2 and 2, adapter_config.json says 8"),
            (LORA | {f"base_model.model.{QUERY}.lora_A.weight": (2, 5)}, {}, "of shape [6, 5], the base model's has [6, 4]"),
            (LORA | {f"base_model.model.{QUERY}.lora_B.weight": (6, 3)}, {}, "the ranks are 2 and 3"),
            ({f"base_model.model.{QUERY}.lora_A.weight": (2, 4)}, {}, "lora_A and lora_B must be there"),
            (
                {"base_model.model.other.lora_A.weight": (2, 4), "base_model.model.other.lora_B.weight": (6, 2)},
                {},
                "no such layer",
            ),
            (LORA | {"base_model.model.lm_head.weight": (9, 4)}, {}, "the base model's has [10, 4]"),
            ({}, {}, "no LoRA tensors"),
            (LORA, {"peft_type": "IA3"}, "only LORA"),
            (LORA, {"task_type": "SEQ_CLS"}, "only CAUSAL_LM"),
            (LORA, {"r": 0}, "a rank of 0"),
            (LORA, {"r": "2"}, "Expected `int`"),
            (LORA, {"megatron_config": {}, "megatron_core": "evil"}, "megatron_config asks for a Python module"),
            (LORA, {"auto_mapping": {"parent_library": "evil"}}, "auto_mapping asks for a Python module"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_an_adapter_that_does_not_fit_is_refused(self, service: Service, shapes: dict, config: dict, why: str) -> None:
        await service.register_model(base_files())
        before = await service.keys()
        async with refused("MODEL_UNFIT") as refusal:
            await service.import_model(adapter_files(shapes, **config), base_model="baseModels/tiny")
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert why in refusal.message
        assert await service.keys() == before

    async def test_an_adapter_may_train_layers_as_a_whole_and_have_ranks_by_layer(self, service: Service) -> None:
        await service.register_model(base_files())
        more = {f"base_model.model.{QUERY}.lora_magnitude_vector": (6,), "base_model.model.lm_head.weight": (10, 4)}
        version = await service.import_model(
            adapter_files(LORA | more, r=8, rank_pattern={"q_proj": 2}, use_dora=True), base_model="baseModels/tiny"
        )
        assert version.version == 1

    async def test_what_is_missing_is_told_by_field(self, service: Service) -> None:
        config_only = {"adapter_config.json": adapter_files()["adapter_config.json"]}
        for files, header, fields in (
            (config_only, {}, ["header.base_model", "header.files"]),
            ({"config.json": b"{}"}, {}, ["header.files", "header.files"]),
            (base_files(), {"base_model": "baseModels/tiny"}, ["header.base_model"]),
            (base_files(), {"description": "x" * 5000}, ["header.description"]),
            ({}, {}, ["header.files"]),
        ):
            async with refused("INVALID_FIELD") as refusal:
                await service.import_model(files, **header)
            assert refusal.fields == fields
        async with refused("INVALID_NAME"):
            await service.import_model(base_files(), model="baseModels/x")
        async with refused("BASE_MODEL_NOT_FOUND"):
            await service.import_model(adapter_files(), base_model="baseModels/none")
        assert await service.keys() == set()

    async def _refused_as(self, service: Service, reason: str, files: dict[str, bytes], why: str) -> None:
        await service.register_model(base_files())
        before = await service.keys()
        async with refused(reason) as refusal:
            await service.import_model(adapter_files() | files, base_model="baseModels/tiny")
        assert why in refusal.message
        assert next(iter(files)) in refusal.message
        assert await service.keys() == before
        async with refused("REGISTERED_MODEL_NOT_FOUND"):
            await service.version("models/mine")
