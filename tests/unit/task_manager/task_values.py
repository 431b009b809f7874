"""A task as a value, for tests that need one."""

import dataclasses
import datetime
import uuid
from typing import Any

from services.task_manager.domain.task import State, Task

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def a_task(**changes: Any) -> Task:
    """One that waits for its second attempt."""
    plain = Task(
        id=uuid.UUID(int=5),
        display_name="n",
        description="d",
        labels={"a": "b"},
        spec=b"",
        effective_hyperparameters=b"",
        state=State.QUEUED,
        state_reason="waits",
        attempt=1,
        epoch=2,
        head_sequence=3,
        error=None,
        artifact="",
        create_time=NOW,
        start_time=None,
        end_time=None,
        update_time=NOW,
        progress=None,
    )
    return dataclasses.replace(plain, **changes)
