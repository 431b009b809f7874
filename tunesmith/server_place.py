"""Where a model lies that the server reads itself; used by the verbs that name one."""

from tunesmith.v1.model_service_pb2 import ServerPlace


def server_place(directory: str, s3_prefix: str) -> ServerPlace:
    """A directory or a prefix, relative to what the operator allows; raises ValueError unless exactly one is given."""
    if bool(directory) == bool(s3_prefix):
        raise ValueError("give either directory or s3_prefix")
    return ServerPlace(directory=directory) if directory else ServerPlace(s3_prefix=s3_prefix)
