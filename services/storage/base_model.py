"""Domain values of base models, and what one needs; used by the upload and the repository."""

import dataclasses
import datetime
from collections.abc import Collection, Iterator

from services.common.content_key import content_key
from services.common.errors import Violation
from services.storage.file import File, StoredFile


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
    dtype: str = ""
    """Number format of most of its weights, as safetensors names it; empty = not known."""

    @property
    def name(self) -> str:
        """Resource name."""
        return base_model_name(self.id)


def base_model_name(identifier: str) -> str:
    """Resource name of a base model."""
    return f"baseModels/{identifier}"


def missing_files(paths: Collection[str], field: str) -> Iterator[Violation]:
    """What a directory of Hugging Face layout needs and the list in `field` lacks."""
    for required in ("config.json", "tokenizer.json"):
        if required not in paths:
            yield Violation(field, f"{required} is missing")
    if not any(path.endswith(".safetensors") for path in paths):
        yield Violation(field, "weights are missing; at least one .safetensors file is needed")
