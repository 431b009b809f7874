"""What a model's directory says, and `model add`, which stores it."""

import json
import pathlib
import shutil
import struct

import pytest
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.errors import InvalidArgument
from tunesmith.local import base_model
from tunesmith.model_directory import ModelFacts, read_model_directory

CONFIG = {"model_type": "llama", "max_position_embeddings": 512}


def weights(**shapes: list[int]) -> bytes:
    """A safetensors file without its numbers: only the header is read."""
    tensors = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}} | tensors).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model-1.safetensors").write_bytes(weights(a=[3, 4], b=[5]))
    (tmp_path / "model-2.safetensors").write_bytes(weights(c=[2, 2, 2], scalar=[]))
    return tmp_path


def test_family_parameters_and_context_are_read(directory: pathlib.Path) -> None:
    assert read_model_directory(directory) == ModelFacts("llama", 12 + 5 + 8 + 1, 512)


@pytest.mark.parametrize("key", ["n_positions", "n_ctx", "seq_length"])
def test_families_have_their_own_word_for_context(directory: pathlib.Path, key: str) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", key: 64}))
    assert read_model_directory(directory).context_length == 64


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "is not there"),
        ("config.json", b"{", "is not JSON"),
        ("config.json", b"[]", "is not a JSON object"),
        ("config.json", b'{"model_type": "llama"}', "no context length"),
        ("config.json", b'{"max_position_embeddings": 0}', "no context length"),
        ("model-1.safetensors", b"PK", "is not a safetensors file"),
        ("model-1.safetensors", struct.pack("<Q", 2**40), "is not a safetensors file"),
        ("model-1.safetensors", struct.pack("<Q", 3) + b"{]}", "header is damaged"),
        ("model-1.safetensors", struct.pack("<Q", 9) + b'{"a":"b"}', "header is damaged"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(directory: pathlib.Path, file: str, content: bytes | None, said: str) -> None:
    path = directory / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=file) as caught:
        read_model_directory(directory)
    assert caught.value.reason == "MODEL_DIRECTORY_UNUSABLE"
    assert said in caught.value.message
    assert caught.value.hint


def test_without_safetensors_there_is_no_model(directory: pathlib.Path) -> None:
    for path in directory.glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(InvalidArgument, match=r"no \*\.safetensors"):
        read_model_directory(directory)


def test_add_stores_every_file_and_says_how_to_go_on(directory: pathlib.Path, platform) -> None:
    result = CliRunner().invoke(app, ["model", "add", str(directory), "--id", "mine", "--license", "MIT"])
    assert result.exit_code == 0
    assert "baseModels/mine: 0.0 M parameters, 512 tokens" in result.stdout
    assert "tunesmith task create --model mine" in result.stderr
    stored = platform.models.stored["baseModels/mine"]
    assert (stored.family, stored.parameter_count, stored.license, stored.display_name) == ("llama", 26, "MIT", "mine")
    assert {file.path for file in stored.files} == {"config.json", "model-1.safetensors", "model-2.safetensors"}


def test_add_tells_what_keeps_a_model_from_training(directory: pathlib.Path, platform) -> None:
    platform.models.chat_template_problem = "it has no chat template"
    result = CliRunner().invoke(app, ["model", "add", str(directory), "--id", "mine", "--name", "My model", "--json"])
    assert json.loads(result.stdout)["chat_template_problem"] == "it has no chat template"
    result = CliRunner().invoke(app, ["model", "add", str(directory), "--id", "mine"])
    assert "cannot train on conversations: it has no chat template" in result.stderr


def test_add_converts_a_gguf_file_and_keeps_nothing_of_it(directory: pathlib.Path, platform, monkeypatch, tmp_path) -> None:
    made = []

    async def convert(source: pathlib.Path, target: pathlib.Path, hint: str) -> dict:
        made.append((source.name, target))
        shutil.copytree(directory, target)
        return {"license": "Apache-2.0"}

    monkeypatch.setattr(base_model, "convert", convert)
    (tmp_path / "model.GGUF").write_bytes(b"GGUF")
    result = CliRunner().invoke(app, ["model", "add", str(tmp_path / "model.GGUF"), "--id", "mine"])
    assert result.exit_code == 0, result.stderr
    stored = platform.models.stored["baseModels/mine"]
    assert (stored.family, stored.parameter_count, stored.license) == ("llama", 26, "Apache-2.0")
    ((name, target),) = made
    assert (name, target.exists()) == ("model.GGUF", False)


def test_add_of_another_file_is_a_usage_error(tmp_path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    result = CliRunner().invoke(app, ["model", "add", str(tmp_path / "model.bin"), "--id", "mine"])
    assert result.exit_code == 2
    assert "neither a directory nor" in result.stderr
