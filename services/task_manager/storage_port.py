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

    async def model_shape(self, model: str) -> ModelShape | None:
        """From the config.json of a base model or a version of a registered one; None when it has none or does not tell.

        Raises ServiceError of class transient when it cannot be read now.
        """

    async def artifact(self, name: str) -> ArtifactFacts:
        """Of `artifacts/{uuid}`; raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED)."""

    async def model_version(self, name: str) -> ArtifactFacts:
        """Of a version of a registered model, by number, by alias or the newest; its name is that of the version.

        Raises NotFound (REGISTERED_MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND).
        """

    async def hold(self, name: str) -> None:
        """Keeps `artifacts/{uuid}` for an hour; a version of a registered model, which does not expire, need only be there.

        Raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED, MODEL_VERSION_NOT_FOUND).
        """

    async def checkpoints(self, task: str) -> Sequence[ArtifactFacts]:
        """The committed checkpoints of `tasks/{uuid}` that have not expired, newest step first."""

    async def tokens(
        self, dataset: str, *, base_model: str, max_seq_length: int, against: str, patience: float
    ) -> TokenFacts | None:
        """The dataset in tokens, compared with the dataset `against` unless that is empty.

        None = not counted within `patience` seconds, or by a storage service that cannot count.
        """
