-- Datasets that are removed by themselves.
ALTER TABLE dataset
    -- NULL = kept until somebody deletes it.
    ADD COLUMN expire_time timestamptz;

CREATE INDEX dataset_expiring ON dataset (expire_time) WHERE expire_time IS NOT NULL;

ALTER TABLE dataset_upload
    -- NULL = the dataset is kept until somebody deletes it.
    ADD COLUMN lifetime_seconds bigint CHECK (lifetime_seconds > 0);
