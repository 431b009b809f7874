"""What creating a task needs of the storage service; `storage_grpc` is the adapter."""

import dataclasses
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a plan needs to know of a dataset."""

    example_count: int


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """What a plan needs to know of a base model."""

    context_length: int
    """Tokens; 0 = not known."""


class Storage(Protocol):
    """Raises NotFound (DATASET_NOT_FOUND, BASE_MODEL_NOT_FOUND), and Unavailable STORAGE_UNAVAILABLE when it does not answer."""

    async def dataset(self, name: str) -> DatasetFacts:
        """Of `datasets/{uuid}`."""

    async def base_model(self, name: str) -> BaseModelFacts:
        """Of `baseModels/{id}`."""
