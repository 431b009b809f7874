"""When trainers were last heard of by any task manager, as SQL; used by the claims and by whoever takes tasks for a trainer.

A strict trainer counts as silent only by what is written here: that one task manager cannot reach it, or was stopped for a while,
says nothing about others. Who cannot write here asks no trainer for its runs (`orphans`), so none is kept going in secret.
"""

# In order, so that two who write about the same trainers wait for one another only in one direction.
HEARD = """
INSERT INTO task_manager.runner_contact (runner, heard_time)
SELECT DISTINCT one.runner, now() FROM unnest(%(runners)s::text[]) AS one (runner) ORDER BY 1
ON CONFLICT (runner) DO UPDATE SET heard_time = excluded.heard_time
"""
SILENCE = "SELECT now() - heard_time AS silence FROM task_manager.runner_contact WHERE runner = %(runner)s"
