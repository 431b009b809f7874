"""The storage service over gRPC: the adapter of `storage_port`; made in `__main__`."""

import grpc

from services.common.channels import call_metadata, translated
from services.task_manager.storage_port import BaseModelFacts, DatasetFacts
from tunesmith.v1 import dataset_service_pb2, dataset_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc

_REASON = "STORAGE_UNAVAILABLE"


class GrpcStorage:
    """The storage service. `deadline` caps each call, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "", deadline: float = 10.0) -> None:
        self._datasets = dataset_service_pb2_grpc.DatasetServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._api_key = api_key
        self._deadline = deadline

    async def dataset(self, name: str) -> DatasetFacts:
        """See Storage."""
        request = dataset_service_pb2.GetDatasetRequest(name=name)
        with translated(_REASON, "storage"):
            answer = await self._datasets.GetDataset(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return DatasetFacts(answer.statistics.example_count)

    async def base_model(self, name: str) -> BaseModelFacts:
        """See Storage."""
        request = model_service_pb2.GetBaseModelRequest(name=name)
        with translated(_REASON, "storage"):
            answer = await self._models.GetBaseModel(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return BaseModelFacts(answer.context_length)
