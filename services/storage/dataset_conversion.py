"""Domain values of datasets to protos; used by the dataset servicer."""

import datetime
from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf import json_format, timestamp_pb2
from google.protobuf.message import Message

from services.storage.dataset import Dataset, Json
from services.storage.part_upload import Part, PartUpload
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

M = TypeVar("M", bound=Message)


def to_dataset(dataset: Dataset) -> dataset_pb2.Dataset:
    """The resource."""
    return dataset_pb2.Dataset(
        name=dataset.name,
        display_name=dataset.display_name,
        size_bytes=dataset.original.size_bytes,
        sha256=dataset.original.sha256,
        statistics=parsed(dataset.statistics, dataset_pb2.DatasetStatistics()),
        create_time=_timestamp(dataset.create_time),
        version=dataset.version,
        format=dataset_pb2.Dataset.Format.Value(dataset.format),
        dropped_row_count=dataset.dropped_row_count,
        dropped_rows_by_reason=dataset.dropped_rows_by_reason,
        warnings=[parsed(warning, dataset_pb2.DatasetWarning()) for warning in dataset.warnings],
        rows_sha256=dataset.rows.sha256,
        expire_time=_timestamp(dataset.expire_time) if dataset.expire_time else None,
    )


def to_upload(upload: PartUpload, parts: Iterable[tuple[Part, str]]) -> dataset_service_pb2.DatasetUpload:
    """An upload in parts with the URL of each."""
    sent = [
        dataset_service_pb2.DatasetUploadPart(number=part.number, offset=part.offset, size_bytes=part.size_bytes, url=url)
        for part, url in parts
    ]
    return dataset_service_pb2.DatasetUpload(name=upload.name, parts=sent, expire_time=_timestamp(upload.expire_time))


def to_previews(rows: Sequence[Json]) -> dataset_service_pb2.PreviewDatasetResponse:
    """Rows as a base model is given them."""
    return dataset_service_pb2.PreviewDatasetResponse(rows=[parsed(row, dataset_service_pb2.RowPreview()) for row in rows])


def parsed(json: Json, message: M) -> M:
    """A message from its JSON, as the processes beside this service write it."""
    return json_format.ParseDict(dict(json), message)


def _timestamp(time: datetime.datetime) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
