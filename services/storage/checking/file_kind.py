"""What the first bytes give away about a whole file; used by `checker`. Told once, it is better than once per row."""

import re

from services.storage.checking.json_text import parse
from services.storage.checking.problem import FileProblem, RowProblem
from services.storage.checking.quoting import quoted

HEAD_BYTES = 4096
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_JSON = "Export the rows as JSON lines."
_PARQUET = "Convert it: tunesmith data convert FILE --from parquet"
_MAGICS = (
    (b"\x1f\x8b", "DATASET_COMPRESSED", "gzip-compressed", "Unpack it: gunzip FILE"),
    (b"PK\x03\x04", "DATASET_COMPRESSED", "a zip archive (or an Office document)", "Unpack it: unzip FILE"),
    (b"PK\x05\x06", "DATASET_COMPRESSED", "an empty zip archive", "Unpack it: unzip FILE"),
    (b"\x28\xb5\x2f\xfd", "DATASET_COMPRESSED", "zstd-compressed", "Unpack it: unzstd FILE"),
    (b"BZh", "DATASET_COMPRESSED", "bzip2-compressed", "Unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "DATASET_COMPRESSED", "xz-compressed", "Unpack it: unxz FILE"),
    (b"\x04\x22\x4d\x18", "DATASET_COMPRESSED", "lz4-compressed", "Unpack it: unlz4 FILE"),
    (b"7z\xbc\xaf\x27\x1c", "DATASET_COMPRESSED", "a 7z archive", "Unpack it: 7z x FILE"),
    (b"PAR1", "DATASET_FILE_OTHER", "a Parquet file", _PARQUET),
    (b"ARROW1", "DATASET_FILE_OTHER", "an Arrow file", _JSON),
    (b"FEA1", "DATASET_FILE_OTHER", "a Feather file", _JSON),
    (b"\xff\xff\xff\xff", "DATASET_FILE_OTHER", "an Arrow stream", _JSON),
    (b"%PDF-", "DATASET_FILE_OTHER", "a PDF document", _JSON),
    (b"SQLite format 3\x00", "DATASET_FILE_OTHER", "an SQLite database", _JSON),
    (b"\x89HDF\r\n\x1a\n", "DATASET_FILE_OTHER", "an HDF5 file", _JSON),
    (b"\x80\x04\x95", "DATASET_FILE_OTHER", "a Python pickle", _JSON),
    (b"GGUF", "DATASET_FILE_OTHER", "a GGUF model", _JSON),
    (b"\x7fELF", "DATASET_FILE_OTHER", "a program", _JSON),
)
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32LE"),
    (b"\x00\x00\xfe\xff", "UTF-32BE"),
    (b"\xff\xfe", "UTF-16LE"),
    (b"\xfe\xff", "UTF-16BE"),
)
# The zero bytes around the first character, which is one of JSON's own.
_WIDE_STARTS = (
    (re.compile(rb"[\[{\s]\0\0\0"), "UTF-32LE"),
    (re.compile(rb"\0\0\0[\[{\s]"), "UTF-32BE"),
    (re.compile(rb"[\[{\s]\0[^\0]"), "UTF-16LE"),
    (re.compile(rb"\0[\[{\s]\0"), "UTF-16BE"),
)
_MARKUP = re.compile(rb"<(?:!doctype|html|\?xml|[a-z]+[ >])", re.IGNORECASE)
_YAML = re.compile(rb"(?:---|%YAML|- ?[\w-]+:|-\s*$|[A-Za-z_][\w-]*:(?:\s|$))")
_COLUMN = rb"(?:\"[^\"{}]{0,80}\"|[^\",;\t{}\[\]:]{1,80})"
_CSV = re.compile(rb"^" + _COLUMN + rb"(?:([,;\t])" + _COLUMN + rb")(?:\1" + _COLUMN + rb")*$")


def is_array(head: bytes) -> bool:
    """Whether a file is one JSON array; raises FileProblem when it is nothing we read. `head` has no byte order mark."""
    _check_magic(head)
    _check_encoding(head)
    start = head.lstrip()
    _check_text(start)
    _check_pretty(head)
    return start.startswith(b"[")


def _check_magic(head: bytes) -> None:
    for magic, reason, name, hint in _MAGICS:
        if head.startswith(magic):
            raise FileProblem(reason, f"the file is {name}, not JSON", hint=hint)
    if head[257:262] == b"ustar":
        raise FileProblem("DATASET_COMPRESSED", "the file is a tar archive, not JSON", hint="Unpack it: tar xf FILE")


def _check_encoding(head: bytes) -> None:
    name = next((name for mark, name in _WIDE_MARKS if head.startswith(mark)), None)
    name = name or next((name for pattern, name in _WIDE_STARTS if pattern.match(head)), None)
    if name:
        command = f"Convert it: iconv -f {name} -t UTF-8 FILE > FILE.utf8"
        raise FileProblem("DATASET_ENCODING", f"the file is {name}, not UTF-8", hint=command)


def _check_text(start: bytes) -> None:
    line = start.partition(b"\n")[0].rstrip()
    if _MARKUP.match(start):
        raise FileProblem("DATASET_FILE_OTHER", f"the file is HTML or XML, it begins with {_shown(line)}", line=1, hint=_JSON)
    if _CSV.match(line):
        command = "Convert it: tunesmith data convert FILE --from csv"
        raise FileProblem("DATASET_FILE_OTHER", f"the file is CSV, it begins with {_shown(line)}", line=1, hint=command)
    if _YAML.match(line):
        raise FileProblem("DATASET_FILE_OTHER", f"the file is YAML, it begins with {_shown(line)}", line=1, hint=_JSON)


def _check_pretty(head: bytes) -> None:
    """An object spread over several lines would be one bad row per line."""
    lines = [(number, line.strip()) for number, line in enumerate(head.split(b"\n"), start=1) if line.strip()]
    if len(lines) < 2 or not lines[0][1].startswith(b"{") or lines[1][1].startswith(b"{"):
        return
    try:
        parse(lines[0][1])
    except RowProblem as problem:
        if problem.reason == "DATASET_TRUNCATED" and problem.offset >= len(lines[0][1].decode()):
            message = f"the object that begins with {_shown(lines[0][1])} is spread over several lines"
            raise FileProblem("DATASET_PRETTY_PRINTED", message, line=lines[0][0]) from problem


def _shown(line: bytes) -> str:
    return quoted(line[:200].decode("utf-8", "replace"))
