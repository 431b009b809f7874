-- What a task does: the field of its spec that is set. All tasks from before are fine-tuning.
ALTER TABLE task ADD COLUMN kind text NOT NULL DEFAULT 'FINE_TUNING'
    CHECK (kind IN ('FINE_TUNING', 'EVALUATION', 'GENERATION', 'EXPORT'));
CREATE INDEX task_kind_newest ON task (kind, create_time DESC, id DESC);
