"""Large files come straight from the object store; what cannot, comes through the service."""

import hashlib
import http.client
import pathlib
import random
from collections.abc import Iterable, Iterator

import pytest
from unit.storage.s3_server import LyingServer, lying_server

from tunesmith import direct_download
from tunesmith.direct_download import DirectDownload
from tunesmith.errors import DataLoss, FailedPrecondition
from tunesmith.transfers import receive_all
from tunesmith.v1.artifact_pb2 import File
from tunesmith.v1.artifact_service_pb2 import SignedDownload

CONTENT = random.Random(1).randbytes(10_007)
NAME = "model.safetensors"


def joined(chunks: Iterable[bytes | memoryview]) -> bytes:
    """Each piece is good until the next is asked for."""
    return b"".join(bytes(chunk) for chunk in chunks)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_download, "SMALLEST_BYTES", 1000)
    monkeypatch.setattr(direct_download, "_PIECE_BYTES", 1000)


@pytest.fixture
def store() -> Iterator[LyingServer]:
    with lying_server() as server:
        server.objects["blobs/x"] = CONTENT
        yield server


class Service:
    """What a client asks; notes the offsets of what came through it, and whether the client was going to verify it."""

    def __init__(self, store: LyingServer, content: bytes = CONTENT) -> None:
        self.store = store
        self.content = content
        self.offsets: list[int] = []
        self.alone: list[bool] = []
        self.signed: list[str] = []

    def fetch(self, path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
        self.offsets.append(offset)
        self.alone.append(caller_verifies)
        yield self.content[offset:]
        if not caller_verifies and self.content != CONTENT:
            raise DataLoss("the stored bytes have changed", reason="FILE_DAMAGED")

    def sign(self, path: str) -> SignedDownload:
        self.signed.append(path)
        return SignedDownload(url=f"{self.store.endpoint}/b/blobs/x?X-Amz-Signature=1")

    def source(self, size_bytes: int = len(CONTENT)) -> DirectDownload:
        return DirectDownload([File(path=NAME, size_bytes=size_bytes)], self.fetch, self.sign)

    def receive(self, directory: pathlib.Path, sha256: str = "") -> bytes:
        digest = sha256 or hashlib.sha256(CONTENT).hexdigest()
        file = File(path=NAME, size_bytes=len(CONTENT), sha256=digest)
        (path,) = receive_all([file], directory, self.fetch, self.sign, None)
        return path.read_bytes()


@pytest.fixture
def service(store: LyingServer) -> Service:
    return Service(store)


@pytest.mark.parametrize("offset", [0, 1, 999, 1000, 5500, 9000])
def test_the_bytes_come_in_their_order_from_any_offset(service: Service, offset: int) -> None:
    assert joined(service.source().read(NAME, offset)) == CONTENT[offset:]
    assert service.offsets == []


def test_a_small_rest_is_not_worth_a_question(service: Service) -> None:
    assert joined(service.source().read(NAME, len(CONTENT) - 999)) == CONTENT[-999:]
    assert (service.signed, service.offsets) == ([], [len(CONTENT) - 999])


def test_a_service_whose_store_is_out_of_reach_sends_by_itself(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> SignedDownload:
        service.signed.append(path)
        raise FailedPrecondition("off", reason="PRESIGNED_DOWNLOADS_OFF")

    monkeypatch.setattr(service, "sign", refuse)
    source = service.source()
    assert joined(source.read(NAME, 0)) == CONTENT
    assert joined(source.read(NAME, 0)) == CONTENT
    assert service.signed == [NAME], "it is asked once"


def test_a_store_that_nobody_reaches_costs_one_try(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "sign", lambda _: SignedDownload(url="http://127.0.0.1:1/b/blobs/x?s"))
    source = service.source()
    assert joined(source.read(NAME, 0)) == CONTENT
    assert service.offsets == [0]
    assert not source.works


def test_a_store_that_does_not_answer_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_download, "_CONNECT_SECONDS", 0.05)
    connections = []

    def never(connection: http.client.HTTPConnection) -> None:
        connections.append(connection.timeout)
        raise TimeoutError

    monkeypatch.setattr(http.client.HTTPConnection, "connect", never)
    assert joined(service.source().read(NAME, 0)) == CONTENT
    assert connections == [0.05], "it is tried once, and not for as long as an answer may take"


def test_what_breaks_off_goes_on_through_the_service(service: Service, store: LyingServer) -> None:
    store.cuts = [4321, 0, 0, 0]
    source = service.source()
    assert joined(source.read(NAME, 0)) == CONTENT
    assert service.offsets == [4321]
    assert not source.works


@pytest.mark.parametrize("cuts", [[0], [1], [0, 0], [999], [1000, 1, 0, 0, 1001], [9000, 0, 500]], ids=str)
def test_a_connection_that_breaks_is_replaced_where_it_was(service: Service, store: LyingServer, cuts: list[int]) -> None:
    store.cuts = list(cuts)
    source = service.source()
    assert joined(source.read(NAME, 0)) == CONTENT
    assert (service.offsets, store.cuts, source.works) == ([], [], True)


def test_memory_does_not_grow_with_the_file(service: Service) -> None:
    pieces = {id(chunk.obj) for chunk in service.source().read(NAME, 0)}
    assert 1 <= len(pieces) <= direct_download._PIECES


def test_a_store_without_ranges_is_not_believed(service: Service, store: LyingServer) -> None:
    store.lie = "no ranges"
    assert joined(service.source().read(NAME, 0)) == CONTENT
    assert service.offsets == [0]


def test_an_object_that_is_too_short_is_not_believed(service: Service, store: LyingServer) -> None:
    store.objects["blobs/x"] = CONTENT[:-1]
    assert joined(service.source().read(NAME, 0)) == CONTENT
    assert service.offsets == [0]


def test_a_reader_that_has_enough_ends_it(service: Service) -> None:
    chunks = service.source().read(NAME, 0)
    assert next(chunks) == CONTENT[:1000]
    chunks.close()
    assert service.offsets == []


def test_a_received_file_is_verified(service: Service, tmp_path: pathlib.Path) -> None:
    assert service.receive(tmp_path) == CONTENT
    assert service.offsets == []


def test_other_bytes_of_the_store_are_read_again_through_the_service(
    service: Service, store: LyingServer, tmp_path: pathlib.Path
) -> None:
    store.objects["blobs/x"] = CONTENT[:-1] + b"?"
    assert service.receive(tmp_path) == CONTENT
    assert (service.offsets, service.alone) == ([0], [False])


def test_what_is_wrong_both_ways_is_no_file(service: Service, store: LyingServer, tmp_path: pathlib.Path) -> None:
    store.objects["blobs/x"] = service.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataLoss) as caught:
        service.receive(tmp_path)
    assert caught.value.reason == "FILE_DAMAGED"
    assert list(tmp_path.iterdir()) == []
    assert (service.offsets, service.alone) == ([0], [False])


