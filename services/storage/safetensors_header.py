"""Headers of safetensors files, proved consistent before anybody maps the file into memory.

The layout is: 8 bytes little-endian length, that many bytes of JSON, tensors. The rules are those of the safetensors library, and
further: data begins at 0, follows without holes or overlaps in one order, and ends with the file.
"""

import contextlib
import io
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO

import msgspec

MAX_HEADER_BYTES = 16 * 2**20
"""Far above what any published file needs; JSON takes several times its size in memory."""
_MAX_DIMENSIONS = 16
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_METADATA = "__metadata__"
_Size = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class HeaderError(ValueError):
    """The file is no safetensors file, or lies about its tensors."""


class Tensor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One tensor as its header describes it."""

    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]
    """Where its bytes begin and end, from the end of the header."""


def read_tensors(content: BinaryIO, size_bytes: int) -> dict[str, Tensor]:
    """The tensors by name; `content` is at the start of a file of `size_bytes`. Raises HeaderError, which says what is wrong."""
    length = int.from_bytes(content.read(8), "little")
    if size_bytes < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
        raise HeaderError(f"it is not a safetensors file: its header claims {length} of {size_bytes} bytes")
    header = _decode(content.read(length), dict[str, msgspec.Raw])
    if _METADATA in header:
        _decode(header.pop(_METADATA), dict[str, str])
    tensors = {name: _decode(entry, Tensor) for name, entry in header.items()}
    _check_places(tensors, size_bytes - 8 - length)
    return tensors


async def read_first_tensors(chunks: AsyncIterator[bytes], size_bytes: int) -> dict[str, Tensor]:
    """As `read_tensors`, of a file that arrives; what comes after the header is not read. Closes `chunks`."""
    head = b""
    async with contextlib.aclosing(chunks):  # type: ignore[type-var]
        async for chunk in chunks:
            head += chunk
            if len(head) >= 8 + min(int.from_bytes(head[:8], "little"), MAX_HEADER_BYTES):
                break
    return read_tensors(io.BytesIO(head), size_bytes)


def _decode(text: bytes | msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"its JSON cannot be read: {error}") from error


def _check_places(tensors: dict[str, Tensor], data_bytes: int) -> None:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda each: (each[1].data_offsets, each[0])):
        if tensor.dtype not in _BYTES:
            raise HeaderError(f"tensor {name[:80]!r} has the unknown type {tensor.dtype[:20]!r}")
        if len(tensor.shape) > _MAX_DIMENSIONS:
            raise HeaderError(f"tensor {name[:80]!r} has {len(tensor.shape)} dimensions")
        begin, finish = tensor.data_offsets
        if finish - begin != math.prod(tensor.shape) * _BYTES[tensor.dtype]:
            raise HeaderError(f"tensor {name[:80]!r} of shape {list(tensor.shape)} claims {finish - begin} bytes")
        if begin != end:
            what = "overlaps the one before" if begin < end else "leaves a hole before it"
            raise HeaderError(f"tensor {name[:80]!r} {what}: it begins at {begin}, expected {end}")
        end = finish
    if end != data_bytes:
        raise HeaderError(f"its tensors end at {end}, its data at {data_bytes}")
