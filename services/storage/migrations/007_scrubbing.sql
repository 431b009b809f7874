-- Stored bytes are read again from time to time, and damage is told before somebody needs them.
ALTER TABLE blob
    -- When the bytes were last compared with their checksum; an upload compares them before it stores them.
    ADD COLUMN check_time timestamptz,
    -- Somebody reads them until then; when that has passed, whoever it was has died.
    ADD COLUMN checking_until timestamptz,
    -- What is wrong with the stored bytes; empty = nothing that is known.
    ADD COLUMN damage text NOT NULL DEFAULT '' CHECK (char_length(damage) <= 256);
UPDATE blob SET check_time = create_time;
ALTER TABLE blob ALTER COLUMN check_time SET NOT NULL, ALTER COLUMN check_time SET DEFAULT clock();

CREATE INDEX blob_check ON blob (check_time, sha256);
CREATE INDEX blob_damaged ON blob (sha256) WHERE damage <> '';
