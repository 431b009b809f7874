"""Makes cancelling certain; used by every endless loop of the service.

`asyncio.wait_for` of Python 3.11, and with it libraries that wait for sockets, can swallow a cancellation that comes together
with the result. The task's own count of cancellations keeps it, so a loop that looks there ends in its next round.
"""

import asyncio


def check_cancelled() -> None:
    """Raises CancelledError when the running task was cancelled and something swallowed it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
