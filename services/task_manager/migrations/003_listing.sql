-- What tasks are listed by. Specs hold full resource names as plain text, whatever else is around them; method and tuning of tasks
-- from before are not told.
ALTER TABLE task
    ADD COLUMN base_model text NOT NULL DEFAULT '',
    ADD COLUMN method text NOT NULL DEFAULT '',
    ADD COLUMN tuning text NOT NULL DEFAULT '';
UPDATE task SET base_model = coalesce(substring(encode(spec, 'escape') FROM 'baseModels/[a-z0-9][a-z0-9._-]*'), '');

CREATE INDEX task_labels ON task USING gin (labels jsonb_path_ops);
CREATE INDEX task_state_newest ON task (state, create_time DESC, id DESC);
-- For those who watch many tasks.
CREATE INDEX task_updated ON task (update_time, id);
