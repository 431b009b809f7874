-- Full fine-tuning leaves a whole model instead of an adapter.

ALTER TABLE artifact DROP CONSTRAINT artifact_kind_check;
ALTER TABLE artifact ADD CONSTRAINT artifact_kind_check CHECK (kind IN ('ADAPTER', 'MODEL'));
