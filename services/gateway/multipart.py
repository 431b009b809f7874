"""multipart/form-data as it arrives: small fields whole, the one file piece by piece; used by uploads."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from services.common.errors import ServiceError
from services.gateway.failures import refused

_MAX_FIELD_BYTES = 64 * 1024
_MAX_PARTS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A small value."""

    name: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins; its chunks follow."""

    name: str
    filename: str


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of the file."""

    data: bytes


Piece = Field | FileStart | Chunk


async def pieces(request: Request, limit: int) -> AsyncGenerator[Piece]:
    """The form in the order in which it comes; holds no more of it than one piece of the connection's.

    Raises ServiceError: MEDIA_TYPE_UNSUPPORTED, INVALID_FIELD for a broken form, REQUEST_TOO_LARGE above `limit` bytes.
    """
    form = _Form(_boundary(request))
    received = 0
    async for data in request.stream():
        received += len(data)
        if received > limit + _MAX_FIELD_BYTES:
            raise ServiceError("REQUEST_TOO_LARGE", f"the upload has more than {limit} bytes")
        for piece in form.feed(data):
            yield piece
    form.finish()


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ServiceError("MEDIA_TYPE_UNSUPPORTED", "the body is not multipart/form-data with a boundary")
    return options[b"boundary"]


class _Form:
    """The parser's callbacks turned into a list of pieces per call."""

    def __init__(self, boundary: bytes) -> None:
        self._pieces: list[Piece] = []
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._name, self._value, self._in_file = "", b"", False
        self._parts, self._ended = 0, False
        # The stubs ask for a TypedDict of methods with other parameter names.
        callbacks: Any = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> list[Piece]:
        """What these bytes complete."""
        self._pieces = []
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise refused("body", f"is not a well-formed form: {error}") from None
        return self._pieces

    def finish(self) -> None:
        """Raises InvalidArgument when the form has no end."""
        if not self._ended:
            raise refused("body", "the form ends before its last boundary")

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise refused("body", f"has more than {_MAX_PARTS} fields")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name, self._value = _text(options, b"name"), b""
        self._in_file = b"filename" in options
        if self._in_file:
            self._pieces.append(FileStart(self._name, _text(options, b"filename")))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(Chunk(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise refused(self._name, f"has more than {_MAX_FIELD_BYTES} bytes")

    def _part_end(self) -> None:
        if not self._in_file:
            self._pieces.append(Field(self._name, self._value.decode("utf-8", "replace")))

    def _end(self) -> None:
        self._ended = True


def _text(options: Mapping[bytes, bytes], name: bytes) -> str:
    return options.get(name, b"").decode("utf-8", "replace")
