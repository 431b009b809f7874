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

-- What a sweep removes it can tell in bytes; 0 = recorded before this was asked.
ALTER TABLE pending_object
    ADD COLUMN size_bytes bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    ALTER COLUMN create_time SET DEFAULT clock();
ALTER TABLE dataset_upload ALTER COLUMN create_time SET DEFAULT clock();

-- Objects seen in the bucket that have neither a blob nor a pending_object, and since when.
CREATE TABLE orphan_object (
    object_key text PRIMARY KEY,
    size_bytes bigint NOT NULL,
    find_time timestamptz NOT NULL DEFAULT clock()
);

-- The registry: what was exported, kept until somebody deletes it. Versions refer to blobs of their own accord, so the end of the
-- artifact they came from takes nothing from them.
CREATE TABLE registered_model (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$'),
    -- The last number given; numbers are not given twice.
    last_version int NOT NULL DEFAULT 0 CHECK (last_version >= 0),
    create_time timestamptz NOT NULL DEFAULT clock()
);

CREATE TABLE model_version (
    model text COLLATE "C" NOT NULL REFERENCES registered_model,
    version int NOT NULL CHECK (version > 0),
    format text NOT NULL CHECK (format IN ('ADAPTER', 'MODEL')),
    description text NOT NULL CHECK (char_length(description) <= 4096),
    artifact uuid NOT NULL REFERENCES artifact,
    -- The artifact's manifest; the files are those of model_version_file.
    manifest bytea NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    request_id text CHECK (char_length(request_id) BETWEEN 1 AND 128),
    create_time timestamptz NOT NULL DEFAULT clock(),
    PRIMARY KEY (model, version),
    CONSTRAINT model_version_request UNIQUE (model, request_id)
);

CREATE TABLE model_version_file (
    model text COLLATE "C" NOT NULL,
    version int NOT NULL,
    position int NOT NULL,
    path text NOT NULL,
    sha256 text NOT NULL REFERENCES blob,
    PRIMARY KEY (model, version, position),
    UNIQUE (model, version, path),
    FOREIGN KEY (model, version) REFERENCES model_version ON DELETE CASCADE
);

CREATE INDEX model_version_file_blob ON model_version_file (sha256);

CREATE TABLE model_alias (
    model text COLLATE "C" NOT NULL,
    alias text COLLATE "C" NOT NULL CHECK (alias ~ '^[a-z][a-z0-9_-]{0,62}$'),
    version int NOT NULL,
    PRIMARY KEY (model, alias),
    CONSTRAINT model_alias_version FOREIGN KEY (model, version) REFERENCES model_version
);
