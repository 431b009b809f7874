"""What creating and planning a task need of the storage service; `storage_grpc` is the adapter."""

from collections.abc import Sequence
from typing import Protocol

from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts, TokenFacts
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.origin import ArtifactFacts


class Storage(Protocol):
    """Raises NotFound (DATASET_NOT_FOUND, BASE_MODEL_NOT_FOUND), and Unavailable STORAGE_UNAVAILABLE when it does not answer."""

    async def dataset(self, name: str) -> DatasetFacts:
        """Of `datasets/{uuid}`."""

    async def base_model(self, name: str) -> BaseModelFacts:
        """Of `baseModels/{id}`."""

    async def model_shape(self, base_model: str) -> ModelShape | None:
        """From the base model's config.json; None when it has none or does not tell."""

    async def artifact(self, name: str) -> ArtifactFacts:
        """Of `artifacts/{uuid}`; raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED)."""

    async def hold(self, artifact: str) -> None:
        """Keeps `artifacts/{uuid}` for an hour; raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED)."""

    async def checkpoints(self, task: str) -> Sequence[ArtifactFacts]:
        """The committed checkpoints of `tasks/{uuid}` that have not expired, newest step first."""

    async def tokens(
        self, dataset: str, *, base_model: str, max_seq_length: int, against: str, patience: float
    ) -> TokenFacts | None:
        """The dataset in tokens, compared with the dataset `against` unless that is empty.

        None = not counted within `patience` seconds, or by a storage service that cannot count.
        """
