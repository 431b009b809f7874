"""What makes files of a model safe to load: formats that hold data only, and hold what they say.

Serves base models and imported models alike, while their files stream in, wherever they come from.
"""

from collections.abc import Collection, Iterator
from typing import BinaryIO

import msgspec

from services.common.errors import ServiceError, Violation
from services.storage.file import File
from services.storage.safetensors_header import HeaderError, read_tensors

# Formats that hold data only; everything else may run code when it is loaded.
SAFE_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
# What people pass on beside the weights; nobody loads it.
_TEXTS = ("README.md", "LICENSE", "LICENSE.md", "NOTICE")
MAX_CONFIG_BYTES = 4 * 2**20
MAX_TEMPLATE_CHARACTERS = 64 * 1024
"""As the renderer's; a longer one could never be used."""
_GGUF_HINT = (
    "Register it from a machine with the file and Tunesmith's command line, which converts it: "
    "tunesmith model add FILE.gguf --id ID. "
    "If safetensors lie beside it, leave it out."
)
_ZIP_END, _ZIP_END_BYTES, _MAX_ZIP_COMMENT = b"PK\x05\x06", 22, 0xFFFF


def refuse_unsafe_names(paths: Collection[str]) -> None:
    """Raises BASE_MODEL_UNSAFE naming every file whose format could carry code, or which has to be converted first."""
    refuse_gguf(paths)
    strange = [path for path in paths if not path.endswith(SAFE_SUFFIXES) and path not in _TEXTS]
    if strange:
        raise unsafe(", ".join(strange[:10]), f"only {', '.join(SAFE_SUFFIXES)} files and {', '.join(_TEXTS)} are taken")


def refuse_gguf(paths: Collection[str]) -> None:
    """Raises BASE_MODEL_UNSAFE for GGUF: who has transformers converts it, and storage has not."""
    if found := [path for path in paths if path.lower().endswith(".gguf")]:
        raise unsafe(", ".join(found[:10]), "storage converts no GGUF", hint=_GGUF_HINT)


def refuse_unsafe_content(file: File, content: BinaryIO) -> None:
    """Raises BASE_MODEL_UNSAFE when the file asks for code to be run or is not what its name says; `content` is at its start."""
    if is_zip(content, file.size_bytes):
        raise unsafe(file.path, "it is a zip archive as well, which may hold pickles")
    content.seek(0)
    if file.path.endswith(".safetensors"):
        _check_tensor_header(file, content)
    elif file.path.endswith("config.json"):
        _check_config(file, content)
    elif file.path.endswith(".jinja"):
        _check_template(file, content.read(MAX_CONFIG_BYTES).decode(errors="replace"))


def _check_config(file: File, content: BinaryIO) -> None:
    if file.size_bytes > MAX_CONFIG_BYTES:
        raise unsafe(file.path, f"it has {file.size_bytes} bytes; a configuration has at most {MAX_CONFIG_BYTES}")
    config = json_object(file.path, content.read())
    if "auto_map" in config:
        raise unsafe(file.path, 'its "auto_map" asks for Python code to be loaded')
    if _text(config, "trust_remote_code") not in (b"false", b"null"):
        raise unsafe(file.path, 'its "trust_remote_code" asks for Python code to be run')
    for template in _templates(_text(config, "chat_template")):
        _check_template(file, template)


def _text(config: dict[str, msgspec.Raw], key: str) -> bytes:
    """The JSON of a value, null when there is none."""
    return bytes(config.get(key, b"null")).strip()


def _templates(text: bytes) -> Iterator[str]:
    """A template, or several as objects with `name` and `template`."""
    found = msgspec.json.decode(text)
    for each in found if isinstance(found, list) else [found]:
        template = each.get("template") if isinstance(each, dict) else each
        if isinstance(template, str):
            yield template


def _check_template(file: File, template: str) -> None:
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise unsafe(file.path, f"its chat template has {len(template)} characters; at most {MAX_TEMPLATE_CHARACTERS}")


def _check_tensor_header(file: File, content: BinaryIO) -> None:
    try:
        read_tensors(content, file.size_bytes)
    except HeaderError as error:
        raise unsafe(file.path, str(error)) from error


def is_zip(content: BinaryIO, size_bytes: int) -> bool:
    """Whether an unpacker would take the file for an archive: it looks for a record at the end, whatever comes before."""
    content.seek(0)
    if content.read(4) == b"PK\x03\x04":
        return True
    content.seek(max(0, size_bytes - _ZIP_END_BYTES - _MAX_ZIP_COMMENT))
    tail = content.read()
    place = tail.find(_ZIP_END)
    while place >= 0:
        comment = int.from_bytes(tail[place + _ZIP_END_BYTES - 2 : place + _ZIP_END_BYTES], "little")
        if place + _ZIP_END_BYTES + comment == len(tail):
            return True
        place = tail.find(_ZIP_END, place + 1)
    return False


def json_object(path: str, text: bytes) -> dict[str, msgspec.Raw]:
    """The values of a JSON object by key, undecoded; raises BASE_MODEL_UNSAFE."""
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unsafe(path, f"its JSON cannot be read: {error}") from error


def unsafe(path: str, why: str, *, hint: str = "") -> ServiceError:
    """The error for a file that is not taken; an empty hint is the catalogue's."""
    violation = Violation(path, why)
    return ServiceError("BASE_MODEL_UNSAFE", f"{path}: {why}", hint=hint, metadata={"path": path}, violations=[violation])
