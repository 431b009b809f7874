"""Stand-in for task_manager."""

import asyncio

from services.fake import serve

asyncio.run(serve("task_manager"))
