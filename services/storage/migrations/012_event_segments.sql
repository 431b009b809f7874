-- Events of tasks that have ended, as the task manager packs them. They end with the task and not with its artifacts.
CREATE TABLE event_segment (
    task        uuid NOT NULL,
    sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes  bigint NOT NULL,
    object_key  text NOT NULL UNIQUE,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task, sha256)
);
