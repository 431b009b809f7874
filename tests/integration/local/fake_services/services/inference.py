"""Stand-in for inference."""

import asyncio

from services.fake import serve

asyncio.run(serve("inference"))
