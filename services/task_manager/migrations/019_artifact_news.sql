-- Announcements of storage about artifacts are told by webhooks, too; of one, which artifact, how many days are left and until when.
ALTER TABLE webhook_event
    ADD COLUMN artifact uuid,
    ADD COLUMN days int NOT NULL DEFAULT 0,
    ADD COLUMN expire_time timestamptz;

-- Up to which announcement they have been written into webhook_event. No row: nobody has asked for them yet.
CREATE TABLE artifact_news (
    id            text PRIMARY KEY,
    last_sequence bigint NOT NULL CHECK (last_sequence >= 0)
);
