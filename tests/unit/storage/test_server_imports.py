"""Models that the server reads itself, over the fakes; and what only a disk or a bucket can do."""

import os
import pathlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from unit.storage.fakes import Clock, MemoryObjectStore, memory_repositories
from unit.storage.import_suite import base_files
from unit.storage.server_import_suite import (
    CONFIG,
    RefusedServerImportSuite,
    ServerImportSuite,
    Shelf,
    ShelfOnDiskSuite,
    Shifting,
    enter,
    places_of,
    take,
)
from unit.storage.service import Service, refused, running_service

from services.common.errors import ServiceError
from services.storage.server_directory import ServerDirectory
from services.storage.server_place import FoundFile

WHOLE = base_files() | {"config.json": CONFIG}


class TestServerImports(ServerImportSuite):
    """All rules of the suite."""


class TestRefusedServerImports(RefusedServerImportSuite):
    """All rules of the suite."""


class TestShelves(ShelfOnDiskSuite):
    """All rules of the suite."""


@pytest.fixture
def shelf(tmp_path: pathlib.Path, store: MemoryObjectStore) -> Shelf:
    return Shelf("directory", tmp_path, store)


@pytest.fixture
async def whole(shelf: Shelf) -> pathlib.Path:
    """A directory with a good model."""
    await shelf.put("whole", WHOLE)
    return shelf.directory / "whole"


