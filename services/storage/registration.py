"""Builds the servicers from what they need and adds them to a server; used by `__main__`."""

import dataclasses
import uuid
from collections.abc import Callable

import grpc

from services.storage.artifact_repository import ArtifactRepository
from services.storage.artifact_servicer import ArtifactServicer
from services.storage.artifact_upload import ArtifactUpload
from services.storage.base_model import refuse_unsafe_content
from services.storage.base_model_repository import BaseModelRepository
from services.storage.base_model_upload import BaseModelUpload
from services.storage.blob_repository import BlobRepository
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_servicer import DatasetServicer
from services.storage.dataset_upload import DatasetUpload
from services.storage.export import Export
from services.storage.model_servicer import ModelServicer
from services.storage.object_store import ObjectStore
from services.storage.registry_conversion import read_lineage
from services.storage.registry_repository import RegistryRepository
from services.storage.sweep_repository import SweepRepository
from services.storage.sweeper import Sweeper
from services.storage.upload import FileUpload
from tunesmith.v1 import artifact_service_pb2_grpc, dataset_service_pb2_grpc, model_service_pb2_grpc

NAMES = ("tunesmith.v1.DatasetService", "tunesmith.v1.ArtifactService", "tunesmith.v1.ModelService")


@dataclasses.dataclass(frozen=True, slots=True)
class Repositories:
    """Where the facts are."""

    datasets: DatasetRepository
    artifacts: ArtifactRepository
    models: BaseModelRepository
    blobs: BlobRepository
    sweeps: SweepRepository
    registry: RegistryRepository


def register(
    server: grpc.aio.Server, repositories: Repositories, store: ObjectStore, new_id: Callable[[], uuid.UUID], sweeper: Sweeper
) -> None:
    """Adds the three services to `server`."""
    dataset_upload = DatasetUpload(repositories.datasets, store, new_id)
    artifact_upload = ArtifactUpload(repositories.artifacts, store, FileUpload(repositories.blobs, new_id))
    model_files = FileUpload(repositories.blobs, new_id, inspect=refuse_unsafe_content)
    model_upload = BaseModelUpload(repositories.models, store, model_files)
    export = Export(
        registry=repositories.registry,
        artifacts=repositories.artifacts,
        base_models=repositories.models,
        blobs=repositories.blobs,
        store=store,
        new_id=new_id,
        read_lineage=read_lineage,
    )
    datasets = DatasetServicer(repositories.datasets, store, dataset_upload)
    artifacts = ArtifactServicer(
        repository=repositories.artifacts, store=store, upload=artifact_upload, export=export, sweeper=sweeper, new_id=new_id
    )
    models = ModelServicer(repositories.models, repositories.registry, store, model_upload)
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(datasets, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
