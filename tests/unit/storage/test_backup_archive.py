"""The directory of a backup: nothing counts before its manifest, and nothing is taken on trust."""

import hashlib
import json
import pathlib
from collections.abc import Callable

import pytest

from services.common.errors import ServiceError
from services.storage.backup.archive import Archive, Content, Manifest
from services.storage.backup.programs import connection_of, output_of, run


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> Archive:
    archive = Archive(tmp_path / "backup")
    archive.create()
    return archive


def content_of(data: bytes) -> Content:
    return Content(hashlib.sha256(data).hexdigest(), len(data), "blobs/key")


def put(archive: Archive, data: bytes, content: Content | None = None) -> bool:
    incoming = archive.begin()
    incoming.write(data[:3])
    incoming.write(data[3:])
    return archive.keep(incoming, content or content_of(data))


def whole(archive: Archive, *data: bytes) -> Manifest:
    """A backup of these contents."""
    dump = archive.begin()
    dump.write(b"dump of " + b"".join(data))
    for each in data:
        assert put(archive, each)
    manifest = Manifest("2026-01-01T00:00:00+00:00", archive.dump_name(dump), tuple(map(content_of, data)), ("f" * 64,))
    archive.write_manifest(manifest)
    return manifest


def test_what_was_written_is_read_and_verified(archive: Archive) -> None:
    manifest = whole(archive, b"alpha", b"")
    again = Archive(archive.root)
    assert again.read_manifest() == manifest
    assert again.dump(manifest).read_bytes() == b"dump of alpha"
    assert [again.verified(content).read_bytes() for content in manifest.contents] == [b"alpha", b""]


def test_it_is_private_to_its_owner(archive: Archive) -> None:
    whole(archive, b"alpha")
    assert archive.root.stat().st_mode & 0o077 == 0


def test_bytes_that_are_not_the_content_are_not_kept(archive: Archive) -> None:
    assert not put(archive, b"alphb", content_of(b"alpha"))
    assert not archive.has(content_of(b"alpha"))
    assert list(archive.root.iterdir()) == []


def test_a_later_backup_lets_go_of_what_only_the_earlier_one_had(archive: Archive) -> None:
    first = whole(archive, b"alpha", b"beta")
    (archive.root / ".left by a killed one").write_bytes(b"x")
    assert archive.has(content_of(b"beta"))
    second = whole(archive, b"beta", b"gamma")
    assert not archive.has(first.contents[0])
    assert sorted(path.name for path in archive.root.iterdir()) == sorted(["blobs", second.dump, "manifest.json"])


def test_until_the_manifest_is_written_the_earlier_backup_is_whole(archive: Archive) -> None:
    first = whole(archive, b"alpha")
    put(archive, b"new")
    assert archive.read_manifest() == first
    assert archive.verified(first.contents[0])


def flip(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("harm", [flip, pathlib.Path.unlink], ids=["changed", "gone"])
@pytest.mark.parametrize("what", ["content", "dump"])
def test_damage_is_named(archive: Archive, harm: Callable[[pathlib.Path], None], what: str) -> None:
    manifest = whole(archive, b"alpha")

    def read() -> pathlib.Path:
        return archive.verified(manifest.contents[0]) if what == "content" else archive.dump(manifest)

    path = read()
    harm(path)
    with pytest.raises(ServiceError, match=path.name) as caught:
        read()
    assert caught.value.reason == "BACKUP_UNREADABLE"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"format": 2}', '{"format": 1, "contents": [{}]}'])
def test_a_manifest_that_is_none_is_refused(archive: Archive, text: str | None) -> None:
    if text is not None:
        (archive.root / "manifest.json").write_text(text)
    with pytest.raises(ServiceError) as caught:
        archive.read_manifest()
    assert caught.value.reason == "BACKUP_UNREADABLE"


def test_a_dump_outside_of_the_directory_is_not_read(archive: Archive) -> None:
    whole(archive, b"alpha")
    stored = json.loads((archive.root / "manifest.json").read_text()) | {"dump": "../../etc/passwd"}
    (archive.root / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(ServiceError, match="backup/passwd"):
        archive.dump(archive.read_manifest())


async def test_the_output_of_a_program_comes_whole() -> None:
    async with output_of(["/bin/sh", "-c", "printf 'a%.0s' $(seq 1000); printf b"], {"PATH": "/usr/bin:/bin"}) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"a" * 1000 + b"b"


async def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(ServiceError, match="sh ended with 3: too old") as caught:
        await run(["/bin/sh", "-c", "echo some; echo too old >&2; exit 3"], {})
    assert caught.value.reason == "DATABASE_PROGRAM_FAILED"


async def test_a_program_nobody_listens_to_any_more_is_ended() -> None:
    with pytest.raises(ValueError, match="enough"):
        async with output_of(["/bin/sh", "-c", "while :; do echo more; done"], {}) as chunks:
            async for _ in chunks:
                raise ValueError("enough")


def test_a_password_is_no_argument() -> None:
    argument, environment = connection_of("postgresql://me:s%20cret@db:5433/tunesmith?sslmode=require")
    assert "cret" not in argument
    assert all(part in argument for part in ("host=db", "port=5433", "dbname=tunesmith", "user=me", "sslmode=require"))
    assert environment == {"PGPASSWORD": "s cret"}
