"""/v1/uploads: parts of any size in any order, which storage cannot keep yet."""

from starlette.requests import Request
from starlette.responses import Response

from services.common.errors import ServiceError


async def create(request: Request) -> Response:
    """POST: refused."""
    raise ServiceError("FEATURE_NOT_SUPPORTED", "uploads in parts are not supported", hint="Send the whole file to /v1/files.")
