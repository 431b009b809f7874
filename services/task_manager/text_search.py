"""Whether a text is looked up in the index of parts of words or in the tasks themselves; used by the listing.

Newest first, tasks that contain a common text are all around, so that a page is soon full. Those that contain a rare one are not,
and the index has them at once; for a common one it would bring most of all tasks, to be put in order only then. The database
cannot tell the two apart, since it takes the parts of a text for independent of each other. A sample of the tasks can.
"""

from services.common.postgres import Connection
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.task_conditions import conditions

_SAMPLED = 10_000
_RARE = 20
_SAMPLE = """
SELECT count(*) AS found FROM task_manager.task t TABLESAMPLE SYSTEM ((
    SELECT least(100, 100 * {sampled} / greatest(reltuples, 1)) FROM pg_class WHERE oid = 'task_manager.task'::regclass
)) WHERE {condition}
"""


async def asks_index(connection: Connection, wanted: TaskFilter) -> bool:
    """Whether at most about 1 in 500 tasks contains the text that is looked for; False when none is."""
    if not (wanted.text or wanted.display_name_contains):
        return False
    condition, parameters = conditions(TaskFilter(text=wanted.text, display_name_contains=wanted.display_name_contains))
    query = _SAMPLE.format(sampled=_SAMPLED, condition=condition)
    row = await (await connection.execute(query.encode(), parameters)).fetchone()
    return row is not None and row["found"] < _RARE
