"""The file of a form as the messages storage wants; the purpose says what its lines are. Used by upload_form."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from services.common.errors import InvalidArgument
from services.gateway.batch_rows import BatchRows
from services.gateway.eval_rows import EvalRows
from services.gateway.failures import refused
from services.gateway.file_conversion import BATCH, EVALS, FINE_TUNE, stored_name
from services.gateway.lines import decoded
from services.gateway.row_lines import RowLines
from tunesmith.v1.dataset_service_pb2 import DatasetHeader, UploadDatasetRequest

_MAX_CHUNK = 1024 * 1024
_LONGEST_HEAD = 1024 * 1024
_ROWS: Mapping[str, type[RowLines]] = {BATCH: BatchRows, EVALS: EvalRows}
"""Of files that are no training data."""


class UploadFile:
    """Training data passes as it is, lines of other files become rows. `fields` are those of the form, which may come later than
    the file: until its purpose is told, the first line is held back and says what the file is."""

    def __init__(self, name: str, request_id: str, fields: Mapping[str, str]) -> None:
        self._name, self._request_id, self._fields = name, request_id, fields
        self._head = b""
        self._purpose = ""
        self._rows: RowLines | None = None
        self._digest = hashlib.sha256()

    def take(self, data: bytes) -> Iterator[UploadDatasetRequest]:
        """The next bytes of the file."""
        if not self._purpose:
            self._head = data = self._head + data
            if not (self._fields.get("purpose") or b"\n" in data.lstrip() or len(data) > _LONGEST_HEAD):
                return
            yield from self._begin()
        yield from self._chunks(self._rows.take(data) if self._rows else data)

    def end(self) -> Iterator[UploadDatasetRequest]:
        """What is left once the form has ended, all but the checksum. Raises InvalidArgument when the file is not what
        its purpose says."""
        if not self._purpose:
            yield from self._begin()
            yield from self._chunks(self._rows.take(self._head) if self._rows else self._head)
        if self._purpose != self._fields["purpose"]:
            raise refused("purpose", f"is {self._fields['purpose']!r}, but the file begins as one of purpose {self._purpose}")
        if self._rows:
            yield from self._chunks(self._rows.end())

    @property
    def sha256(self) -> str:
        """Of what was sent."""
        return self._digest.hexdigest()

    def _begin(self) -> Iterator[UploadDatasetRequest]:
        self._purpose = self._fields.get("purpose") or _looks_like(self._head)
        self._rows = _ROWS[self._purpose]() if self._purpose in _ROWS else None
        name = stored_name(self._name, self._purpose)
        yield UploadDatasetRequest(header=DatasetHeader(display_name=name, request_id=self._request_id, sha256_follows=True))

    def _chunks(self, data: bytes) -> Iterator[UploadDatasetRequest]:
        self._digest.update(data)
        for start in range(0, len(data), _MAX_CHUNK):
            yield UploadDatasetRequest(chunk=data[start : start + _MAX_CHUNK])


def _looks_like(head: bytes) -> str:
    """The purpose of a file with this first line."""
    try:
        row: Any = decoded(head.lstrip().partition(b"\n")[0], "line")
    except InvalidArgument:
        return FINE_TUNE
    if not isinstance(row, dict) or "messages" in row:
        return FINE_TUNE
    return BATCH if "custom_id" in row else EVALS if "item" in row else FINE_TUNE
