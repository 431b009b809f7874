"""Files on their way."""

import hashlib

import pytest

from tunesmith.errors import DataLoss, InvalidArgument
from tunesmith.transfers import CHUNK_BYTES, chunks_of, describe, receive, require_file, safe_target, sha256_of


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, []), (1, [1]), (CHUNK_BYTES, [CHUNK_BYTES]), (CHUNK_BYTES + 1, [CHUNK_BYTES, 1])],
)
def test_a_file_is_read_in_chunks_of_at_most_a_mebibyte(tmp_path, size, chunks):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert [len(chunk) for chunk in chunks_of(path)] == chunks


def test_progress_grows_to_the_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 * CHUNK_BYTES + 1))
    seen = []
    list(chunks_of(path, lambda done, total: seen.append((done, total))))
    assert [done for done, _ in seen] == [CHUNK_BYTES, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1]
    assert {total for _, total in seen} == {2 * CHUNK_BYTES + 1}


def test_files_of_a_directory_are_described_sorted_with_size_and_checksum(tmp_path):
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_bytes(b"three")
    assert [(file.path, file.size_bytes, file.sha256) for file in describe(tmp_path)] == [
        ("a/c", 5, digest(b"three")),
        ("b", 3, digest(b"two")),
    ]


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(InvalidArgument):
        require_file(tmp_path)


def test_received_bytes_appear_only_when_complete(tmp_path):
    target = tmp_path / "deep" / "file"
    seen_before_the_end = []

    def chunks():
        yield b"one"
        seen_before_the_end.append(target.exists())
        yield b"two"

    counts = []
    receive(chunks(), target, digest(b"onetwo"), counts.append)
    assert seen_before_the_end == [False]
    assert counts == [3, 3]
    assert sha256_of(target) == digest(b"onetwo")


def test_an_earlier_file_stays_when_the_new_bytes_are_wrong(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"good")
    with pytest.raises(DataLoss):
        receive([b"bad"], target, digest(b"better"), lambda count: None)
    assert target.read_bytes() == b"good"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_transfer_leaves_no_part(tmp_path):
    def chunks():
        yield b"one"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        receive(chunks(), tmp_path / "file", digest(b"one"), lambda count: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a", "a/b.json", "adapter_model.safetensors", "..a/b.."])
def test_paths_below_the_directory_are_fine(tmp_path, path):
    assert safe_target(tmp_path, path) == tmp_path / path


@pytest.mark.parametrize("path", ["", ".", "..", "/", "/a", "a/..", "../a", "a/./b", "a//b", "a/", "a\\..\\b"])
def test_paths_beyond_it_are_refused(tmp_path, path):
    with pytest.raises(InvalidArgument) as caught:
        safe_target(tmp_path, path)
    assert caught.value.reason == "PATH_UNSAFE"
