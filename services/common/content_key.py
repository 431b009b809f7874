"""The one formula for the content of a set of files; `BaseModel.revision` and the keys of the bundle cache."""

import hashlib
from collections.abc import Iterable


def content_key(files: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the lines `{sha256}  {path}` sorted by path; `files` are pairs of path and sha256."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
