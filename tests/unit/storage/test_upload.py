"""The order of an upload of several files, and what reaches the object store."""

import io
import itertools
import uuid
from collections.abc import AsyncIterator

import pytest
from unit.storage.fakes import MemoryObjectStore, MemoryPendingObjectRepository
from unit.storage.memory_tables import START, Blob, Clock, Tables
from unit.storage.retention_fakes import MemoryBlobRepository
from unit.storage.service import checksums, cut, sha256

from services.common.errors import ServiceError
from services.storage.file import File
from services.storage.pending_objects import PendingObjects
from services.storage.spool import Spool
from services.storage.upload import Digest, ExpectedFiles, FileUpload, Item

CONTENT = {"a.bin": b"alpha", "empty": b"", "dir/b.bin": b"beta" * 10}
DECLARED = [File(path, len(data), sha256(data)) for path, data in CONTENT.items()]
ARRIVED = tuple(File(path, len(data), **checksums(data)) for path, data in CONTENT.items())
OPEN = [File(path, len(data), "") for path, data in CONTENT.items()]
ALPHA = Digest(sha256(b"alpha"))
ALPHA3 = Digest(blake3=checksums(b"alpha")["blake3"])


def sealed(data: bytes, kind: str) -> Digest:
    return Digest(**{kind: checksums(data)[kind]})


def records() -> MemoryPendingObjectRepository:
    return MemoryPendingObjectRepository(Tables(Clock()))


def run(items: list[Item], declared: list[File] = DECLARED) -> list[tuple[str, bytes]]:
    """Feeds items and returns the files that became whole."""
    whole = []
    with ExpectedFiles(declared, lambda _: Spool()) as expected:
        for item in items:
            file = expected.accept(item)
            if file is not None:
                whole.append((file.path, expected.spool.content().read()))
        expected.finish()
    return whole


@pytest.mark.parametrize("size", range(1, 42))
def test_files_become_whole_however_they_are_cut(size: int) -> None:
    items = list(itertools.chain.from_iterable([path, *cut(data, size)] for path, data in CONTENT.items()))
    assert run(items) == list(CONTENT.items())


@pytest.mark.parametrize("kind", ["sha256", "blake3"])
@pytest.mark.parametrize("size", [1, 5, 41])
def test_files_without_a_declared_checksum_become_whole_by_it(size: int, kind: str) -> None:
    items = [item for path, data in CONTENT.items() for item in (path, *cut(data, size), sealed(data, kind))]
    assert run(items, OPEN) == list(CONTENT.items())


