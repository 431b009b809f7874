-- Announcements get numbers that a reader can follow, and tell of damage as well.
CREATE TABLE artifact_notice_head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- The last number given. Its row is locked until the transaction that took numbers has ended, so they become visible in order.
    sequence bigint NOT NULL CHECK (sequence >= 0)
);
INSERT INTO artifact_notice_head (sequence) SELECT count(*) FROM artifact_notice;

ALTER TABLE artifact_notice
    ADD COLUMN sequence bigint,
    ADD COLUMN kind text NOT NULL DEFAULT 'EXPIRING' CHECK (kind IN ('EXPIRING', 'DAMAGED')),
    -- Of a damaged artifact: which file, and what is wrong with it.
    ADD COLUMN path text NOT NULL DEFAULT '',
    ADD COLUMN damage text NOT NULL DEFAULT '',
    DROP CONSTRAINT artifact_notice_pkey,
    DROP CONSTRAINT artifact_notice_days_check;
UPDATE artifact_notice SET sequence = numbered.sequence FROM (
    SELECT artifact, expire_time, days, row_number() OVER (ORDER BY create_time, artifact, days) AS sequence FROM artifact_notice
) AS numbered
WHERE (artifact_notice.artifact, artifact_notice.expire_time, artifact_notice.days)
    = (numbered.artifact, numbered.expire_time, numbered.days);
ALTER TABLE artifact_notice
    ADD PRIMARY KEY (sequence),
    ALTER COLUMN kind DROP DEFAULT,
    -- 0 of a damaged one.
    ADD CONSTRAINT artifact_notice_days CHECK ((kind = 'EXPIRING') = (days > 0));

-- Each threshold is announced once per end; an end that moves is another end.
CREATE UNIQUE INDEX artifact_notice_once ON artifact_notice (artifact, expire_time, days) WHERE kind = 'EXPIRING';
CREATE INDEX artifact_notice_artifact ON artifact_notice (artifact, sequence);
