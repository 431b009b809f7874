-- Not started before this time; between two attempts of a task whose run was lost the server sets it.
ALTER TABLE task ADD COLUMN not_before timestamptz;
-- Runs that may be lost until the task fails; NULL = what the server is set to.
ALTER TABLE task ADD COLUMN max_attempts int CHECK (max_attempts BETWEEN 1 AND 100);
-- How long training is expected to take, from what was known when the task was created.
ALTER TABLE task ADD COLUMN expected_duration interval;

CREATE VIEW due_task AS
SELECT id, processes, create_time, expected_duration AS duration, -priority AS rank FROM task
WHERE state = 'QUEUED' AND (not_before IS NULL OR not_before <= now());

CREATE INDEX task_queue_by_size ON task (processes, (-priority), create_time, id) WHERE state = 'QUEUED';
