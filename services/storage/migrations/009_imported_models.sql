-- A version may come from outside instead of an artifact.
ALTER TABLE model_version ALTER COLUMN artifact DROP NOT NULL;