def test_a_checksum_that_is_missing_follows_and_one_that_is_declared_does_not() -> None:
    items = ["a.bin", b"alpha", "empty", Digest(sha256(b"")), "dir/b.bin", b"beta" * 10]
    assert run(items, [DECLARED[0], OPEN[1], DECLARED[2]]) == list(CONTENT.items())


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([ALPHA], "a checksum came; it follows the chunks"),
        (["a.bin", b"alpha", ALPHA, ALPHA], "comes once"),
        (["a.bin", b"alpha", ALPHA, ALPHA3], "comes once"),
        (["a.bin", b"alpha", ALPHA, b"x"], "after the declared end"),
        (["a.bin", b"alpha"], "the SHA-256 of a.bin was not declared, and no checksum followed"),
        (["a.bin", b"alpha", "empty"], "the SHA-256 of a.bin was not declared, and no checksum followed"),
        (["a.bin", b"alpha", Digest()], "no checksum followed"),
        (["a.bin", b"alpha", ALPHA, "empty"], "the SHA-256 of empty was not declared"),
        (["a.bin", b"alpha", ALPHA], "ended before empty"),
    ],
)
def test_a_checksum_in_the_wrong_place_or_in_none_is_malformed(items: list[Item], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        run(items, OPEN)
    assert caught.value.reason == "UPLOAD_MALFORMED"


@pytest.mark.parametrize("digest", [ALPHA, ALPHA3])
def test_a_checksum_behind_a_file_that_has_one_is_malformed(digest: Digest) -> None:
    with pytest.raises(ServiceError, match="declared without one") as caught:
        run(["a.bin", b"alph", digest])
    assert caught.value.reason == "UPLOAD_MALFORMED"


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (["a.bin", b"alph", Digest(sha256(b"alph"))], "a.bin ended after 4 of 5 bytes"),
        (["a.bin", ALPHA], "a.bin ended after 0 of 5 bytes"),
        (["a.bin", b"alph"], "a.bin ended after 4 of 5 bytes"),
        (["a.bin", b"alphas", ALPHA], "a.bin is longer than the declared 5 bytes"),
        (["a.bin", b"ALPHA", ALPHA], "a.bin arrived with SHA-256"),
        (["a.bin", b"alpha", Digest("x" * 999)], "declared was x{80}$"),
        (["a.bin", ALPHA3], "a.bin ended after 0 of 5 bytes"),
        (["a.bin", b"ALPHA", ALPHA3], "a.bin arrived with BLAKE3"),
        (["a.bin", b"alpha", Digest(blake3="x" * 999)], "declared was x{80}$"),
        (["a.bin", b"alpha", Digest(blake3=sha256(b"alpha"))], "a.bin arrived with BLAKE3"),
    ],
)
def test_bytes_that_differ_from_the_checksum_behind_them_are_a_mismatch(items: list[Item], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        run(items, OPEN)
    assert (caught.value.reason, caught.value.metadata["path"]) == ("CHECKSUM_MISMATCH", "a.bin")


def test_empty_chunks_mean_nothing() -> None:
    assert run(["a.bin", b"", b"alpha", b"", "empty", b"", "dir/b.bin", b"beta" * 10, b""]) == list(CONTENT.items())


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "ended before a.bin; 3 declared files are missing"),
        ([b"x"], "a chunk came before the path"),
        (["empty"], "path 'empty' came, expected 'a.bin'"),
        (["../a.bin"], "expected 'a.bin'"),
        (["a.bin", b"alpha", b"x"], "after the declared end"),
        (["a.bin", b"alpha", "empty", b"x"], "after the declared end"),
        (["a.bin", b"alpha", "dir/b.bin"], "expected 'empty'"),
        (["a.bin", b"alpha", "a.bin"], "expected 'empty'"),
        (["a.bin", b"alpha"], "ended before empty; 2 declared"),
        (["a.bin", b"alpha", "empty", "dir/b.bin", b"beta" * 10, "more"], "after the last declared file"),
    ],
)
def test_what_comes_out_of_order_is_malformed(items: list[Item], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        run(items)
    assert caught.value.reason == "UPLOAD_MALFORMED"


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (["a.bin", b"alph"], "a.bin ended after 4 of 5 bytes"),
        (["a.bin"], "a.bin ended after 0 of 5 bytes"),
        (["a.bin", b"alph", "empty"], "a.bin ended after 4 of 5 bytes"),
        (["a.bin", b"alphas"], "a.bin is longer than the declared 5 bytes"),
        (["a.bin", b"alp", b"has"], "a.bin is longer than the declared 5 bytes"),
        (["a.bin", b"ALPHA"], "a.bin arrived with SHA-256"),
    ],
)
def test_bytes_that_differ_from_the_declaration_are_a_mismatch(items: list[Item], says: str) -> None:
    with pytest.raises(ServiceError, match=says) as caught:
        run(items)
    assert (caught.value.reason, caught.value.metadata["path"]) == ("CHECKSUM_MISMATCH", "a.bin")


def test_an_empty_file_with_a_wrong_checksum_is_a_mismatch() -> None:
    with pytest.raises(ServiceError, match="empty arrived with SHA-256"):
        run(["empty"], [File("empty", 0, sha256(b"x"))])


async def stream(*items: Item) -> AsyncIterator[Item]:
    for item in items:
        yield item


