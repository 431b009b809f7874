"""A large file goes on while it arrives; its object appears when it has proved to be what was declared, or not at all."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

import pytest
from unit.storage.fakes import MemoryObjectStore, MemoryPendingObjectRepository
from unit.storage.memory_tables import START, Blob, Clock, Tables
from unit.storage.retention_fakes import MemoryBlobRepository
from unit.storage.service import cut, sha256

from services.common.errors import ServiceError, Unavailable
from services.storage import forwarding
from services.storage.file import File
from services.storage.pending_objects import pending_objects
from services.storage.upload import Digest, FileUpload, Inspect, Item

PART = 10


class Store(MemoryObjectStore):
    """Notes what it was sent, and how much had come when it was."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, int]] = []
        """(bytes of a part, bytes that the client had sent by then)."""
        self.arrived = 0
        self.fails_at = 0
        self.gate: asyncio.Event | None = None
        self.stands = False
        """Whether a part stands at the gate."""

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | memoryview) -> str:
        if self.gate is not None:
            self.stands = True
            await self.gate.wait()
        if number == self.fails_at:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "the store has gone away")
        self.sent.append((len(content), self.arrived))
        return await super().put_part(key, multipart_id, number, content)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "part_bytes", lambda _: PART)


async def sending(store: Store, *items: Item) -> AsyncIterator[Item]:
    for item in items:
        store.arrived += len(item) if isinstance(item, bytes) else 0
        yield item
        # What was begun comes to its end before more arrives.
        for _ in range(50):
            await asyncio.sleep(0)


async def receive(
    store: Store, tables: Tables, declared: list[File], *items: Item, inspect: Inspect | None = None
) -> dict[str, str]:
    upload = FileUpload(MemoryBlobRepository(tables), uuid.uuid4, inspect=inspect)
    async with pending_objects(store, MemoryPendingObjectRepository(tables)) as pending:
        _, keys = await upload.receive(declared, sending(store, *items), pending)
        pending.keep(keys.values())
    return keys


def a_file(path: str, size: int) -> tuple[File, bytes]:
    data = random.Random(path).randbytes(size)
    return File(path, size, sha256(data)), data


