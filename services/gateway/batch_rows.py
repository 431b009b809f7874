"""A file of batch requests as rows of a dataset; used by upload_file."""

from typing import Any

from services.gateway import batch_request
from services.gateway.batch_request import BatchRequest
from services.gateway.failures import refused
from services.gateway.row_lines import RowLines

_MAX_REQUESTS = 50_000


class BatchRows(RowLines):
    """Model and sampling belong to the whole batch, so they are the same in every line."""

    noun = "request"

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, int] = {}
        self._first: BatchRequest | None = None

    def _row(self, given: Any, number: int) -> dict[str, Any]:
        request = batch_request.request_of(given)
        if known := self._lines.get(request.custom_id):
            raise refused("custom_id", f"{request.custom_id!r} is that of line {known}, too")
        if len(self._lines) == _MAX_REQUESTS:
            raise refused("request", f"is one of more than {_MAX_REQUESTS:,}; give the others in another file")
        self._lines[request.custom_id] = number
        self._first = self._first or request
        _refuse_another(request, self._first)
        return request.row()


def _refuse_another(request: BatchRequest, first: BatchRequest) -> None:
    if request.model != first.model:
        raise refused("body.model", f"{request.model!r} is not {first.model!r}; a batch has one model")
    for name in ("max_tokens", "temperature", "top_p", "seed", "stop"):
        if (value := getattr(request.sampling, name)) != (other := getattr(first.sampling, name)):
            raise refused(f"body.{name}", f"{value} is not {other}, as in the first line; all requests of a batch have the same")
