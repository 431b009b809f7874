"""The cache of small files: complete or absent, shared, bounded, and never taken away from somebody who reads."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from unit.storage.fakes import MemoryObjectStore

from services.common.errors import ServiceError, Unavailable
from services.storage.base_model_files import BaseModelFiles
from services.storage.file import StoredFile


class CountingStore(MemoryObjectStore):
    reads = 0

    def read(self, key, offset, size_bytes):
        self.reads += 1
        return super().read(key, offset, size_bytes)


@pytest.fixture
def store() -> CountingStore:
    store = CountingStore()
    for path in ("tokenizer.json", "config.json", "model.safetensors", "sub/tokenizer.json"):
        store.objects[path] = path.encode() * 10
    return store


def files(store: MemoryObjectStore, *paths: str) -> list[StoredFile]:
    contents = {path: store.objects[path] for path in paths or store.objects}
    return [StoredFile(path, len(data), hashlib.sha256(data).hexdigest(), path) for path, data in contents.items()]


async def test_only_the_small_files_are_fetched_and_only_once(store: CountingStore, tmp_path: Path) -> None:
    cache = BaseModelFiles(store, tmp_path / "cache")
    for _ in range(2):
        async with cache.directory("revision", files(store)) as directory:
            assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
                "tokenizer.json": b"tokenizer.json" * 10,
                "config.json": b"config.json" * 10,
            }
    assert store.reads == 2


async def test_concurrent_users_fetch_once(store: CountingStore, tmp_path: Path) -> None:
    caches = [BaseModelFiles(store, tmp_path / "cache") for _ in range(2)]

    async def use(number: int) -> None:
        async with caches[number % 2].directory("revision", files(store)) as directory:
            assert len(list(directory.iterdir())) == 2

    await asyncio.gather(*map(use, range(10)))
    assert store.reads <= 4
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["revision"]


async def test_a_failed_fetch_leaves_nothing(store: CountingStore, tmp_path: Path) -> None:
    cache = BaseModelFiles(store, tmp_path / "cache")
    declared = files(store)
    store.objects["config.json"] = b"damaged..." * 11
    with pytest.raises(ServiceError, match=r"config\.json"):
        async with cache.directory("revision", declared):
            pass
    store.away = True
    with pytest.raises(Unavailable):
        async with cache.directory("revision", declared):
            pass
    assert list((tmp_path / "cache").iterdir()) == []


async def test_the_least_recently_used_go_first_and_those_in_use_stay(store: CountingStore, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    size = len(store.objects["tokenizer.json"])
    cache = BaseModelFiles(store, root, limit_bytes=2 * size)
    chosen = files(store, "tokenizer.json")
    for age, revision in ((300, "a"), (200, "b")):
        async with cache.directory(revision, chosen) as directory:
            pass
        moment = directory.stat().st_mtime - age
        os.utime(directory, (moment, moment))
    async with BaseModelFiles(store, root).directory("a", chosen) as held:
        os.utime(held, (1, 1))
        async with cache.directory("c", chosen):
            assert {path.name for path in root.iterdir()} == {"a", "c"}
        assert held.is_dir()


async def test_what_a_dead_process_left_half_written_goes(store: CountingStore, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    for name, age in ((".old", 7200), (".new", 0)):
        (root / name).mkdir(parents=True)
        (root / name / "tokenizer.json").write_bytes(b"x")
        moment = (root / name).stat().st_mtime - age
        os.utime(root / name, (moment, moment))
    async with BaseModelFiles(store, root, limit_bytes=1).directory("a", files(store, "tokenizer.json")):
        assert {path.name for path in root.iterdir()} == {"a", ".new"}
