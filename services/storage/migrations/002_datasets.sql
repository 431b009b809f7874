-- Datasets in several formats and versions, their bytes shared by content; uploads in parts; objects that no row refers to yet.

-- Every object is recorded here before it is written. The transaction that makes rows refer to it takes its record away; what
-- stays is removed by the sweeper. `removing` decides between the two: a record marked so can never be taken.
CREATE TABLE pending_object (
    object_key text PRIMARY KEY,
    removing boolean NOT NULL DEFAULT false,
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX pending_object_oldest ON pending_object (create_time);

-- Bytes of datasets become blobs. Of equal files one object is kept, the others are left to the sweeper.
INSERT INTO blob (sha256, size_bytes, object_key, create_time)
SELECT DISTINCT ON (sha256) sha256, size_bytes, object_key, create_time FROM dataset ORDER BY sha256, create_time, id
ON CONFLICT (sha256) DO NOTHING;

INSERT INTO pending_object (object_key, removing)
SELECT object_key, true FROM dataset WHERE object_key NOT IN (SELECT object_key FROM blob);

CREATE TABLE dataset_file (
    dataset uuid NOT NULL REFERENCES dataset ON DELETE CASCADE,
    -- A value of DownloadDatasetRequest.Content; without left-out rows there is no DROPPED.
    content text NOT NULL CHECK (content IN ('ORIGINAL', 'ROWS', 'DROPPED')),
    sha256 text NOT NULL REFERENCES blob,
    PRIMARY KEY (dataset, content)
);

CREATE INDEX dataset_file_blob ON dataset_file (sha256);

-- The files of before were JSON lines, so they are their own rows.
INSERT INTO dataset_file (dataset, content, sha256)
SELECT id, content, sha256 FROM dataset, (VALUES ('ORIGINAL'), ('ROWS')) AS each (content);

-- The highest version ever given under a display name; its row orders uploads of one name.
CREATE TABLE dataset_series (
    display_name text PRIMARY KEY,
    last_version int NOT NULL CHECK (last_version >= 0)
);

ALTER TABLE dataset
    ADD COLUMN version int CHECK (version > 0),
    ADD COLUMN format text NOT NULL DEFAULT 'CHAT' CHECK (format IN ('CHAT', 'PREFERENCE', 'TEXT', 'LABELED')),
    -- tunesmith.v1.DatasetStatistics and a list of tunesmith.v1.DatasetWarning, as JSON.
    ADD COLUMN statistics jsonb,
    ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN dropped_rows_by_reason jsonb NOT NULL DEFAULT '{}',
    -- While somebody asks whether it may be deleted, nobody finds it. The mark ends by itself when they die over it.
    ADD COLUMN deletion uuid,
    ADD COLUMN deletion_expire_time timestamptz;

UPDATE dataset SET
    version = numbered.version,
    statistics = jsonb_build_object(
        'exampleCount', example_count::text,
        'messageCount', message_count::text,
        'messagesByRole', (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each_text(messages_by_role)),
        'assistantCharacterCount', assistant_character_count::text,
        'withoutSystemCount', without_system_count::text,
        'duplicateCount', duplicate_count::text
    )
FROM (SELECT id, row_number() OVER (PARTITION BY display_name ORDER BY create_time, id) AS version FROM dataset) AS numbered
WHERE numbered.id = dataset.id;

INSERT INTO dataset_series (display_name, last_version)
SELECT display_name, max(version) FROM dataset GROUP BY display_name;

ALTER TABLE dataset
    ALTER COLUMN version SET NOT NULL,
    ALTER COLUMN statistics SET NOT NULL,
    ALTER COLUMN format DROP DEFAULT,
    DROP COLUMN object_key,
    DROP COLUMN message_count,
    DROP COLUMN messages_by_role,
    DROP COLUMN assistant_character_count,
    DROP COLUMN without_system_count,
    DROP COLUMN duplicate_count,
    ADD CONSTRAINT dataset_version UNIQUE (display_name, version),
    ADD CONSTRAINT dataset_deletion CHECK ((deletion IS NULL) = (deletion_expire_time IS NULL));

CREATE INDEX dataset_content ON dataset (display_name, sha256);

-- Where rows begin, so that a few can be read out of a big file.
CREATE TABLE row_index (
    rows_sha256 text PRIMARY KEY REFERENCES blob ON DELETE CASCADE,
    -- Rows from one offset to the next.
    every int NOT NULL CHECK (every > 0),
    -- Byte offsets of the rows 1, 1 + every, 1 + 2 * every, …; 8 bytes each, big-endian.
    offsets bytea NOT NULL CHECK (length(offsets) % 8 = 0)
);

-- What AnalyzeDataset has counted: tunesmith.v1.TokenStatistics as JSON.
CREATE TABLE token_statistics (
    rows_sha256 text NOT NULL REFERENCES blob ON DELETE CASCADE,
    base_model_revision text NOT NULL,
    max_seq_length int NOT NULL CHECK (max_seq_length > 0),
    statistics jsonb NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rows_sha256, base_model_revision, max_seq_length)
);

-- Uploads in parts. The object they make has a pending_object until the dataset's row is there.
CREATE TABLE dataset_upload (
    id uuid PRIMARY KEY,
    display_name text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 128),
    -- Empty when the caller did not say.
    sha256 text NOT NULL CHECK (sha256 ~ '^([0-9a-f]{64})?$'),
    request_id uuid,
    max_invalid_rows bigint CHECK (max_invalid_rows >= 0),
    max_invalid_ratio double precision CHECK (max_invalid_ratio >= 0 AND max_invalid_ratio < 1),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    object_key text NOT NULL UNIQUE,
    -- The object store's own name of the upload.
    multipart_id text NOT NULL,
    -- Set by the transaction that makes the dataset; no reference, a repeat must be told when the dataset is gone.
    dataset uuid,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL CHECK (expire_time > create_time)
);

CREATE INDEX dataset_upload_expiring ON dataset_upload (expire_time);

ALTER TABLE base_model ADD COLUMN chat_template_problem text NOT NULL DEFAULT '';
