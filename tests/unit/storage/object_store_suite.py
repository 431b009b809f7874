"""What every object store promises; run against the fake and against S3."""

import datetime
import io
import tempfile
from collections.abc import Awaitable, Callable

import pytest

from services.common.errors import ServiceError, Unavailable
from services.storage.object_store import CHUNK_BYTES, ObjectStore
from services.storage.part_upload import MIN_PART_BYTES

SendPart = Callable[[str, bytes], Awaitable[None]]
HOUR = datetime.timedelta(hours=1)


async def content(store: ObjectStore, key: str, offset: int, size: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, offset, size)])


class ObjectStoreSuite:
    """Tests take a fixture `store`, prepared, and `strict_store`, which has asked its server what it keeps as well."""

    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
    async def test_bytes_come_back_equal_in_bounded_pieces(self, store: ObjectStore, size: int) -> None:
        data = (bytes(range(251)) * (size // 251 + 1))[:size]
        await store.put("blobs/x", io.BytesIO(data), size)
        pieces = [piece async for piece in store.read("blobs/x", 0, size)]
        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)

    async def test_a_list_ends_at_its_limit_by_key(self, store: ObjectStore) -> None:
        for key in ("b/2", "a/1", "b/1", "b/3"):
            await store.put(key, io.BytesIO(b"x"), 1)
        assert [found.key for found in await store.list("b/", 2)] == ["b/1", "b/2"]
        assert [found.key for found in await store.list("b/")] == ["b/1", "b/2", "b/3"]

    async def test_an_object_of_many_parts_comes_back_equal(self, store: ObjectStore) -> None:
        block = bytes(range(256)) * 4096
        with tempfile.TemporaryFile() as file:
            for n in range(34):
                file.write(n.to_bytes(2, "big") + block[2:])
            file.seek(0)
            await store.put("blobs/big", file, 34 * len(block))
        numbers, rest = [], b""
        async for piece in store.read("blobs/big", 0, 34 * len(block)):
            rest += piece
            while len(rest) >= len(block):
                numbers.append(int.from_bytes(rest[:2], "big"))
                assert rest[2 : len(block)] == block[2:]
                rest = rest[len(block) :]
        assert numbers == list(range(34))

    async def test_reading_starts_at_the_offset(self, store: ObjectStore) -> None:
        await store.put("k", io.BytesIO(b"0123456789"), 10)
        assert await content(store, "k", 3, 10) == b"3456789"
        assert await content(store, "k", 10, 10) == b""

    async def test_putting_starts_at_the_position_of_the_content(self, store: ObjectStore) -> None:
        source = io.BytesIO(b"skip:rest")
        source.seek(5)
        await store.put("k", source, 4)
        assert await content(store, "k", 0, 4) == b"rest"

    async def test_a_removed_object_is_gone(self, store: ObjectStore) -> None:
        await store.put("k", io.BytesIO(b"x"), 1)
        await store.remove("k")
        with pytest.raises(Unavailable, match="NoSuchKey"):
            await content(store, "k", 0, 1)

    async def test_removing_nothing_is_no_error(self, store: ObjectStore) -> None:
        await store.remove("blobs/never")

    async def test_an_object_shorter_than_its_row_says_is_an_error(self, store: ObjectStore) -> None:
        await store.put("k", io.BytesIO(b"xy"), 2)
        with pytest.raises(Unavailable):
            await content(store, "k", 0, 3)

    async def test_preparing_twice_is_no_error(self, store: ObjectStore) -> None:
        await store.prepare()

    async def test_parts_make_an_object_in_their_order(self, store: ObjectStore, send_part: SendPart) -> None:
        multipart_id = await store.begin_parts("blobs/x")
        assert list(await store.arrived_parts("blobs/x", multipart_id)) == []
        first, second = b"a" * MIN_PART_BYTES, b"the end"
        await send_part(store.part_url("blobs/x", multipart_id, 2, HOUR), second)
        await send_part(store.part_url("blobs/x", multipart_id, 1, HOUR), b"b" * MIN_PART_BYTES)
        await send_part(store.part_url("blobs/x", multipart_id, 1, HOUR), first)
        assert set(await store.arrived_parts("blobs/x", multipart_id)) == {(1, len(first)), (2, len(second))}
        assert await store.size("blobs/x") is None
        await store.join_parts("blobs/x", multipart_id)
        assert await store.size("blobs/x") == len(first) + len(second)
        assert await content(store, "blobs/x", 0, len(first) + len(second)) == first + second
        assert list(await store.arrived_parts("blobs/x", multipart_id)) == []
        await store.join_parts("blobs/x", multipart_id)
        assert await store.size("blobs/x") == len(first) + len(second)

    async def test_parts_that_were_put_make_an_object_by_their_marks(self, store: ObjectStore) -> None:
        multipart_id = await store.begin_parts("blobs/x")
        contents = [bytes([number]) * MIN_PART_BYTES for number in (1, 2)] + [b"the end"]
        marks = [await store.put_part("blobs/x", multipart_id, number, content) for number, content in enumerate(contents, 1)]
        assert len(set(marks)) == 3
        assert await store.size("blobs/x") is None
        await store.complete_parts("blobs/x", multipart_id, marks)
        whole = b"".join(contents)
        assert await content(store, "blobs/x", 0, len(whole)) == whole

    async def test_parts_with_other_marks_make_nothing(self, store: ObjectStore) -> None:
        multipart_id = await store.begin_parts("blobs/x")
        mark = await store.put_part("blobs/x", multipart_id, 1, b"x")
        with pytest.raises(Unavailable):
            await store.complete_parts("blobs/x", multipart_id, [mark[::-1]])
        assert await store.size("blobs/x") is None

    @pytest.mark.parametrize("size", [1, 9 * CHUNK_BYTES], ids=["whole", "in parts"])
    async def test_a_key_that_is_taken_keeps_its_object(self, strict_store: ObjectStore, size: int) -> None:
        await strict_store.put("blobs/x", io.BytesIO(b"first"), 5)
        with pytest.raises(ServiceError) as caught:
            await strict_store.put("blobs/x", io.BytesIO(b"y" * size), size)
        assert (caught.value.reason, "blobs/x" in caught.value.message) == ("OBJECT_EXISTS", True)
        assert await content(strict_store, "blobs/x", 0, 5) == b"first"
        assert [found.key for found in await strict_store.list("blobs/")] == ["blobs/x"]

    async def test_the_same_bytes_once_more_are_a_repeat(self, strict_store: ObjectStore) -> None:
        for skipped in (0, 3):
            source = io.BytesIO(b"-" * skipped + b"first")
            source.seek(skipped)
            await strict_store.put("blobs/x", source, 5)
        with pytest.raises(ServiceError):
            await strict_store.put("blobs/x", io.BytesIO(b"First"), 5)

    @pytest.mark.parametrize("how", ["complete", "join"])
    async def test_parts_do_not_replace_an_object(self, strict_store: ObjectStore, how: str) -> None:
        multipart_id = await strict_store.begin_parts("blobs/x")
        mark = await strict_store.put_part("blobs/x", multipart_id, 1, b"late")
        await strict_store.put("blobs/x", io.BytesIO(b"first"), 5)
        with pytest.raises(ServiceError) as caught:
            if how == "join":
                await strict_store.join_parts("blobs/x", multipart_id)
            else:
                await strict_store.complete_parts("blobs/x", multipart_id, [mark])
        assert caught.value.reason == "OBJECT_EXISTS"
        assert await content(strict_store, "blobs/x", 0, 5) == b"first"

    async def test_removing_takes_parts_along(self, store: ObjectStore, send_part: SendPart) -> None:
        multipart_id = await store.begin_parts("blobs/x")
        await send_part(store.part_url("blobs/x", multipart_id, 1, HOUR), b"x")
        await store.remove("blobs/x")
        assert list(await store.arrived_parts("blobs/x", multipart_id)) == []
        await store.join_parts("blobs/x", multipart_id)
        assert await store.size("blobs/x") is None
