"""Files that could run code, or are not what they say, are refused before they are stored."""

import io

import pytest
from unit.storage.service import sha256, tensors

from services.common.errors import ServiceError
from services.storage.base_model import missing_files
from services.storage.file import File
from services.storage.model_safety import refuse_unsafe_content, refuse_unsafe_names


def file(path: str, content: bytes = b"") -> File:
    return File(path, len(content), sha256(content))


def look_into(path: str, content: bytes) -> None:
    refuse_unsafe_content(file(path, content), io.BytesIO(content))


def test_all_unsafe_names_are_told_at_once() -> None:
    with pytest.raises(ServiceError, match=r"a\.bin, b/c\.py: only \.safetensors, \.json") as caught:
        refuse_unsafe_names(["config.json", "a.bin", "b/c.py"])
    assert caught.value.reason == "BASE_MODEL_UNSAFE"


@pytest.mark.parametrize("path", ["model.gguf", "sub/MODEL-Q8_0.GGUF"])
def test_of_gguf_it_is_said_who_converts_it(path: str) -> None:
    with pytest.raises(ServiceError) as caught:
        refuse_unsafe_names(["config.json", path])
    assert caught.value.reason == "BASE_MODEL_UNSAFE"
    assert caught.value.message.startswith(f"{path}: storage converts no GGUF")
    assert "tunesmith model add FILE.gguf --id ID" in caught.value.hint


@pytest.mark.parametrize("path", ["x.safetensors", "a/b.json", "chat_template.jinja", "merges.txt", "tokenizer.model", "NOTICE"])
def test_formats_that_hold_data_only_are_taken(path: str) -> None:
    refuse_unsafe_names([path])


@pytest.mark.parametrize(
    "path", ["x.safetensors.bin", "json", "model", "x.JSON", "x.json ", "safetensors/x", "x.py.txt.so", "a/NOTICE"]
)
def test_names_that_only_look_like_those_are_not(path: str) -> None:
    with pytest.raises(ServiceError):
        refuse_unsafe_names([path])


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("model.safetensors", tensors()),
        ("model.safetensors", tensors(payload=b"", header=b"{}")),
        ("model.safetensors", tensors(header=b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}   ')),
        ("config.json", b'{"model_type": "llama", "nested": {"auto_map": 1}}'),
        ("generation_config.json", b"{}"),
        ("tokenizer.json", b"this is not looked into"),
        ("merges.txt", b"\x80\x04"),
    ],
)
def test_good_content_is_taken(path: str, content: bytes) -> None:
    look_into(path, content)


@pytest.mark.parametrize("claimed", [0, 1, 2**63, 100_000_001, 57])
def test_a_tensor_header_longer_than_the_file_or_the_limit_is_refused(claimed: int) -> None:
    content = claimed.to_bytes(8, "little") + b"{}" + b"\0" * 50
    with pytest.raises(ServiceError, match="its header claims"):
        look_into("model.safetensors", content)


def test_a_hostile_header_is_an_error_and_no_crash() -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        look_into("model.safetensors", tensors(header=b'{"a":' + b"[" * 100_000))


def test_everything_that_is_missing_is_told_at_once() -> None:
    descriptions = [violation.description for violation in missing_files(["x.txt"], "header.files")]
    assert descriptions == [
        "config.json is missing",
        "tokenizer.json is missing",
        "weights are missing; at least one .safetensors file is needed",
    ]
    assert list(missing_files(["config.json", "tokenizer.json", "a/w.safetensors"], "f")) == []
