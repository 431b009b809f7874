"""/v1/completions: the old API continues raw text, which inference cannot do yet; it only answers conversations."""

from starlette.requests import Request
from starlette.responses import Response

from services.common.errors import ServiceError


async def create(request: Request) -> Response:
    """POST: refused. Putting the prompt into a conversation would give another text than the caller asked for."""
    raise ServiceError("FEATURE_NOT_SUPPORTED", "continuing raw text is not supported", hint="Use /v1/chat/completions.")