@pytest.mark.parametrize("size", [1, 9, 10, 11, 19, 20, 21, 35, 40])
@pytest.mark.parametrize("chunk", [1, 3, 10, 17, 50])
async def test_an_object_is_its_file_however_it_was_cut(size: int, chunk: int) -> None:
    store, tables = Store(), Tables(Clock())
    file, data = a_file("x", size)
    keys = await receive(store, tables, [file], "x", *cut(data, chunk))
    assert store.objects == {keys[file.sha256]: data}
    assert (store.parts, sum(bytes_ for bytes_, _ in store.sent) in (0, size)) == ({}, True)
    # Two are under way at a time, so the last may come before the one before it.
    cuts = [PART] * (size // PART) + [size % PART] * (size % PART > 0)
    assert sorted((bytes_ for bytes_, _ in store.sent), reverse=True) in ([], cuts)


async def test_parts_go_on_while_the_rest_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(work: Callable[..., bytes], *arguments: int) -> bytes:
        return work(*arguments)

    # A thread may come late, and then more has arrived than is to be shown.
    monkeypatch.setattr(forwarding, "in_thread", at_once)
    store, tables = Store(), Tables(Clock())
    file, data = a_file("x", 35)
    await receive(store, tables, [file], "x", *cut(data, 5))
    assert [size for size, _ in store.sent] == [10, 10, 10, 5]
    assert store.sent[0][1] < 20, "the first part waits for the others"
    assert store.sent[1][1] < 35


async def test_small_and_large_files_follow_each_other() -> None:
    store, tables = Store(), Tables(Clock())
    files = [a_file(path, size) for path, size in (("a", 3), ("b", 25), ("c", 0), ("d", 31), ("e", 10))]
    items = [item for file, data in files for item in (file.path, *cut(data, 4))]
    keys = await receive(store, tables, [file for file, _ in files], *items)
    assert {sha: store.objects[key] for sha, key in keys.items()} == {file.sha256: data for file, data in files}
    assert store.parts == {}


async def test_known_content_is_not_sent_again() -> None:
    store, tables = Store(), Tables(Clock())
    file, data = a_file("x", 35)
    tables.blobs[file.sha256] = Blob(35, "blobs/known", START)
    assert await receive(store, tables, [file], "x", *cut(data, 5)) == {file.sha256: "blobs/known"}
    assert (store.sent, store.objects, store.parts) == ([], {}, {})


@pytest.mark.parametrize("size", [5, 35, 40])
async def test_what_proves_to_be_known_at_its_end_leaves_nothing_and_what_follows_is_whole(size: int) -> None:
    store, tables = Store(), Tables(Clock())
    (known, data), (other, more) = a_file("x", size), a_file("y", 25)
    tables.blobs[known.sha256] = Blob(size, "blobs/known", START)
    items = ["x", *cut(data, 5), Digest(known.sha256), "y", *cut(more, 5), Digest(other.sha256)]
    keys = await receive(store, tables, [File("x", size, ""), File("y", 25, "")], *items)
    assert keys[known.sha256] == "blobs/known"
    assert (store.objects, store.parts) == ({keys[other.sha256]: more}, {})
    assert set(tables.pending) == {keys[other.sha256]}


async def test_the_same_content_twice_is_kept_once_though_its_checksum_comes_last() -> None:
    store, tables = Store(), Tables(Clock())
    file, data = a_file("x", 35)
    items = [item for path in ("x", "y") for item in (path, *cut(data, 5), Digest(file.sha256))]
    keys = await receive(store, tables, [File("x", 35, ""), File("y", 35, "")], *items)
    assert (store.objects, store.parts) == ({keys[file.sha256]: data}, {})


@pytest.mark.parametrize("end", [[], [Digest("0" * 64)]], ids=["no checksum", "another one"])
async def test_a_large_file_that_is_not_sealed_leaves_nothing(end: list[Item]) -> None:
    store, tables = Store(), Tables(Clock())
    _, data = a_file("x", 40)
    with pytest.raises(ServiceError) as caught:
        await receive(store, tables, [File("x", 40, "")], "x", *cut(data, 5), *end)
    assert caught.value.reason == ("CHECKSUM_MISMATCH" if end else "UPLOAD_MALFORMED")
    assert store.sent, "nothing had gone on"
    assert (store.objects, store.parts, tables.pending) == ({}, {}, {})


@pytest.mark.parametrize("wrong", ["first", "last", "short", "refused"])
async def test_a_file_that_is_not_what_was_declared_leaves_nothing(wrong: str) -> None:
    store, tables = Store(), Tables(Clock())
    file, data = a_file("x", 35)
    sent = {"first": b"?" + data[1:], "last": data[:-1] + b"?", "short": data[:-1], "refused": data}[wrong]

    def inspect(found: File, _: object) -> None:
        if wrong == "refused":
            raise ServiceError("BASE_MODEL_UNSAFE", f"{found.path} is not what it says")

    with pytest.raises(ServiceError) as caught:
        await receive(store, tables, [file], "x", *cut(sent, 5), inspect=inspect)
    assert caught.value.reason == ("BASE_MODEL_UNSAFE" if wrong == "refused" else "CHECKSUM_MISMATCH")
    assert store.sent, "nothing had gone on"
    assert (store.objects, store.parts, tables.pending) == ({}, {}, {})


@pytest.mark.parametrize("number", [1, 2, 4])
async def test_a_store_that_goes_away_is_told_and_what_it_has_is_remembered(number: int) -> None:
    store, tables = Store(), Tables(Clock())
    store.fails_at = number
    file, data = a_file("x", 35)
    with pytest.raises(Unavailable):
        await receive(store, tables, [file], "x", *cut(data, 5))
    assert (store.objects, store.parts, tables.pending) == ({}, {}, {})


@pytest.mark.parametrize("size", [5, 35], ids=["whole", "in parts"])
async def test_an_object_that_nobody_expects_is_not_replaced_or_removed(size: int) -> None:
    class Taken(Store):
        async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
            self.objects[key] = b"theirs"
            await super().put(key, content, size_bytes)

        async def begin_parts(self, key: str) -> str:
            self.objects[key] = b"theirs"
            return await super().begin_parts(key)

    store, tables = Taken(), Tables(Clock())
    await store.probe()
    file, data = a_file("x", size)
    with pytest.raises(ServiceError) as caught:
        await receive(store, tables, [file], "x", *cut(data, 5))
    assert caught.value.reason == "OBJECT_EXISTS"
    assert (list(store.objects.values()), tables.pending) == ([b"theirs"], {})


async def test_a_client_that_goes_away_is_waited_for_until_nothing_is_sent_any_more() -> None:
    store, tables = Store(), Tables(Clock())
    store.gate = asyncio.Event()
    file, data = a_file("x", 35)
    upload = asyncio.create_task(receive(store, tables, [file], "x", *cut(data, 5)))
    while not store.stands:  # noqa: ASYNC110 - the store is not told that it is waited for
        await asyncio.sleep(0)
    upload.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not upload.done(), "a part is still under way"
    store.gate.set()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    assert (store.objects, store.parts, tables.pending) == ({}, {}, {})
