-- Labels that a runner must have to take the task; {} = any runner does.
ALTER TABLE task ADD COLUMN runner_labels jsonb NOT NULL DEFAULT '{}';
-- Main memory its runs are expected to need at their peak, all processes together; 0 = not known.
ALTER TABLE task ADD COLUMN memory_bytes bigint NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0);

-- By labels, too, so that tasks that wait for one runner are not waded through for those of another.
CREATE OR REPLACE VIEW due_task AS
SELECT id, processes, create_time, expected_duration AS duration, -priority AS rank, coalesce(labels ->> 'project', '') AS project,
    runner_labels, memory_bytes
FROM task WHERE state = 'QUEUED' AND (not_before IS NULL OR not_before <= now());

DROP INDEX task_queue_by_project;
CREATE INDEX task_queue_by_labels
ON task (processes, (coalesce(labels ->> 'project', '')), runner_labels, (-priority), create_time, id) WHERE state = 'QUEUED';
