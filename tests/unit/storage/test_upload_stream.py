"""The messages of an upload are told apart, and what comes after the answer is read and forgotten."""

import hashlib
from collections.abc import AsyncIterator

import pytest

from services.common.errors import ServiceError
from services.storage.upload import Digest
from services.storage.upload_stream import Seal, drained, read_chunks, read_header, read_items, read_sealed_chunks
from tunesmith.v1 import artifact_service_pb2, dataset_service_pb2

Artifact = artifact_service_pb2.UploadArtifactRequest
Dataset = dataset_service_pb2.UploadDatasetRequest
HEADER = Artifact(header=artifact_service_pb2.ArtifactHeader(request_id="r"))


class Requests:
    """A request stream that counts how far it was read."""

    def __init__(self, *messages: object) -> None:
        self._messages = iter(messages)
        self.read = 0

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        message = next(self._messages, None)
        if message is None:
            raise StopAsyncIteration
        self.read += 1
        return message


async def test_the_header_is_the_first_message_and_the_rest_follows() -> None:
    messages = [{"path": "a"}, {"chunk": b"x"}, {"chunk": b""}, {"sha256": "ab"}, {"path": "b"}, {"blake3": "cd"}]
    requests = Requests(HEADER, *(Artifact(**message) for message in messages))
    assert (await read_header(requests)).header.request_id == "r"
    assert [item async for item in read_items(requests)] == ["a", b"x", b"", Digest(sha256="ab"), "b", Digest(blake3="cd")]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "the stream is empty"),
        ([Artifact()], "holds nothing; the header comes first"),
        ([Artifact(path="a")], "holds path; the header comes first"),
        ([Artifact(chunk=b"a")], "holds chunk; the header comes first"),
    ],
)
async def test_a_stream_without_header_is_refused(messages: list[object], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        await read_header(Requests(*messages))
    assert caught.value.reason == "UPLOAD_MALFORMED"


@pytest.mark.parametrize("message", [HEADER, Artifact()])
async def test_only_files_follow_the_header_of_files(message: object) -> None:
    with pytest.raises(ServiceError, match="after the header come only files"):
        [item async for item in read_items(Requests(message))]


@pytest.mark.parametrize("message", [Dataset(header=dataset_service_pb2.DatasetHeader()), Dataset()])
async def test_only_chunks_follow_the_header_of_a_dataset(message: object) -> None:
    with pytest.raises(ServiceError, match="only chunks"):
        [chunk async for chunk in read_chunks(Requests(Dataset(chunk=b"x"), message))]


async def test_after_an_early_answer_the_rest_is_read() -> None:
    requests = Requests(*[Artifact(chunk=b"x")] * 9)
    async with drained(requests) as ahead:
        await anext(ahead)
    assert requests.read == 9


async def test_after_a_refusal_the_rest_is_read_and_the_refusal_stays() -> None:
    requests = Requests(*[Artifact(chunk=b"x")] * 9)
    with pytest.raises(ServiceError, match="no"):
        async with drained(requests):
            raise ServiceError("STALE_EPOCH", "no")
    assert requests.read == 9


async def test_a_huge_rest_is_not_read_to_its_end() -> None:
    requests = Requests(*[Artifact(chunk=bytes(2**20))] * 1000)
    async with drained(requests):
        pass
    assert 60 <= requests.read <= 70


async def test_a_crash_is_passed_on_at_once() -> None:
    requests = Requests(*[Artifact(chunk=b"x")] * 9)
    with pytest.raises(ZeroDivisionError):
        async with drained(requests):
            raise ZeroDivisionError
    assert requests.read == 0


def sealed(*chunks: bytes, seal: str | None = None) -> Requests:
    return Requests(*(Dataset(chunk=chunk) for chunk in chunks), *([Dataset(sha256=seal)] if seal is not None else []))


async def test_a_sealed_stream_is_its_chunks() -> None:
    requests = sealed(b"a", b"b", seal=hashlib.sha256(b"ab").hexdigest())
    assert [chunk async for chunk in read_sealed_chunks(requests, Seal())] == [b"a", b"b"]


async def test_a_seal_may_say_how_long_the_file_is_kept() -> None:
    last = Seal()
    requests = Requests(Dataset(chunk=b"a"), Dataset(sha256=hashlib.sha256(b"a").hexdigest(), late_lifetime_seconds=3600))
    assert [chunk async for chunk in read_sealed_chunks(requests, last)] == [b"a"]
    assert last == Seal(3600)


@pytest.mark.parametrize(
    ("requests", "reason", "says"),
    [
        (sealed(b"a"), "UPLOAD_MALFORMED", "ends without the SHA-256"),
        (sealed(), "UPLOAD_MALFORMED", "ends without the SHA-256"),
        (sealed(b"a", seal="0" * 64), "CHECKSUM_MISMATCH", "the last message says 000"),
        (Requests(Dataset(sha256="0"), Dataset(chunk=b"a")), "UPLOAD_MALFORMED", "holds chunk"),
        (Requests(Dataset()), "UPLOAD_MALFORMED", "holds nothing"),
    ],
    ids=["broken off", "empty", "other bytes", "not the end", "nothing"],
)
async def test_a_stream_without_its_seal_is_no_file(requests: Requests, reason: str, says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        [chunk async for chunk in read_sealed_chunks(requests, Seal())]
    assert caught.value.reason == reason
