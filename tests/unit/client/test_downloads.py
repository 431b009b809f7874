"""A manifest comes from outside: what a download writes, where, and what it leaves when something is wrong."""

import hashlib

import pytest

from tunesmith import Client
from tunesmith.checksum import Checksum
from tunesmith.errors import DataLoss, InvalidArgument, NotFound, TunesmithError, Unreachable
from tunesmith.transfers import describe, receive, safe_target

HOSTILE = [
    "..",
    "../../.ssh/authorized_keys",
    "adapter/../../outside",
    "/absolute",
    "//network/share",
    "C:\\windows\\system32",
    "a\\..\\..\\b",
    "./here",
    "a/.",
    "trailing/",
    "a///b",
]


@pytest.fixture
def client(platform):
    with Client() as client:
        yield client


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def written(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_hostile_path_spoils_the_whole_download_wherever_it_stands(platform, client, tmp_path, out, path, place):
    files = {path: b"evil", "good": b"1"} if place == "first" else {"good": b"1", path: b"evil"}
    artifact = platform.artifacts.add(files)
    with pytest.raises(InvalidArgument) as caught:
        client.download_artifact(artifact.name, out)
    assert caught.value.reason == "PATH_UNSAFE"
    assert repr(path) in caught.value.message
    assert written(tmp_path) == {}


@pytest.mark.parametrize("path", ["...", "..hidden", "a..b/c..d", ".git", "with blank", "ünïcode/ø", "-rf", "~", "$HOME"])
def test_odd_names_that_stay_inside_are_written_as_they_are(platform, client, out, path):
    client.download_artifact(platform.artifacts.add({path: b"1"}).name, out)
    assert written(out) == {path: b"1"}


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_quoted_and_the_artifact_advised_against(tmp_path, path):
    with pytest.raises(InvalidArgument) as caught:
        safe_target(tmp_path, path)
    assert caught.value.hint == "Do not use this artifact."


def test_an_artifact_without_files_is_an_empty_download(platform, client, out):
    assert client.download_artifact(platform.artifacts.add({}).name, out) == []


def test_an_empty_file_is_a_file(platform, client, out):
    client.download_artifact(platform.artifacts.add({"empty": b""}).name, out)
    assert written(out) == {"empty": b""}


def test_paths_are_returned_in_the_order_of_the_manifest(platform, client, out):
    artifact = platform.artifacts.add({"z": b"1", "a/b": b"2", "m": b"3"})
    assert client.download_artifact(artifact.name, out) == [out / "z", out / "a" / "b", out / "m"]


def test_progress_counts_over_all_files_and_ends_at_the_whole(platform, client, out):
    artifact = platform.artifacts.add({"a": b"0123456789", "b": b"012"})
    seen = []
    client.download_artifact(artifact.name, out, lambda done, total: seen.append((done, total)))
    assert seen == [(5, 13), (10, 13), (13, 13)]


@pytest.mark.parametrize("arrives", [b"", b"012345678", b"01234567890", b"9876543210"])
def test_bytes_that_are_missing_extra_or_other_are_never_a_file(platform, client, out, arrives):
    artifact = platform.artifacts.add({"first": b"1", "second": b"0123456789", "third": b"3"})
    platform.artifacts.files[artifact.name, "second"] = arrives
    with pytest.raises(DataLoss) as caught:
        client.download_artifact(artifact.name, out)
    assert (caught.value.reason, caught.value.message) == ("CHECKSUM_MISMATCH", "second arrived with another checksum")
    assert written(out) == {"first": b"1"}, "what was right before stays, nothing after it is begun"


def test_a_download_that_failed_can_be_repeated_over_what_it_left(platform, client, out):
    artifact = platform.artifacts.add({"first": b"1", "second": b"22"})
    platform.artifacts.files[artifact.name, "second"] = b"broken"
    with pytest.raises(DataLoss):
        client.download_artifact(artifact.name, out)
    platform.artifacts.files[artifact.name, "second"] = b"22"
    client.download_artifact(artifact.name, out)
    assert written(out) == {"first": b"1", "second": b"22"}


def test_a_file_of_before_is_replaced_and_strangers_are_left_alone(platform, client, out):
    out.mkdir()
    (out / "adapter.bin").write_bytes(b"old and longer than the new")
    (out / "mine.txt").write_bytes(b"mine")
    client.download_artifact(platform.artifacts.add({"adapter.bin": b"new"}).name, out)
    assert written(out) == {"adapter.bin": b"new", "mine.txt": b"mine"}


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(platform, client, tmp_path, out):
    out.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    (out / "adapter.bin").symlink_to(elsewhere)
    client.download_artifact(platform.artifacts.add({"adapter.bin": b"new"}).name, out)
    assert elsewhere.read_bytes() == b"precious"
    assert (out / "adapter.bin").read_bytes() == b"new"


def test_a_missing_artifact_makes_no_directory(client, out):
    with pytest.raises(NotFound):
        client.download_artifact("missing", out)
    assert not out.exists()


def test_a_checksum_is_compared_as_lower_case_hexadecimal(tmp_path):
    with pytest.raises(TunesmithError):
        sha256 = hashlib.sha256(b"x").hexdigest().upper()
        receive(lambda offset: [b"x"], tmp_path / "f", key="k", checksum=Checksum(sha256), progress=lambda count: None)
    assert written(tmp_path) == {}


@pytest.mark.parametrize("names", [["f", "f.part"], ["f.part", "f"], ["f", "f.part", "f.part.part"]])
def test_files_that_are_called_parts_do_not_disturb_the_others(platform, client, out, names):
    files = {name: name.encode() for name in names}
    client.download_artifact(platform.artifacts.add(files).name, out)
    assert written(out) == files


def test_a_download_that_broke_is_continued_where_it_broke(platform, client, out):
    artifact = platform.artifacts.add({"f": b"0123456789"})
    platform.artifacts.break_after = 1
    with pytest.raises(Unreachable):
        client.download_artifact(artifact.name, out)
    seen = []
    client.download_artifact(artifact.name, out, lambda done, total: seen.append(done))
    assert seen == [5, 10]
    assert (platform.artifacts.offsets, platform.artifacts.alone) == ([0, 5], [True, True])
    assert written(out) == {"f": b"0123456789"}


def test_directories_are_no_files_of_a_model(tmp_path):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z").write_bytes(b"")
    assert [file.path for file in describe(tmp_path)] == ["x/y/z"]


def test_what_was_described_is_what_arrives_elsewhere(platform, client, tmp_path, out):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_bytes(b"1" * 11)
    (source / "b").write_bytes(b"2")
    client.download_artifact(platform.artifacts.add(written(source)).name, out)
    assert describe(out) == describe(source)
