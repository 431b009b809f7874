"""Uploads of big files in parts, several at a time, straight to the object store; used by `Client.upload_dataset_in_parts`."""

import contextlib
import http.client
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tunesmith.connection import UPLOAD_SECONDS, Connection
from tunesmith.errors import FailedPrecondition, TunesmithError, Unreachable
from tunesmith.object_http import connect, target
from tunesmith.transfers import CHUNK_BYTES, Progress
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.dataset_service_pb2 import (
    AbortDatasetUploadRequest,
    CompleteDatasetUploadRequest,
    CreateDatasetUploadRequest,
    DatasetHeader,
    DatasetUpload,
    DatasetUploadPart,
)
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub

_THREADS = 4
_TRIES = 5
_FIRST_DELAY_SECONDS = 0.5
_COMPLETIONS = 3  # a store may lose a part that it had acknowledged; it is then sent again


def upload(connection: Connection, file: Path, header: DatasetHeader, progress: Progress | None = None) -> Dataset:
    """Store `file`; whatever goes wrong, the upload is ended and its parts are removed.

    Raises:
        FailedPrecondition: PRESIGNED_UPLOADS_OFF. Unreachable: PART_NOT_SENT. InvalidArgument: DATASET_INVALID.
    """
    stub, size_bytes = connection.stub(DatasetServiceStub), file.stat().st_size
    begun = connection.call(stub.CreateDatasetUpload, CreateDatasetUploadRequest(header=header, size_bytes=size_bytes))
    try:
        _Sender(file, size_bytes, progress).send(begun.parts)
        return _complete(connection, begun, file)
    except BaseException:  # Ctrl-C, too: nothing may be left of it
        with contextlib.suppress(TunesmithError):
            connection.call(stub.AbortDatasetUpload, AbortDatasetUploadRequest(name=begun.name))
        raise


def _complete(connection: Connection, begun: DatasetUpload, file: Path) -> Dataset:
    stub, request = connection.stub(DatasetServiceStub), CompleteDatasetUploadRequest(name=begun.name)
    for _ in range(_COMPLETIONS - 1):
        try:
            return connection.call(stub.CompleteDatasetUpload, request, UPLOAD_SECONDS)
        except FailedPrecondition as error:
            if error.reason != "UPLOAD_INCOMPLETE":
                raise
            _Sender(file, 0, None).send(_missing(begun.parts, error))
    return connection.call(stub.CompleteDatasetUpload, request, UPLOAD_SECONDS)


def _missing(parts: Sequence[DatasetUploadPart], error: FailedPrecondition) -> list[DatasetUploadPart]:
    """The parts that the error names behind its last colon; all when it does not name all that are missing."""
    words = error.message.rpartition(":")[2]
    named = set() if "…" in words else {int(number) for number in re.findall(r"\d+", words)}
    return [part for part in parts if part.number in named] or list(parts)


class _Sender:
    """Sends parts of one file in a few threads; the first part that cannot be sent stops the others."""

    def __init__(self, file: Path, size_bytes: int, progress: Progress | None) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def send(self, parts: Sequence[DatasetUploadPart]) -> None:
        """Return when every part has arrived."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="upload") as pool:
            try:
                for sent in [pool.submit(self._send_part, part) for part in parts]:
                    sent.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _send_part(self, part: DatasetUploadPart) -> None:
        problem = ""
        for attempt in range(_TRIES):
            if self._stopped.wait(_FIRST_DELAY_SECONDS * 2 ** (attempt - 1) if attempt else 0):
                return
            sent = 0

            def advance(count: int) -> None:
                nonlocal sent
                sent += count
                self._advance(count)

            try:
                problem = _put(part.url, self._bytes_of(part, advance), part.size_bytes)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
            if not problem:
                return
            self._advance(-sent)
        raise _not_sent(part, problem)

    def _bytes_of(self, part: DatasetUploadPart, advance: Callable[[int], None]) -> Iterator[bytes]:
        with self._file.open("rb") as source:
            source.seek(part.offset)
            left = part.size_bytes
            while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                if self._stopped.is_set():
                    raise ConnectionAbortedError("the upload is ended")  # else the store waits for the rest
                yield chunk
                left -= len(chunk)
                advance(len(chunk))

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._progress:
                self._progress(self._done, self._size_bytes)


def _put(url: str, body: Iterator[bytes], size_bytes: int) -> str:
    """Send it; what the object store did not like, or an empty text."""
    place = urllib.parse.urlsplit(url)
    connection = connect(place)
    try:
        connection.request("PUT", target(place), body=body, headers={"Content-Length": str(size_bytes)})
        response = connection.getresponse()
        said = response.read(2000).decode(errors="replace")
        return "" if response.status == http.HTTPStatus.OK else f"{response.status} {response.reason} {said}".strip()
    finally:
        connection.close()


def _not_sent(part: DatasetUploadPart, problem: str) -> Unreachable:
    place = urllib.parse.urlsplit(part.url).netloc  # the rest of the URL is a secret
    hint = "Check that this machine reaches the object store, or upload through the service: --no-parts."
    message = f"part {part.number} could not be sent to {place}: {problem}"
    return Unreachable(message, reason="PART_NOT_SENT", hint=hint, error_class="transient")
