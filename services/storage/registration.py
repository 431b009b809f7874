"""Builds the servicers from what they need and adds them to a server; used by `__main__`."""

import dataclasses
import datetime
import functools
import uuid
from collections.abc import Callable, Mapping

import grpc

from services.storage.artifact_repository import ArtifactRepository
from services.storage.artifact_servicer import ArtifactServicer
from services.storage.artifact_upload import ArtifactUpload
from services.storage.base_model_files import BaseModelFiles
from services.storage.base_model_repository import BaseModelRepository
from services.storage.base_model_upload import BaseModelUpload
from services.storage.blob_repository import BlobRepository
from services.storage.dataset_deletion import DatasetDeletion
from services.storage.dataset_intake import DatasetIntake, StartChecker
from services.storage.dataset_pieces import DatasetPieces
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_servicer import DatasetServicer, DatasetWork
from services.storage.dataset_tokens import DatasetTokens
from services.storage.dataset_upload import DatasetUpload
from services.storage.event_archive import EventArchive
from services.storage.event_archive_servicer import EventArchiveServicer
from services.storage.event_segment_repository import EventSegmentRepository
from services.storage.export import Export
from services.storage.live_tasks import LiveTasks
from services.storage.model_import import ModelImport
from services.storage.model_safety import refuse_unsafe_content
from services.storage.model_servicer import ModelServicer
from services.storage.notice_repository import NoticeRepository
from services.storage.object_store import ObjectStore
from services.storage.part_upload_repository import PartUploadRepository
from services.storage.part_uploads import PartUploads
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.registry_conversion import read_lineage, write_manifest
from services.storage.registry_repository import RegistryRepository
from services.storage.scrub_repository import ScrubRepository
from services.storage.server_import import ServerImport
from services.storage.server_place import ServerPlace
from services.storage.signed_download import SignedDownloads
from services.storage.sweep_repository import SweepRepository
from services.storage.sweeper import Sweeper
from services.storage.token_port import Tokens
from services.storage.token_statistics_repository import TokenStatisticsRepository
from services.storage.upload import FileUpload
from services.storage.verified_read import VerifiedRead
from services.storage.version_deletion import VersionDeletion
from tunesmith.v1 import (
    artifact_service_pb2_grpc,
    dataset_service_pb2_grpc,
    event_archive_service_pb2_grpc,
    model_service_pb2_grpc,
)

NAMES = (
    "tunesmith.v1.DatasetService",
    "tunesmith.v1.ArtifactService",
    "tunesmith.v1.ModelService",
    "tunesmith.v1.EventArchiveService",
)
SLOW_METHODS = {
    "/tunesmith.v1.DatasetService/CompleteDatasetUpload": 6 * 3600.0,
    "/tunesmith.v1.DatasetService/JoinDatasetPieces": 6 * 3600.0,
    "/tunesmith.v1.DatasetService/AnalyzeDataset": 6 * 3600.0,
    "/tunesmith.v1.DatasetService/PreviewDataset": 300.0,
    "/tunesmith.v1.ArtifactService/ExportArtifact": 6 * 3600.0,
    "/tunesmith.v1.ModelService/ImportServerModel": 6 * 3600.0,
    "/tunesmith.v1.ModelService/RegisterServerBaseModel": 6 * 3600.0,
}
"""Methods that read whole datasets or models, or start processes, with their longest time in seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Repositories:
    """Where the facts are."""

    datasets: DatasetRepository
    artifacts: ArtifactRepository
    models: BaseModelRepository
    blobs: BlobRepository
    pending: PendingObjectRepository
    part_uploads: PartUploadRepository
    token_statistics: TokenStatisticsRepository
    sweeps: SweepRepository
    registry: RegistryRepository
    notices: NoticeRepository
    scrubs: ScrubRepository
    segments: EventSegmentRepository


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What the services work with besides facts."""

    store: ObjectStore
    sweeper: Sweeper
    start_checker: StartChecker
    tokens: Tokens
    small_files: BaseModelFiles
    tasks: LiveTasks
    upload_lifetime: datetime.timedelta
    """How long an upload in parts may take."""
    scrub_interval: datetime.timedelta = datetime.timedelta(days=30)
    """When stored bytes are due to be read again."""
    analyses: int = 2
    """Datasets analyzed at once."""
    server_places: Mapping[str, ServerPlace] = dataclasses.field(default_factory=dict)
    """Where models are read from by the server itself, by the fields of the proto's ServerPlace."""
    new_id: Callable[[], uuid.UUID] = uuid.uuid4


