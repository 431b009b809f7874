-- Storage asks which live tasks start from an artifact before it ends it.
CREATE INDEX task_origin_artifact ON task (origin_artifact, create_time DESC, id DESC) WHERE origin_artifact <> '';
