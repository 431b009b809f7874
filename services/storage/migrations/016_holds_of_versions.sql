-- A version that a task is about to start from is not deleted before that task can be found.
ALTER TABLE model_version ADD COLUMN hold_until timestamptz;