def register(server: grpc.aio.Server, repositories: Repositories, around: Surroundings) -> None:
    """Adds the four services to `server`."""
    datasets = DatasetServicer(_dataset_work(repositories, around))
    artifacts = _artifact_servicer(repositories, around)
    files = VerifiedRead(around.store, repositories.scrubs)
    archive = EventArchive(
        segments=repositories.segments, files=files, store=around.store, pending=repositories.pending, new_id=around.new_id
    )
    upload, importing = _model_upload(repositories, around), _model_import(repositories, around)
    models = ModelServicer(
        repository=repositories.models,
        registry=repositories.registry,
        files=files,
        signed=SignedDownloads(around.store),
        upload=upload,
        importing=importing,
        from_server=ServerImport(around.server_places, models=importing, base_models=upload),
        deletion=VersionDeletion(repositories.registry, around.tasks),
    )
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(datasets, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    event_archive_service_pb2_grpc.add_EventArchiveServiceServicer_to_server(EventArchiveServicer(archive), server)


def dataset_deletion(repositories: Repositories, around: Surroundings) -> DatasetDeletion:
    """How datasets are removed, on demand and when their time has come."""
    return DatasetDeletion(repositories.datasets, repositories.pending, around.store, around.tasks, around.new_id)


def _dataset_work(repositories: Repositories, around: Surroundings) -> DatasetWork:
    datasets, pending, store = repositories.datasets, repositories.pending, around.store
    intake = DatasetIntake(around.start_checker)
    upload = DatasetUpload(intake, datasets, store, pending, around.new_id)
    return DatasetWork(
        repository=datasets,
        models=repositories.models,
        files=VerifiedRead(store, repositories.scrubs),
        intake=intake,
        upload=upload,
        part_uploads=PartUploads(
            uploads=repositories.part_uploads,
            datasets=datasets,
            pending=pending,
            store=store,
            completion=upload,
            new_id=around.new_id,
            lifetime=around.upload_lifetime,
        ),
        pieces=DatasetPieces(datasets=datasets, pending=pending, store=store, upload=upload, new_id=around.new_id),
        deletion=dataset_deletion(repositories, around),
        tokens=DatasetTokens(
            datasets=datasets,
            statistics=repositories.token_statistics,
            store=store,
            files=around.small_files,
            tokens=around.tokens,
            analyses=around.analyses,
        ),
    )


def _artifact_servicer(repositories: Repositories, around: Surroundings) -> ArtifactServicer:
    files = FileUpload(repositories.blobs, around.new_id)
    return ArtifactServicer(
        repository=repositories.artifacts,
        files=VerifiedRead(around.store, repositories.scrubs),
        signed=SignedDownloads(around.store),
        notices=repositories.notices,
        scrub_status=functools.partial(repositories.scrubs.status, around.scrub_interval),
        upload=ArtifactUpload(repositories.artifacts, around.store, repositories.pending, files),
        export=Export(
            registry=repositories.registry,
            artifacts=repositories.artifacts,
            base_models=repositories.models,
            store=around.store,
            pending=repositories.pending,
            new_id=around.new_id,
            read_lineage=read_lineage,
        ),
        sweeper=around.sweeper,
        new_id=around.new_id,
    )


def _model_upload(repositories: Repositories, around: Surroundings) -> BaseModelUpload:
    files = FileUpload(repositories.blobs, around.new_id, inspect=refuse_unsafe_content)
    return BaseModelUpload(
        repositories.models,
        around.store,
        repositories.pending,
        files=files,
        small_files=around.small_files,
        tokens=around.tokens,
    )


def _model_import(repositories: Repositories, around: Surroundings) -> ModelImport:
    return ModelImport(
        registry=repositories.registry,
        base_models=repositories.models,
        blobs=repositories.blobs,
        store=around.store,
        pending=repositories.pending,
        new_id=around.new_id,
        write_manifest=write_manifest,
    )
