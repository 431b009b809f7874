"""What a project may have: tasks that wait, processes that run; checked when a task is created.

Running processes are no reason to refuse a task, which waits then; only one that could never run is refused.
"""

import dataclasses

from services.common.errors import ServiceError
from services.common.postgres import Connection

# Any constant will do as long as every task manager uses the same one.
_LOCK = 716_392
_QUEUED = """
SELECT count(*) AS queued FROM task_manager.task WHERE state = 'QUEUED' AND coalesce(labels ->> 'project', '') = %(project)s
"""


@dataclasses.dataclass(frozen=True, slots=True)
class ProjectQuota:
    """0 = any number."""

    max_queued: int = 0
    max_processes: int = 0

    async def check(self, connection: Connection, project: str, processes: int) -> None:
        """Raises ServiceError PROJECT_QUOTA_EXCEEDED; creations in one project follow on one another until they commit."""
        name = f"project {project!r}" if project else "all that name no project together"
        if self.max_processes and processes > self.max_processes:
            raise _exceeded(f"the task needs {processes} processes; {name} may have {self.max_processes}")
        if not self.max_queued:
            return
        await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, project))
        row = await (await connection.execute(_QUEUED, {"project": project})).fetchone()
        if row and row["queued"] >= self.max_queued:
            raise _exceeded(f"{row['queued']} tasks wait already; {name} may have {self.max_queued}")


def _exceeded(message: str) -> ServiceError:
    return ServiceError("PROJECT_QUOTA_EXCEEDED", message)
