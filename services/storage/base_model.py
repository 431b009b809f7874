"""Domain values of base models, and what makes a base model safe to load; used by the upload and the repository."""

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from services.common.content_key import content_key
from services.common.errors import ServiceError, Violation
from services.storage.file import File, StoredFile

# Formats that hold data only; everything else may run code when it is loaded.
SAFE_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
_MAX_CONFIG_BYTES = 4 * 2**20
_MAX_TENSOR_HEADER_BYTES = 100_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModelDraft:
    """A base model somebody wants to register; its row does not exist yet."""

    id: str
    display_name: str
    family: str
    parameter_count: int
    context_length: int
    license: str
    files: tuple[File, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def revision(self) -> str:
        """SHA-256 over the sorted paths and checksums of all files."""
        return content_key((file.path, file.sha256) for file in self.files)


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModel:
    """A registered base model."""

    id: str
    display_name: str
    family: str
    parameter_count: int
    context_length: int
    license: str
    files: tuple[StoredFile, ...]
    size_bytes: int
    revision: str
    create_time: datetime.datetime
    chat_template_problem: str
    """Why its chat template cannot train, empty when it can."""

    @property
    def name(self) -> str:
        """Resource name."""
        return base_model_name(self.id)


def base_model_name(identifier: str) -> str:
    """Resource name of a base model."""
    return f"baseModels/{identifier}"


def missing_files(files: Sequence[File], field: str) -> Iterator[Violation]:
    """What a directory of Hugging Face layout needs and the declared list in `field` lacks."""
    paths = {file.path for file in files}
    for required in ("config.json", "tokenizer.json"):
        if required not in paths:
            yield Violation(field, f"{required} is missing")
    if not any(path.endswith(".safetensors") for path in paths):
        yield Violation(field, "weights are missing; declare at least one .safetensors file")


def refuse_unsafe_names(files: Sequence[File]) -> None:
    """Raises BASE_MODEL_UNSAFE naming every file whose format could carry code."""
    unsafe = [file.path for file in files if not file.path.endswith(SAFE_SUFFIXES)]
    if unsafe:
        allowed = ", ".join(SAFE_SUFFIXES)
        raise _unsafe(", ".join(unsafe[:10]), f"only {allowed} files are taken")


def refuse_unsafe_content(file: File, content: BinaryIO) -> None:
    """Raises BASE_MODEL_UNSAFE when the file asks for code to be run or is not what its name says; `content` is at its start."""
    if file.path.endswith(".safetensors"):
        _check_tensor_header(file, content)
    elif file.path.endswith("config.json"):
        _check_config(file, content)


def _check_config(file: File, content: BinaryIO) -> None:
    if file.size_bytes > _MAX_CONFIG_BYTES:
        raise _unsafe(file.path, f"it has {file.size_bytes} bytes; a configuration has at most {_MAX_CONFIG_BYTES}")
    if "auto_map" in _json_object(file, content.read()):
        raise _unsafe(file.path, 'its "auto_map" asks for Python code to be loaded')


def _check_tensor_header(file: File, content: BinaryIO) -> None:
    """The layout is: 8 bytes little-endian length, that many bytes of JSON, tensors."""
    length = int.from_bytes(content.read(8), "little")
    if file.size_bytes < 8 or not 2 <= length <= min(_MAX_TENSOR_HEADER_BYTES, file.size_bytes - 8):
        raise _unsafe(file.path, f"it is not a safetensors file: its header claims {length} of {file.size_bytes} bytes")
    _json_object(file, content.read(length))


def _json_object(file: File, text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unsafe(file.path, f"its JSON cannot be read: {error}") from error


def _unsafe(path: str, why: str) -> ServiceError:
    violation = Violation(path, why)
    return ServiceError("BASE_MODEL_UNSAFE", f"{path}: {why}", metadata={"path": path}, violations=[violation])
