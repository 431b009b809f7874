"""Stand-in for storage: one base model that exists already, and bytes that nobody has found damaged."""

import asyncio

from services.fake import serve
from tunesmith.v1 import artifact_service_pb2, artifact_service_pb2_grpc, base_model_pb2, model_service_pb2_grpc


class Models(model_service_pb2_grpc.ModelServiceServicer):
    async def GetBaseModel(self, request, context):
        return base_model_pb2.BaseModel(name=request.name)


class Artifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    async def GetStorageCheck(self, request, context):
        return artifact_service_pb2.StorageCheck()


def register(server):
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(Artifacts(), server)


asyncio.run(serve("storage", register))
