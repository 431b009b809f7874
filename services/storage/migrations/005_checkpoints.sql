-- What a task continues from is an artifact as well, and which of them stay is decided when another one is committed.
ALTER TABLE artifact DROP CONSTRAINT artifact_kind_check;
ALTER TABLE artifact ADD CONSTRAINT artifact_kind_check CHECK (kind IN ('ADAPTER', 'MODEL', 'CHECKPOINT'));

ALTER TABLE artifact
    -- Somebody gave it a name: it stays whatever comes after it. Of checkpoints only.
    ADD COLUMN labelled boolean NOT NULL DEFAULT false,
    -- Validation loss of exactly these weights; NULL = not measured. Of checkpoints only.
    ADD COLUMN eval_loss float8;

CREATE INDEX artifact_checkpoint ON artifact (task, create_time DESC, id DESC) WHERE kind = 'CHECKPOINT' AND state = 'AVAILABLE';
