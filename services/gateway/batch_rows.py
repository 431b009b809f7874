"""A file of batch requests as rows of a dataset, line by line while it arrives; used by upload_file."""

import json

from services.gateway import batch_request
from services.gateway.batch_request import BatchRequest
from services.gateway.failures import refused

_MAX_REQUESTS = 50_000
_LONGEST_LINE = 8 * 1024 * 1024


class BatchRows:
    """Lines go in, as many rows come out: the number of a line is the number of its row, of which storage may have to say more.

    Raises InvalidArgument (DATASET_INVALID) naming the first bad line and the place in it. Model and sampling belong to the whole
    batch, so they are the same in every line.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._lines: dict[str, int] = {}
        self._first: BatchRequest | None = None

    def take(self, data: bytes) -> bytes:
        """The rows of the lines that have come to their end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise refused(f"line {self._number + len(lines) + 1}", f"has more than {_LONGEST_LINE} bytes")
        return b"".join(self._row(line) + b"\n" for line in lines)

    def end(self) -> bytes:
        """The row of the last line; a file without a request is refused."""
        row = self._row(self._rest)
        if not self._lines:
            raise refused("file", "holds no request")
        return row

    def _row(self, line: bytes) -> bytes:
        self._number += 1
        if not line.strip():
            return b""
        with batch_request.placed(f"line {self._number}: ", reason="DATASET_INVALID"):
            request = batch_request.request_of(batch_request.decoded(line))
            self._count(request)
        return json.dumps(request.row(), ensure_ascii=False, separators=(",", ":")).encode()

    def _count(self, request: BatchRequest) -> None:
        if known := self._lines.get(request.custom_id):
            raise refused("custom_id", f"{request.custom_id!r} is that of line {known}, too")
        if len(self._lines) == _MAX_REQUESTS:
            raise refused("request", f"is one of more than {_MAX_REQUESTS:,}; give the others in another file")
        self._lines[request.custom_id] = self._number
        first = self._first = self._first or request
        if request.model != first.model:
            raise refused("body.model", f"{request.model!r} is not {first.model!r}; a batch has one model")
        for name in ("max_tokens", "temperature", "top_p", "seed", "stop"):
            if (value := getattr(request.sampling, name)) != (other := getattr(first.sampling, name)):
                raise refused(
                    f"body.{name}", f"{value} is not {other}, as in the first line; all requests of a batch have the same"
                )