@pytest.fixture
def outside(tmp_path: pathlib.Path) -> pathlib.Path:
    """What nobody may import."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret.json").write_bytes(b"{}")
    for name, content in WHOLE.items():
        (path / name).write_bytes(content)
    return path


def link(path: pathlib.Path, outside: pathlib.Path) -> None:
    path.symlink_to(outside / "secret.json")


def relative_link(path: pathlib.Path, outside: pathlib.Path) -> None:
    path.symlink_to(pathlib.Path("config.json"))


def hard_link(path: pathlib.Path, outside: pathlib.Path) -> None:
    path.hardlink_to(outside / "secret.json")


def pipe(path: pathlib.Path, outside: pathlib.Path) -> None:
    os.mkfifo(path)


def listener(path: pathlib.Path, outside: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        server.bind(path.name)


def linked_directory(path: pathlib.Path, outside: pathlib.Path) -> None:
    path.symlink_to(outside, target_is_directory=True)


def open_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}


KINDS = [link, relative_link, hard_link, pipe, listener, linked_directory]


@pytest.mark.parametrize("make", KINDS, ids=[make.__name__ for make in KINDS])
async def test_what_is_no_plain_file_is_refused(
    service: Service,
    shelf: Shelf,
    whole: pathlib.Path,
    outside: pathlib.Path,
    make: Callable[[pathlib.Path, pathlib.Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(whole)
    make(whole / "extra.json", outside)
    for call in (take(service, shelf.named("whole")), enter(service, shelf.named("whole"))):
        async with refused("BASE_MODEL_UNSAFE") as refusal:
            await call
        assert refusal.metadata["path"] == "extra.json"
    assert await service.keys() == set()


@pytest.mark.parametrize("name", ["linked", "linked/sub", "shelf-link/whole", "loop"])
async def test_a_named_directory_behind_a_link_is_not_found(
    service: Service, shelf: Shelf, whole: pathlib.Path, outside: pathlib.Path, name: str
) -> None:
    (shelf.directory / "linked").symlink_to(outside, target_is_directory=True)
    (shelf.directory / "shelf-link").symlink_to(shelf.directory, target_is_directory=True)
    (shelf.directory / "loop").symlink_to("loop")
    async with refused("IMPORT_SOURCE_NOT_FOUND"):
        await take(service, shelf.named(name))


async def test_the_root_itself_may_be_a_link_of_the_operator(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    (tmp_path / "mount").symlink_to(whole.parent, target_is_directory=True)
    assert len(await ServerDirectory(tmp_path / "mount").files("whole")) == len(WHOLE)


async def test_a_root_that_is_not_there_is_not_found(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServiceError) as caught:
        await ServerDirectory(tmp_path / "nowhere").files("whole")
    assert caught.value.reason == "IMPORT_SOURCE_NOT_FOUND"


async def test_directories_end_at_a_depth(shelf: Shelf, service: Service) -> None:
    await shelf.put("deep", WHOLE | {"1/2/3/4/5/6/7/a.json": b"{}"})
    assert len((await take(service, shelf.named("deep"))).manifest.files) == 4
    await shelf.put("deep", {"1/2/3/4/5/6/7/8/a.json": b"{}"})
    async with refused("BASE_MODEL_UNSAFE") as refusal:
        await take(service, shelf.named("deep"))
    assert "8 directories deep" in refusal.message


async def test_a_name_that_is_no_text_is_shown_and_refused(shelf: Shelf, whole: pathlib.Path, service: Service) -> None:
    await shelf.put("whole", {"a.json": b"{}"})
    (whole / "a.json").rename(whole / os.fsdecode(b"\xff\xfe.json"))
    async with refused("BASE_MODEL_UNSAFE") as refusal:
        await take(service, shelf.named("whole"))
    assert "??.json" in refusal.message


async def test_what_becomes_a_link_between_two_readings_is_refused(
    shelf: Shelf, whole: pathlib.Path, outside: pathlib.Path
) -> None:
    place = ServerDirectory(shelf.directory)
    config = next(file for file in await place.files("whole") if file.path == "config.json")
    (whole / "config.json").unlink()
    link(whole / "config.json", outside)
    with pytest.raises(ServiceError) as caught:
        await anext(place.read("whole", config))
    assert caught.value.reason == "BASE_MODEL_UNSAFE"
    (whole / "config.json").unlink()
    pipe(whole / "config.json", outside)
    with pytest.raises(ServiceError) as caught:
        await anext(place.read("whole", config))
    assert caught.value.reason == "BASE_MODEL_UNSAFE"


@pytest.mark.parametrize(("size_bytes", "what"), [(3, "has grown"), (5, "has shrunk")])
async def test_a_file_whose_size_changes_is_refused(shelf: Shelf, size_bytes: int, what: str) -> None:
    await shelf.put("one", {"a.json": b"1234"})
    with pytest.raises(ServiceError, match=what) as caught:
        async for _ in ServerDirectory(shelf.directory).read("one", FoundFile("a.json", size_bytes)):
            pass
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    assert "Wait until" in caught.value.hint


@pytest.mark.parametrize("then", [CONFIG.replace(b"512", b"513"), CONFIG + b" ", b""], ids=["other", "longer", "shorter"])
async def test_what_changes_between_checksum_and_storing_is_not_stored(
    clock: Clock, store: MemoryObjectStore, shelf: Shelf, whole: pathlib.Path, tmp_path: pathlib.Path, then: bytes
) -> None:
    async def keys() -> set[str]:
        return set(store.objects)

    places = {"directory": Shifting(places_of(tmp_path, store)["directory"], "config.json", then)}
    async with running_service(memory_repositories(clock), store, keys, server_places=places) as service:
        async with refused("CHECKSUM_MISMATCH"):
            await take(service, shelf.named("whole"))
        assert await keys() == set()


@pytest.mark.parametrize("kind", ["directory", "s3_prefix"])
async def test_a_kind_that_the_operator_does_not_allow_is_off(clock: Clock, store: MemoryObjectStore, kind: str) -> None:
    async with running_service(memory_repositories(clock), store, set) as service:
        for call in (take, enter):
            async with refused("SERVER_IMPORT_OFF") as refusal:
                await call(service, Shelf.named(type("Named", (), {"kind": kind}), "whole"))
            assert kind in refusal.message


async def test_what_the_system_keeps_from_the_service_is_told(
    shelf: Shelf, whole: pathlib.Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def denied(path: str, flags: int, **how: object) -> int:
        if path == "whole":
            raise PermissionError(13, "Permission denied")
        return real(path, flags, **how)

    monkeypatch.setattr(os, "open", denied)
    async with refused("IMPORT_SOURCE_UNREADABLE") as refusal:
        await take(service, shelf.named("whole"))
    assert "Permission denied" in refusal.message


async def test_a_store_that_is_away_is_told_as_such(service: Service, store: MemoryObjectStore, tmp_path: pathlib.Path) -> None:
    source = await Shelf("s3_prefix", tmp_path, store).put("whole", WHOLE)
    store.away = True
    async with refused("OBJECT_STORE_UNAVAILABLE"):
        await take(service, source)


async def test_no_descriptor_stays_open(service: Service, shelf: Shelf, whole: pathlib.Path, outside: pathlib.Path) -> None:
    await take(service, shelf.named("whole"))
    link(whole / "extra.json", outside)
    async with refused("BASE_MODEL_UNSAFE"):
        await take(service, shelf.named("whole"))
    assert not {path for path in open_files() if path.startswith(str(shelf.directory))}


async def test_an_abandoned_reading_closes_its_file(shelf: Shelf, whole: pathlib.Path) -> None:
    reading: AsyncIterator[bytes] = ServerDirectory(shelf.directory).read("whole", FoundFile("config.json", len(CONFIG)))
    await anext(reading)
    await reading.aclose()
    assert str(whole / "config.json") not in open_files()