def numbered() -> FileUpload:
    """An upload whose new ids are 1, 2, 3."""
    numbers = itertools.count(1)
    return FileUpload(MemoryBlobRepository(Tables(Clock())), lambda: uuid.UUID(int=next(numbers)))


async def test_keys_are_made_by_the_server_and_reported_by_content() -> None:
    store = MemoryObjectStore()
    files, keys = await numbered().receive(DECLARED[:1], stream("a.bin", b"alpha"), PendingObjects(store, records()))
    assert files == ARRIVED[:1]
    assert keys == {sha256(b"alpha"): f"blobs/{uuid.UUID(int=1)}"}
    assert store.objects == {f"blobs/{uuid.UUID(int=1)}": b"alpha"}


async def test_the_same_content_twice_is_put_once() -> None:
    store = MemoryObjectStore()
    twins = [File("x", 5, sha256(b"alpha")), File("y", 5, sha256(b"alpha"))]
    await numbered().receive(twins, stream("x", b"alpha", "y", b"alpha"), PendingObjects(store, records()))
    assert len(store.objects) == 1


@pytest.mark.parametrize("kind", ["sha256", "blake3"])
async def test_files_have_both_checksums_whichever_followed_their_bytes(kind: str) -> None:
    store = MemoryObjectStore()
    items = [item for path, data in CONTENT.items() for item in (path, data, sealed(data, kind))]
    files, keys = await numbered().receive(OPEN, stream(*items), PendingObjects(store, records()))
    assert files == ARRIVED
    assert {sha: store.objects[key] for sha, key in keys.items()} == {sha256(data): data for data in CONTENT.values()}


@pytest.mark.parametrize("digest", [ALPHA, ALPHA3])
@pytest.mark.parametrize("inspected", [False, True])
async def test_content_that_proves_to_be_known_is_not_put(inspected: bool, digest: Digest) -> None:
    store, tables = MemoryObjectStore(), Tables(Clock())
    tables.blobs[ALPHA.sha256] = Blob(5, "blobs/known", START)
    upload = FileUpload(MemoryBlobRepository(tables), uuid.uuid4, inspect=(lambda *_: None) if inspected else None)
    pending = PendingObjects(store, records())
    files, keys = await upload.receive(OPEN[:1], stream("a.bin", b"alpha", digest), pending)
    assert (files, keys, store.objects) == (ARRIVED[:1], {ALPHA.sha256: "blobs/known"}, {})


async def test_known_content_is_verified_and_not_put() -> None:
    store, tables = MemoryObjectStore(), Tables(Clock())
    tables.blobs[sha256(b"alpha")] = Blob(5, "blobs/known", START)
    upload = FileUpload(MemoryBlobRepository(tables), uuid.uuid4)
    _, keys = await upload.receive(DECLARED[:1], stream("a.bin", b"alpha"), PendingObjects(store, records()))
    assert keys == {sha256(b"alpha"): "blobs/known"}
    assert store.objects == {}
    with pytest.raises(ServiceError, match="arrived with SHA-256"):
        await upload.receive(DECLARED[:1], stream("a.bin", b"ALPHA"), PendingObjects(store, records()))


async def test_inspection_sees_each_file_from_its_start_and_before_the_store() -> None:
    seen, store = [], MemoryObjectStore()

    def inspect(file: File, content: io.BufferedIOBase) -> None:
        seen.append((file.path, content.read(), len(store.objects)))

    upload = FileUpload(MemoryBlobRepository(Tables(Clock())), uuid.uuid4, inspect=inspect)
    items = itertools.chain.from_iterable([path, data] for path, data in CONTENT.items())
    await upload.receive(DECLARED, stream(*items), PendingObjects(store, records()))
    assert seen == [(path, data, count) for count, (path, data) in enumerate(CONTENT.items())]
    assert sorted(store.objects.values()) == sorted(CONTENT.values())
