-- Segments of events are read again as blobs are.
ALTER TABLE event_segment
    -- When the bytes were last compared with their checksum; they are compared before they are stored.
    ADD COLUMN check_time timestamptz,
    -- Somebody reads them until then; when that has passed, whoever it was has died.
    ADD COLUMN checking_until timestamptz,
    -- What is wrong with the stored bytes; empty = nothing that is known.
    ADD COLUMN damage text NOT NULL DEFAULT '' CHECK (char_length(damage) <= 256);
UPDATE event_segment SET check_time = create_time;
ALTER TABLE event_segment ALTER COLUMN check_time SET NOT NULL, ALTER COLUMN check_time SET DEFAULT clock();

CREATE INDEX event_segment_check ON event_segment (check_time, object_key);
CREATE INDEX event_segment_damaged ON event_segment (sha256) WHERE damage <> '';
