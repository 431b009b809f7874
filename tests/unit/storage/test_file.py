"""Declared paths stay inside a directory, and every problem of a list is named."""

import pytest
from unit.storage.service import sha256

from services.common.bundles import content_key as key_of_bundles
from services.common.content_key import content_key
from services.common.errors import NotFound
from services.storage.base_model import BaseModelDraft
from services.storage.file import File, StoredFile, file_violations, find_file, is_safe_path

EMPTY = sha256(b"")


@pytest.mark.parametrize("path", ["a", "a/b/c", "A-b_c.9", ".hidden", "...", "x" * 128, "a/..b"])
def test_plain_relative_paths_are_safe(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\\b",
        "a b",
        "a\0",
        "ä",
        "a\n",
        "x" * 129,
        "C:x",
        "a/" * 600,
    ],
)
def test_paths_that_could_lead_astray_are_not(path: str) -> None:
    assert not is_safe_path(path)


def test_a_good_list_has_no_violations() -> None:
    assert list(file_violations([File("a/b", 0, EMPTY), File("a/c", 1, EMPTY), File("ab", 1, EMPTY)], "files")) == []


def test_every_problem_of_a_list_is_named() -> None:
    files = [File("..", -1, "X"), File("a", 0, EMPTY), File("a", 0, EMPTY), File("a/b", 0, EMPTY)]
    violations = list(file_violations(files, "files"))
    assert [violation.field for violation in violations] == [
        "files[0].path",
        "files[0].size_bytes",
        "files[0].sha256",
        "files",
        "files",
    ]
    assert "declared 2 times" in violations[3].description
    assert "both a file and a directory" in violations[4].description


@pytest.mark.parametrize(("digest", "fine"), [("", True), (EMPTY, True), ("no", False), (EMPTY.upper(), False)])
def test_a_checksum_may_be_absent_where_it_follows_and_nowhere_else(digest: str, fine: bool) -> None:
    files = [File("a", 0, digest)]
    assert (not list(file_violations(files, "files", digest_follows=True))) is fine
    refused = [violation.field for violation in file_violations(files, "files")]
    assert refused == ([] if digest == EMPTY else ["files[0].sha256"])


def test_a_missing_file_is_told_with_those_there_are() -> None:
    files = [StoredFile("a", 1, EMPTY, "blobs/1"), StoredFile("b", 1, EMPTY, "blobs/2")]
    assert find_file(files, "b", "artifacts/1") is files[1]
    with pytest.raises(NotFound, match="artifacts/1 has no file 'c'; it has a, b") as caught:
        find_file(files, "c", "artifacts/1")
    assert caught.value.metadata["resource"] == "artifacts/1/c"


def test_revision_depends_on_paths_and_contents_and_not_on_order() -> None:
    def revision(*files: File) -> str:
        return BaseModelDraft("m", "M", "", 0, 0, "", files).revision

    a, b = File("a", 0, EMPTY), File("b", 1, sha256(b"b"))
    assert revision(a, b) == revision(b, a) == sha256(f"{EMPTY}  a\n{sha256(b'b')}  b\n".encode())
    assert len({revision(a, b), revision(a), revision(File("c", 0, EMPTY), b), revision(a, File("b", 1, EMPTY))}) == 4


def test_the_cache_of_bundles_uses_the_same_formula() -> None:
    assert key_of_bundles is content_key
