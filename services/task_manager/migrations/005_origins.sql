-- A task that failed or was cancelled can be tried again; what it has learned since its last checkpoint is all it loses.
INSERT INTO allowed_transition (from_state, to_state) VALUES ('FAILED', 'QUEUED'), ('CANCELLED', 'QUEUED');

ALTER TABLE task
    -- A Hyperparameters message, serialised: what retries have changed about the spec's numbers.
    ADD COLUMN overrides bytea NOT NULL DEFAULT '',
    -- Checkpoints of attempts before this one are not used; 0 = those of every attempt are.
    ADD COLUMN first_attempt int NOT NULL DEFAULT 0,
    -- What it was made from. Names and no references: they outlive what they name.
    ADD COLUMN origin_artifact text NOT NULL DEFAULT '',
    ADD COLUMN origin_task uuid,
    ADD COLUMN origin_step bigint NOT NULL DEFAULT 0,
    ADD COLUMN cloned_from uuid;

CREATE INDEX task_origin ON task (origin_task) WHERE origin_task IS NOT NULL;

-- Every call that tried a task again; a repeat finds the first by its request_id.
CREATE TABLE task_retry (
    task_id        uuid NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    number         bigint GENERATED ALWAYS AS IDENTITY,
    request_id     uuid CONSTRAINT task_retry_request_id UNIQUE,
    request_digest bytea NOT NULL,
    attempt        int NOT NULL,
    from_start     boolean NOT NULL,
    changes        bytea NOT NULL,
    create_time    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, number)
);
CREATE TRIGGER task_retry_append_only BEFORE UPDATE ON task_retry FOR EACH ROW EXECUTE FUNCTION refuse_change();
