-- Who asked for a task, in the caller's own words; '' = not told.
ALTER TABLE task ADD COLUMN creator text NOT NULL DEFAULT '' CHECK (length(creator) <= 128);
CREATE INDEX task_creator_newest ON task (creator, create_time DESC, id DESC) WHERE creator <> '';
