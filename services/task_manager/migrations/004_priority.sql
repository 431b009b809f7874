-- Of two waiting tasks that fit, the one with the higher number starts first.
ALTER TABLE task ADD COLUMN priority int NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
DROP INDEX task_queue;
CREATE INDEX task_queue ON task ((-priority), create_time, id) WHERE state = 'QUEUED';