def test_through_the_service_the_client_alone_verifies_what_is_right(
    service: Service, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_download, "SMALLEST_BYTES", len(CONTENT) + 1)
    assert service.receive(tmp_path) == CONTENT
    assert (service.offsets, service.alone) == ([0], [True])


def test_what_differs_is_asked_for_from_the_start_so_that_the_service_finds_the_damage(
    service: Service, tmp_path: pathlib.Path
) -> None:
    service.content = CONTENT[:-1] + b"?"
    digest = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / f".{hashlib.sha256(digest.encode()).hexdigest()}.part").write_bytes(CONTENT[:-500])
    with pytest.raises(DataLoss) as caught:
        service.receive(tmp_path)
    assert caught.value.reason == "FILE_DAMAGED"
    assert (service.offsets, service.alone) == ([len(CONTENT) - 500, 0], [True, False])
    assert list(tmp_path.iterdir()) == []


def test_damage_that_the_service_knows_is_not_asked_for_again(
    service: Service, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
        asked.append((offset, caller_verifies))
        raise DataLoss("known", reason="FILE_DAMAGED")
        yield b""

    def refuse_to_sign(path: str) -> SignedDownload:
        raise DataLoss("known", reason="FILE_DAMAGED")

    monkeypatch.setattr(service, "fetch", refuse)
    monkeypatch.setattr(service, "sign", refuse_to_sign)
    with pytest.raises(DataLoss, match="known"):
        service.receive(tmp_path)
    assert asked == [(0, True)]


def test_an_interrupted_file_goes_on_in_the_store(service: Service, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    part = tmp_path / f".{hashlib.sha256(digest.encode()).hexdigest()}.part"
    part.write_bytes(CONTENT[:4321])
    assert service.receive(tmp_path) == CONTENT
    assert service.offsets == []
