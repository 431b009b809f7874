-- Tasks whose events are to be compacted once they have rested for a while since their end.
CREATE TABLE task_compaction (
    task_id  uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    end_time timestamptz NOT NULL
);
CREATE INDEX task_compaction_end ON task_compaction (end_time);
INSERT INTO task_compaction (task_id, end_time) SELECT id, end_time FROM task WHERE end_time IS NOT NULL;

CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_manager.task_compaction (task_id, end_time) VALUES (NEW.id, NEW.end_time)
    ON CONFLICT (task_id) DO UPDATE SET end_time = excluded.end_time;
    RETURN NULL;
END $$;
CREATE TRIGGER task_note_end AFTER UPDATE ON task FOR EACH ROW
WHEN (NEW.end_time IS NOT NULL AND OLD.end_time IS NULL) EXECUTE FUNCTION note_end();

-- Events first_sequence to last_sequence lie in storage under this SHA-256; frames of theirs may go. Segments follow on one another
-- from the first event on.
CREATE TABLE event_segment (
    task_id        uuid NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    first_sequence bigint NOT NULL,
    last_sequence  bigint NOT NULL,
    sha256         text NOT NULL,
    PRIMARY KEY (task_id, first_sequence),
    CHECK (last_sequence >= first_sequence)
);
CREATE TRIGGER event_segment_append_only BEFORE UPDATE ON event_segment FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Tasks that were deleted while storage has segments of theirs; without a reference, because it outlives its task.
CREATE TABLE forgotten_task (
    task_id uuid PRIMARY KEY
);
CREATE FUNCTION forget_segments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_manager.forgotten_task (task_id) VALUES (OLD.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER task_forget_segments AFTER DELETE ON task FOR EACH ROW EXECUTE FUNCTION forget_segments();

-- Who is told of which events by HTTP; where and with which secret only the settings say. No row, no events.
CREATE TABLE webhook (
    id    text PRIMARY KEY,
    kinds text[] NOT NULL
);

-- What is to be told and what was, written with the change itself; without references, because it outlives its task.
CREATE TABLE webhook_event (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    webhook      text NOT NULL,
    kind         text NOT NULL,
    task_id      uuid NOT NULL,
    attempt      int NOT NULL,
    create_time  timestamptz NOT NULL DEFAULT now(),
    -- Deliveries that were tried, and what the last one came to.
    tries        int NOT NULL DEFAULT 0,
    outcome      text NOT NULL DEFAULT '',
    -- NULL = delivered or given up.
    due_time     timestamptz DEFAULT now(),
    end_time     timestamptz
);
CREATE INDEX webhook_event_due ON webhook_event (due_time) WHERE due_time IS NOT NULL;
CREATE INDEX webhook_event_end ON webhook_event (end_time) WHERE end_time IS NOT NULL;

CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    INSERT INTO task_manager.webhook_event (webhook, kind, task_id, attempt)
    SELECT w.id, 'task.' || lower(NEW.state::text), NEW.id, NEW.attempt FROM task_manager.webhook w
    WHERE 'task.' || lower(NEW.state::text) = ANY (w.kinds);
    RETURN NULL;
END $$;
CREATE TRIGGER task_announce AFTER INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION announce();
