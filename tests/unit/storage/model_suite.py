"""What ModelService promises; run against the fakes and against Postgres and S3."""

import asyncio

import pytest
from unit.storage.service import Service, model_files, model_messages, refused, sha256, tensors

from tunesmith.v1 import artifact_pb2, model_service_pb2


class ModelSuite:
    """Tests take a fixture `service`."""

    async def test_every_file_comes_back_byte_for_byte(self, service: Service) -> None:
        files = model_files(**{"chat_template.jinja": b"{{ x }}", "tokenizer.model": b"\x0a\x0b", "merges.txt": b"a b"})
        model = await service.register_model(files, chunk_bytes=5)
        for path, content in files.items():
            assert await service.download_model(model.name, path) == content
        assert await service.download_model(model.name, "merges.txt", 1) == b" b"

    async def test_the_answer_holds_what_was_said_and_what_was_computed(self, service: Service) -> None:
        files = model_files()
        header = {"parameter_count": 7, "context_length": 512, "license": "MIT", "size_bytes": 1, "revision": "x"}
        model = await service.register_model(files, **header)
        assert (model.name, model.display_name, model.family, model.license) == ("baseModels/tiny", "Tiny", "llama", "MIT")
        assert (model.parameter_count, model.context_length, model.size_bytes) == (7, 512, sum(map(len, files.values())))
        lines = "".join(f"{sha256(files[path])}  {path}\n" for path in sorted(files))
        assert model.revision == sha256(lines.encode())
        assert await service.models.GetBaseModel(model_service_pb2.GetBaseModelRequest(name="tiny")) == model

    async def test_the_same_files_again_return_the_model(self, service: Service) -> None:
        files = model_files()
        first = await service.register_model(files)
        backwards = dict(reversed(files.items()))
        assert await service.register_model(backwards) == first
        assert await service.models.RegisterBaseModel(model_messages(files)[:1]) == first
        assert len(await service.keys()) == len(files)

    async def test_other_files_under_the_same_id_are_refused(self, service: Service) -> None:
        first = await service.register_model(model_files())
        async with refused("BASE_MODEL_EXISTS") as refusal:
            await service.register_model(model_files(**{"extra.txt": b"x"}))
        assert refusal.metadata["revision"] == first.revision
        assert len(await service.keys()) == 3

    async def test_of_racing_registrations_one_is_stored(self, service: Service) -> None:
        answers = await asyncio.gather(*(service.register_model(model_files()) for _ in range(6)))
        assert all(answer == answers[0] for answer in answers)
        assert len(await service.keys()) == 3

    async def test_a_second_id_for_the_same_files_takes_no_space(self, service: Service) -> None:
        await service.register_model(model_files())
        twin = await service.register_model(model_files(), name="baseModels/twin")
        assert len(await service.keys()) == 3
        assert await service.download_model(twin.name, "config.json") == model_files()["config.json"]

    async def test_texts_beside_the_weights_are_kept(self, service: Service) -> None:
        model = await service.register_model(model_files(**{"README.md": b"# Tiny", "LICENSE": b"MIT"}))
        assert await service.download_model(model.name, "README.md") == b"# Tiny"

    @pytest.mark.parametrize(
        "path",
        [
            "pytorch_model.bin",
            "model.pt",
            "model.pth",
            "state.pkl",
            "modeling.py",
            "run.sh",
            "a/LICENSE",
            "a/evil.so",
            "x.json.py",
        ],
    )
    async def test_files_that_could_carry_code_are_refused_by_name(self, service: Service, path: str) -> None:
        async with refused("BASE_MODEL_UNSAFE") as refusal:
            await service.register_model(model_files(**{path: b"x"}))
        assert path in refusal.message
        assert await service.keys() == set()

    @pytest.mark.parametrize(
        ("path", "content", "why"),
        [
            ("config.json", b'{"auto_map": {"AutoModel": "modeling.X"}}', "auto_map"),
            ("tokenizer_config.json", b'{"auto_map": {}}', "auto_map"),
            ("config.json", b"not json", "JSON"),
            ("config.json", b"[1]", "JSON"),
            ("config.json", b"\xff\xfe", "JSON"),
            ("config.json", b"{}" + b" " * 2**22, "bytes"),
            ("model.safetensors", b"", "header"),
            ("model.safetensors", b"1234567", "header"),
            ("model.safetensors", tensors()[:20], "header"),
            ("model.safetensors", b"\xff" * 64, "header"),
            ("model.safetensors", tensors(header=b"{oh no}"), "JSON"),
            ("model-2.safetensors", b"\x80\x04pickle" * 5, "header"),
        ],
    )
    async def test_content_that_is_not_what_it_says_is_refused(
        self, service: Service, path: str, content: bytes, why: str
    ) -> None:
        async with refused("BASE_MODEL_UNSAFE") as refusal:
            await service.register_model(model_files(**{path: content}))
        assert refusal.message.startswith(f"{path}: ")
        assert why in refusal.message
        assert await service.keys() == set()

    @pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
    async def test_what_a_model_needs_must_be_declared(self, service: Service, missing: str) -> None:
        files = model_files()
        del files[missing]
        async with refused("INVALID_FIELD") as refusal:
            await service.register_model(files)
        assert refusal.fields == ["header.files"]
        assert missing.removeprefix("model") in refusal.message

    @pytest.mark.parametrize(
        ("header", "reason", "field"),
        [
            ({"name": ""}, "INVALID_NAME", "header.name"),
            ({"name": "baseModels/Big Model"}, "INVALID_NAME", "header.name"),
            ({"name": "models/tiny"}, "INVALID_NAME", "header.name"),
            ({"display_name": ""}, "INVALID_FIELD", "header.display_name"),
            ({"family": "a\nb"}, "INVALID_FIELD", "header.family"),
            ({"license": "x" * 129}, "INVALID_FIELD", "header.license"),
            ({"parameter_count": -1}, "INVALID_FIELD", "header.parameter_count"),
            ({"context_length": -1}, "INVALID_FIELD", "header.context_length"),
            ({"files": []}, "INVALID_FIELD", "header.files"),
            ({"files": [artifact_pb2.File(path="/config.json", sha256="x")]}, "INVALID_FIELD", "header.files[0].path"),
        ],
    )
    async def test_a_bad_header_is_refused_by_field(
        self, service: Service, header: dict[str, object], reason: str, field: str
    ) -> None:
        async with refused(reason) as refusal:
            await service.register_model(model_files(), **header)
        assert field in refusal.fields

    async def test_a_file_that_differs_from_its_declaration_is_refused(self, service: Service) -> None:
        messages = [*model_messages(model_files())[:1], *model_messages(model_files(**{"tokenizer.json": b"{}"}))[1:]]
        async with refused("CHECKSUM_MISMATCH"):
            await service.models.RegisterBaseModel(messages)
        assert await service.keys() == set()

    async def test_pages_are_sorted_by_id_and_complete(self, service: Service) -> None:
        names = ["a", "a-b", "a.b", "a0", "ab", "b_c", "z"]
        for name in reversed(names):
            await service.register_model(model_files(), name=f"baseModels/{name}")
        seen, token = [], ""
        for _ in range(3):
            page = await service.models.ListBaseModels(model_service_pb2.ListBaseModelsRequest(page_size=3, page_token=token))
            seen += [model.name for model in page.base_models]
            token = page.next_page_token
        assert seen == [f"baseModels/{name}" for name in sorted(names)]
        assert token == ""

    async def test_a_full_last_page_has_no_token(self, service: Service) -> None:
        await service.register_model(model_files())
        page = await service.models.ListBaseModels(model_service_pb2.ListBaseModelsRequest(page_size=1))
        assert (len(page.base_models), page.next_page_token) == (1, "")

    async def test_a_page_token_without_position_is_refused(self, service: Service) -> None:
        async with refused("INVALID_PAGE_TOKEN"):
            await service.models.ListBaseModels(model_service_pb2.ListBaseModelsRequest(page_token="W10="))

    async def test_what_does_not_exist_is_named(self, service: Service) -> None:
        async with refused("BASE_MODEL_NOT_FOUND"):
            await service.models.GetBaseModel(model_service_pb2.GetBaseModelRequest(name="baseModels/none"))
        await service.register_model(model_files())
        async with refused("FILE_NOT_FOUND"):
            await service.download_model("baseModels/tiny", "../config.json")
        async with refused("OFFSET_OUT_OF_RANGE"):
            await service.download_model("baseModels/tiny", "config.json", -1)
