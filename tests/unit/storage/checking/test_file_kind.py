"""The first bytes tell what a file is: an array, lines, or something else with what to do about it."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest
from unit.storage.checking.checks import GOOD

from services.storage.checking.file_kind import is_array
from services.storage.checking.problem import FileProblem

PRETTY = json.dumps(json.loads(GOOD), indent=2)


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, GOOD)
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("rows.jsonl")
        member.size = len(GOOD)
        archive.addfile(member, io.BytesIO(GOOD.encode()))
    return target.getvalue()


COMPRESSED, OTHER, ENCODING, PRETTY_PRINTED = (
    "DATASET_COMPRESSED",
    "DATASET_FILE_OTHER",
    "DATASET_ENCODING",
    "DATASET_PRETTY_PRINTED",
)
FILES = {
    "gzip": (gzip.compress(GOOD.encode()), COMPRESSED, "gzip", "gunzip FILE"),
    "a zip": (zipped("rows.jsonl"), COMPRESSED, "zip archive", "unzip FILE"),
    "an empty zip": (zipped(), COMPRESSED, "empty zip", "unzip FILE"),
    "a tar": (tarred(), COMPRESSED, "tar archive", "tar xf FILE"),
    "bzip2": (b"BZh91AY&SY", COMPRESSED, "bzip2", "bunzip2 FILE"),
    "xz": (b"\xfd7zXZ\x00\x00", COMPRESSED, "xz", "unxz FILE"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", COMPRESSED, "zstd", "unzstd FILE"),
    "lz4": (b"\x04\x22\x4d\x18\x64", COMPRESSED, "lz4", "unlz4 FILE"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00", COMPRESSED, "7z", "7z x FILE"),
    "parquet": (b"PAR1\x15\x04", OTHER, "Parquet", "data convert FILE --from parquet"),
    "arrow": (b"ARROW1\0\0", OTHER, "Arrow", "JSON lines"),
    "feather": (b"FEA1\0\0", OTHER, "Feather", "JSON lines"),
    "a pdf": (b"%PDF-1.7\n", OTHER, "PDF", "JSON lines"),
    "sqlite": (b"SQLite format 3\x00", OTHER, "SQLite", "JSON lines"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", OTHER, "HDF5", "JSON lines"),
    "a pickle": (b"\x80\x04\x95\x10\0", OTHER, "pickle", "JSON lines"),
    "gguf": (b"GGUF\x03\0", OTHER, "GGUF", "JSON lines"),
    "a program": (b"\x7fELF\x02", OTHER, "program", "JSON lines"),
    "html": (b"<!DOCTYPE html><html>", OTHER, "HTML or XML", "JSON lines"),
    "xml": (b"<?xml version='1.0'?>", OTHER, "HTML or XML", "JSON lines"),
    "yaml": (b"- role: user\n  content: x\n", OTHER, "YAML", "JSON lines"),
    "a yaml document": (b"---\nmessages:\n", OTHER, "YAML", "JSON lines"),
    "csv": (b"instruction,output\na,b\n", OTHER, "CSV", "data convert FILE --from csv"),
    "csv with semicolons": (b"prompt;completion\na;b\n", OTHER, "CSV", "data convert FILE --from csv"),
    "tsv": (b"prompt\tcompletion\n", OTHER, "CSV", "data convert FILE --from csv"),
    "csv in quotes": (b'"prompt","completion"\n', OTHER, "CSV", "data convert FILE --from csv"),
    "UTF-16 with a mark": (GOOD.encode("utf-16"), ENCODING, "UTF-16LE", "iconv -f UTF-16LE"),
    "UTF-16 without": (GOOD.encode("utf-16-le"), ENCODING, "UTF-16LE", "iconv -f UTF-16LE"),
    "UTF-16, big end first": (GOOD.encode("utf-16-be"), ENCODING, "UTF-16BE", "iconv -f UTF-16BE"),
    "UTF-32": (GOOD.encode("utf-32"), ENCODING, "UTF-32LE", "iconv -f UTF-32LE"),
    "UTF-32, big end first": (GOOD.encode("utf-32-be"), ENCODING, "UTF-32BE", "iconv -f UTF-32BE"),
    "an object over lines": (PRETTY.encode(), PRETTY_PRINTED, "several lines", "jq -c"),
    "a brace on its line": (b'{\n"messages": []}', PRETTY_PRINTED, "several lines", "jq -c"),
}


@pytest.mark.parametrize("name", FILES)
def test_another_kind_of_file_is_named_with_what_to_do(name: str) -> None:
    content, reason, says, hint = FILES[name]
    with pytest.raises(FileProblem) as caught:
        is_array(content[:4096])
    assert caught.value.reason == reason
    assert says in caught.value.message
    assert hint in caught.value.hint or not caught.value.hint


@pytest.mark.parametrize(
    ("head", "array"),
    [
        (b"[", True),
        (b"  \n\t[{}]", True),
        (b"[" + PRETTY.encode() + b"]", True),
        (b"{}", False),
        (b"\n\n{}", False),
        (GOOD.encode() + b"\n" + GOOD.encode(), False),
        (b"", False),
        (b"   ", False),
        (b'{"a": 1, "b": 2, "c": 3}', False),
        (b'{"messages": [{"role": "user"', False),
        (b'{"text": "a,b;c"}', False),
        (b"nonsense", False),
        (b'{"a": 1,}\n{"b": 2}', False),
        (b"{}\n\n{}", False),
    ],
)
def test_arrays_and_lines_are_told_apart(head: bytes, array: bool) -> None:
    assert is_array(head) is array


def test_long_lines_are_quoted_in_part() -> None:
    with pytest.raises(FileProblem) as caught:
        is_array(b"<html>" + b"x" * 4000)
    assert len(caught.value.message) < 200


def test_a_file_of_another_kind_names_its_first_line() -> None:
    with pytest.raises(FileProblem) as caught:
        is_array(b"\n\nname,age\n")
    assert (caught.value.line, "'name,age'" in caught.value.message) == (1, True)
