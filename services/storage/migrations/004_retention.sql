-- How artifacts come to their end: AVAILABLE -> EXPIRED (bytes kept, restorable) -> DELETED (the row stays).

-- The only clock of retention. A function, so that every comparison reads the same one.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';

ALTER TABLE artifact
    -- While EXPIRED: when its bytes may go. Once DELETED: when that was decided.
    ADD COLUMN delete_time timestamptz,
    ADD COLUMN pinned boolean NOT NULL DEFAULT false,
    ADD COLUMN reason text NOT NULL DEFAULT '' CHECK (char_length(reason) <= 128),
    -- In use until then: downloaded, exported, chatted with.
    ADD COLUMN hold_until timestamptz;

ALTER TABLE artifact
    -- When the sweeper has something to do with the row; NULL = never. The one rule of what is due.
    ADD COLUMN due_time timestamptz GENERATED ALWAYS AS (
        CASE
            WHEN state = 'AVAILABLE' AND NOT pinned THEN greatest(expire_time, hold_until)
            WHEN state = 'EXPIRED' THEN delete_time
        END
    ) STORED;

ALTER TABLE artifact
    ADD CONSTRAINT artifact_delete_time CHECK ((state = 'AVAILABLE') = (delete_time IS NULL)),
    ADD CONSTRAINT artifact_pinned CHECK (state = 'AVAILABLE' OR NOT pinned);

DROP INDEX artifact_expiring;
CREATE INDEX artifact_due ON artifact (due_time) WHERE due_time IS NOT NULL;

-- Who did what to an artifact, and why. Rows are never changed.
CREATE TABLE artifact_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    artifact uuid NOT NULL REFERENCES artifact,
    action text NOT NULL CHECK (action IN ('PIN', 'UNPIN', 'EXTEND', 'RESTORE', 'EXPORT', 'EXPIRE', 'DELETE')),
    actor text NOT NULL CHECK (actor IN ('caller', 'sweeper')),
    reason text NOT NULL DEFAULT '',
    -- Its `expire_time` after the action.
    expire_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock()
);

CREATE INDEX artifact_audit_artifact ON artifact_audit (artifact, id);

-- Announcements of an end that is near, each made once per end.
CREATE TABLE artifact_notice (
    artifact uuid NOT NULL REFERENCES artifact,
    expire_time timestamptz NOT NULL,
    days int NOT NULL CHECK (days > 0),
    create_time timestamptz NOT NULL DEFAULT clock(),
    PRIMARY KEY (artifact, expire_time, days)
);

-- An upload counts on the blob without having sent its bytes; it stays until then.
ALTER TABLE blob ADD COLUMN hold_until timestamptz;

-- Objects that must go and those that have gone: the row is written before the bytes are touched, and stays as the record. A key in
-- here never comes to life again.
CREATE TABLE condemned_object (
    object_key text PRIMARY KEY,
    -- NULL for an object that no row has ever referred to.
    sha256 text,
    size_bytes bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock(),
    remove_time timestamptz
);

CREATE INDEX condemned_object_waiting ON condemned_object (create_time, object_key) WHERE remove_time IS NULL;

-- Objects seen in the bucket without a row, and since when.
CREATE TABLE orphan_object (
    object_key text PRIMARY KEY,
    size_bytes bigint NOT NULL,
    find_time timestamptz NOT NULL DEFAULT clock()
);
