-- Tasks of other kinds than fine-tuning leave results, too, and merged models and GGUF files are kept in the registry.
ALTER TABLE artifact DROP CONSTRAINT artifact_kind_check;
ALTER TABLE artifact ADD CONSTRAINT artifact_kind_check
    CHECK (kind IN ('ADAPTER', 'MODEL', 'CHECKPOINT', 'MERGED', 'GGUF', 'EVALUATION', 'GENERATION'));
ALTER TABLE model_version DROP CONSTRAINT model_version_format_check;
ALTER TABLE model_version ADD CONSTRAINT model_version_format_check CHECK (format IN ('ADAPTER', 'MODEL', 'MERGED', 'GGUF'));
