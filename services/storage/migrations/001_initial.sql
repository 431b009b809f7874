-- Facts about stored bytes. A dataset, artifact or base model exists once its row is committed; S3 holds only bytes under keys
-- made here.

CREATE TABLE dataset (
    id uuid PRIMARY KEY,
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 128),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    object_key text NOT NULL UNIQUE,
    example_count bigint NOT NULL CHECK (example_count > 0),
    message_count bigint NOT NULL,
    messages_by_role jsonb NOT NULL,
    assistant_character_count bigint NOT NULL,
    without_system_count bigint NOT NULL,
    duplicate_count bigint NOT NULL,
    -- What the caller named the upload; a repeat finds the first dataset by it.
    request_id uuid CONSTRAINT dataset_request UNIQUE,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX dataset_newest ON dataset (create_time DESC, id DESC);

-- Bytes of artifacts and base models by content, so that equal files are stored once. Rows that refer to a blob keep it alive.
CREATE TABLE blob (
    sha256 text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    object_key text NOT NULL UNIQUE,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE artifact (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('ADAPTER')),
    state text NOT NULL DEFAULT 'AVAILABLE' CHECK (state IN ('AVAILABLE', 'EXPIRED', 'DELETED')),
    task uuid NOT NULL,
    epoch bigint NOT NULL CHECK (epoch > 0),
    request_id text NOT NULL CHECK (char_length(request_id) BETWEEN 1 AND 128),
    -- tunesmith.v1.ArtifactManifest, serialised.
    manifest bytea NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL CHECK (expire_time > create_time),
    CONSTRAINT artifact_request UNIQUE (task, request_id)
);

CREATE INDEX artifact_newest ON artifact (create_time DESC, id DESC);
CREATE INDEX artifact_newest_of_task ON artifact (task, create_time DESC, id DESC);
CREATE INDEX artifact_expiring ON artifact (expire_time) WHERE state = 'AVAILABLE';

CREATE TABLE artifact_file (
    artifact uuid NOT NULL REFERENCES artifact ON DELETE CASCADE,
    position int NOT NULL,
    path text NOT NULL,
    sha256 text NOT NULL REFERENCES blob,
    PRIMARY KEY (artifact, position),
    UNIQUE (artifact, path)
);

CREATE INDEX artifact_file_blob ON artifact_file (sha256);

-- The highest epoch that has written for a task; lower ones are refused.
CREATE TABLE artifact_epoch (
    task uuid PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch > 0)
);

CREATE TABLE base_model (
    -- Sorted by bytes whatever the database's language, so that pages are the same everywhere.
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$'),
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 128),
    family text NOT NULL,
    parameter_count bigint NOT NULL CHECK (parameter_count >= 0),
    context_length bigint NOT NULL CHECK (context_length >= 0),
    license text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    revision text NOT NULL CHECK (revision ~ '^[0-9a-f]{64}$'),
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE base_model_file (
    base_model text COLLATE "C" NOT NULL REFERENCES base_model ON DELETE CASCADE,
    position int NOT NULL,
    path text NOT NULL,
    sha256 text NOT NULL REFERENCES blob,
    PRIMARY KEY (base_model, position),
    UNIQUE (base_model, path)
);

CREATE INDEX base_model_file_blob ON base_model_file (sha256);
