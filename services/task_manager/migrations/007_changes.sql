-- The transaction that last changed a task: with it a watcher knows which changes it can have missed, however late they were
-- committed. Tasks from before have never changed, so to say.
ALTER TABLE task ADD COLUMN change_xid xid8 NOT NULL DEFAULT '0';
CREATE INDEX task_changed ON task (change_xid, id);

CREATE FUNCTION mark_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.change_xid := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER task_mark_change BEFORE INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION mark_change();

-- How many tasks are in each state: the sums of what is here. Moves only append, so that none waits for another; now and then
-- the rows of a state are made one.
CREATE TABLE task_total (
    state task_state NOT NULL,
    delta bigint NOT NULL
);
INSERT INTO task_total (state, delta) SELECT state, count(*) FROM task GROUP BY state;

CREATE FUNCTION count_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO task_manager.task_total (state, delta) VALUES (OLD.state, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO task_manager.task_total (state, delta) VALUES (NEW.state, 1);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER task_count AFTER INSERT OR UPDATE OR DELETE ON task FOR EACH ROW EXECUTE FUNCTION count_task();

-- Pages are newest first, whatever they are filtered by.
CREATE INDEX task_base_model_newest ON task (base_model, create_time DESC, id DESC);
CREATE INDEX task_method_newest ON task (method, create_time DESC, id DESC);
