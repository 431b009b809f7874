"""Registers a model directory as a base model, as any gRPC client would."""

import hashlib
import pathlib
from collections.abc import Iterator

import grpc

from tunesmith.v1 import artifact_pb2, base_model_pb2, model_service_pb2, model_service_pb2_grpc

CHUNK_BYTES = 1 << 20


def register_base_model(storage_address: str, identifier: str, directory: pathlib.Path) -> base_model_pb2.BaseModel:
    """Streams every file of `directory` to storage."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    header = base_model_pb2.BaseModel(
        name=f"baseModels/{identifier}", display_name=identifier, family="llama", parameter_count=1, context_length=512
    )
    for path in files:
        data = path.read_bytes()
        name = path.relative_to(directory).as_posix()
        header.files.append(artifact_pb2.File(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))

    def requests() -> Iterator[model_service_pb2.RegisterBaseModelRequest]:
        yield model_service_pb2.RegisterBaseModelRequest(header=header)
        for path in files:
            yield model_service_pb2.RegisterBaseModelRequest(path=path.relative_to(directory).as_posix())
            data = path.read_bytes()
            for start in range(0, len(data), CHUNK_BYTES):
                yield model_service_pb2.RegisterBaseModelRequest(chunk=data[start : start + CHUNK_BYTES])

    with grpc.insecure_channel(storage_address) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).RegisterBaseModel(requests(), timeout=60)
