"""Stand-in for storage: one base model that exists already."""

import asyncio

from services.fake import serve
from tunesmith.v1 import base_model_pb2, model_service_pb2_grpc


class Models(model_service_pb2_grpc.ModelServiceServicer):
    async def GetBaseModel(self, request, context):
        return base_model_pb2.BaseModel(name=request.name)


asyncio.run(serve("storage", lambda server: model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)))
