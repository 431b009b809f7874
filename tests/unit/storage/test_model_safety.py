"""Archives in disguise and limits that two modules must agree on."""

import io
import zipfile

import pytest

from services.common.rendering.sandbox import MAX_SOURCE_CHARACTERS
from services.storage.model_safety import MAX_TEMPLATE_CHARACTERS, is_zip
from services.storage.safetensors_header import HeaderError, read_tensors


def archive(comment: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a", b"b")
        file.comment = comment
    return content.getvalue()


@pytest.mark.parametrize("before", [b"", b"x", b"header" * 50_000], ids=["plain", "shifted", "far"])
@pytest.mark.parametrize("comment", [b"", b"c" * 65_535], ids=["bare", "commented"])
def test_an_archive_is_found_as_an_unpacker_finds_it(before: bytes, comment: bytes) -> None:
    content = before + archive(comment)
    assert zipfile.is_zipfile(io.BytesIO(content))
    assert is_zip(io.BytesIO(content), len(content))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"x" * 100_000, archive() + b"rest", b"PK\x05\x06" + bytes(17)],
    ids=["empty", "short", "long", "cut", "end"],
)
def test_what_no_unpacker_takes_is_no_archive(content: bytes) -> None:
    assert is_zip(io.BytesIO(content), len(content)) == content.startswith(b"PK\x03\x04")


def test_a_template_may_be_as_long_as_the_renderer_takes_it() -> None:
    assert MAX_TEMPLATE_CHARACTERS == MAX_SOURCE_CHARACTERS


@pytest.mark.parametrize("dtype", ["F4", "f32", "", "F32 "])
def test_an_unknown_type_is_refused(dtype: str) -> None:
    header = b'{"a":{"dtype":"%s","shape":[4],"data_offsets":[0,16]}}' % dtype.encode()
    content = len(header).to_bytes(8, "little") + header + bytes(16)
    with pytest.raises(HeaderError, match="unknown type"):
        read_tensors(io.BytesIO(content), len(content))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"code":1}}', "JSON"),
        (b'{"a":{"dtype":"F32","shape":[4]}}', "JSON"),
        (b'{"a":{"dtype":"F32","shape":[4.5],"data_offsets":[0,16]}}', "JSON"),
        (b'{"a":{"dtype":"F32","shape":[1e30],"data_offsets":[0,16]}}', "JSON"),
        (b'{"__metadata__":{"format":1},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', "JSON"),
        (b'{"a":{"dtype":"F32","shape":[%s4],"data_offsets":[0,16]}}' % (b"1," * 16), "17 dimensions"),
    ],
    ids=["unknown key", "no place", "fraction", "huge", "metadata", "dimensions"],
)
def test_a_header_that_says_something_else_is_refused(header: bytes, why: str) -> None:
    content = len(header).to_bytes(8, "little") + header + bytes(16)
    with pytest.raises(HeaderError, match=why):
        read_tensors(io.BytesIO(content), len(content))


def test_tensors_may_lie_in_any_order_and_be_empty() -> None:
    header = (
        b'{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},'
        b'"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]},"c":{"dtype":"F64","shape":[0,9],"data_offsets":[4,4]}}'
    )
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    assert {name: tensor.shape for name, tensor in read_tensors(io.BytesIO(content), len(content)).items()} == {
        "a": (),
        "b": (2,),
        "c": (0, 9),
    }
