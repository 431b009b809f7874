"""Tells this installation's renderer from others, so that their counts are not taken for its own; used by `dataset_tokens`."""

import functools
import hashlib
import importlib.metadata
import pathlib

_SERVICES = pathlib.Path(__file__).parents[1]
_SOURCES = ("common/rendering", "storage/tokens")
_PACKAGES = ("jinja2", "tokenizers")


@functools.cache
def renderer_version() -> str:
    """SHA-256 over the code that renders and counts, and the versions of the packages that it is made of.

    The code is read, not imported: it takes native code that has no place in the service.
    """
    digest = hashlib.sha256()
    for source in sorted(path for folder in _SOURCES for path in (_SERVICES / folder).glob("*.py")):
        digest.update(source.relative_to(_SERVICES).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    for package in _PACKAGES:
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    return digest.hexdigest()
