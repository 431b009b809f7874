"""Files on their way."""

import hashlib

import pytest

from tunesmith.checksum import Checksum
from tunesmith.errors import DataLoss, InvalidArgument, OutOfRange
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
    receive(lambda offset: chunks(), target, key="k", checksum=Checksum(digest(b"onetwo")), progress=counts.append)
    assert seen_before_the_end == [False]
    assert counts == [3, 3]
    assert sha256_of(target) == digest(b"onetwo")


def test_an_earlier_file_stays_when_the_new_bytes_are_wrong(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"good")
    with pytest.raises(DataLoss):
        receive(lambda offset: [b"bad"], target, key="k", checksum=Checksum(digest(b"better")), progress=lambda count: None)
    assert target.read_bytes() == b"good"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_transfer_is_continued_where_it_broke(tmp_path):
    offsets = []

    def fetch(offset):
        offsets.append(offset)
        yield b"onetwo"[offset : offset + 3]
        if not offset:
            raise ConnectionError

    def once(progress):
        receive(fetch, tmp_path / "file", key="k", checksum=Checksum(digest(b"onetwo")), progress=progress)

    with pytest.raises(ConnectionError):
        once(lambda count: None)
    assert not (tmp_path / "file").exists()
    counts = []
    once(counts.append)
    assert offsets == [0, 3]
    assert counts == [3, 3], "what was there counts, too"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"onetwo")]


def test_what_an_interruption_left_is_never_mixed_with_other_content(tmp_path):
    def interrupted(offset):
        yield b"one"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        receive(interrupted, tmp_path / "file", key="first", checksum=Checksum(), progress=lambda count: None)
    receive(
        lambda offset: [b"new"], tmp_path / "file", key="second", checksum=Checksum(digest(b"new")), progress=lambda count: None
    )
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("problem", [DataLoss("x"), OutOfRange("x")])
def test_a_part_that_is_not_the_beginning_is_thrown_away(tmp_path, problem):
    def fetch(offset):
        yield b"wrong"
        raise problem

    with pytest.raises(type(problem)):
        receive(fetch, tmp_path / "file", key="k", checksum=Checksum(), progress=lambda count: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file.part", ".file.part", ".k.part", "k"])
def test_a_file_beside_the_target_is_never_taken_for_its_part(tmp_path, name):
    (tmp_path / name).write_bytes(b"another download")
    receive(lambda offset: [b"x"], tmp_path / "file", key="k", checksum=Checksum(digest(b"x")), progress=lambda count: None)
    assert (tmp_path / name).read_bytes() == b"another download"
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_key_never_leaves_the_directory(tmp_path):
    (tmp_path / "deep").mkdir()
    receive(lambda offset: [b"x"], tmp_path / "deep" / "file", key="../../evil", checksum=Checksum(), progress=lambda count: None)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "file"]


@pytest.mark.parametrize("path", ["a", "a/b.json", "adapter_model.safetensors", "..a/b.."])
def test_paths_below_the_directory_are_fine(tmp_path, path):
    assert safe_target(tmp_path, path) == tmp_path / path


@pytest.mark.parametrize("path", ["", ".", "..", "/", "/a", "a/..", "../a", "a/./b", "a//b", "a/", "a\\..\\b"])
def test_paths_beyond_it_are_refused(tmp_path, path):
    with pytest.raises(InvalidArgument) as caught:
        safe_target(tmp_path, path)
    assert caught.value.reason == "PATH_UNSAFE"


@pytest.mark.parametrize("target", ["/etc/passwd", "inside", "nowhere"])
def test_a_link_is_refused_wherever_it_points(tmp_path, target):
    (tmp_path / "inside").write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").symlink_to(target)
    with pytest.raises(InvalidArgument, match=r"config\.json is a symbolic link") as caught:
        describe(tmp_path)
    assert caught.value.reason == "LINK_REFUSED"
    assert "cp -rL" in caught.value.hint


def test_a_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "sub").symlink_to("/etc")
    with pytest.raises(InvalidArgument):
        describe(tmp_path / "model")
