CREATE TYPE task_state AS ENUM (
    'QUEUED', 'STARTING', 'RUNNING', 'PAUSING', 'PAUSED', 'CANCELLING', 'SUCCEEDED', 'FAILED', 'CANCELLED'
);

-- The same table as services/task_manager/domain/transitions.py; a test compares them.
CREATE TABLE allowed_transition (
    from_state task_state NOT NULL,
    to_state   task_state NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
INSERT INTO allowed_transition (from_state, to_state) VALUES
    ('QUEUED', 'STARTING'), ('QUEUED', 'CANCELLED'),
    ('STARTING', 'RUNNING'), ('STARTING', 'QUEUED'), ('STARTING', 'PAUSING'), ('STARTING', 'CANCELLING'), ('STARTING', 'FAILED'),
    ('RUNNING', 'SUCCEEDED'), ('RUNNING', 'FAILED'), ('RUNNING', 'CANCELLING'), ('RUNNING', 'PAUSING'), ('RUNNING', 'QUEUED'),
    ('PAUSING', 'PAUSED'), ('PAUSING', 'CANCELLING'), ('PAUSING', 'FAILED'), ('PAUSING', 'SUCCEEDED'),
    ('PAUSED', 'QUEUED'), ('PAUSED', 'CANCELLED'),
    ('CANCELLING', 'CANCELLED'), ('CANCELLING', 'SUCCEEDED'), ('CANCELLING', 'FAILED');

CREATE TABLE task (
    id                        uuid PRIMARY KEY,
    display_name              text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 128),
    description               text NOT NULL CHECK (length(description) <= 2000),
    labels                    jsonb NOT NULL,
    spec                      bytea NOT NULL,
    effective_hyperparameters bytea NOT NULL,
    processes                 int NOT NULL CHECK (processes BETWEEN 1 AND 64),
    request_id                uuid CONSTRAINT task_request_id UNIQUE,
    request_digest            bytea NOT NULL,
    state                     task_state NOT NULL DEFAULT 'QUEUED',
    state_reason              text NOT NULL DEFAULT '',
    cancel_request_time       timestamptz,
    cancel_reason             text NOT NULL DEFAULT '',
    attempt                   int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    lost_run_count            int NOT NULL DEFAULT 0,
    runner                    text NOT NULL DEFAULT '',
    run_name                  text NOT NULL DEFAULT '',
    error                     bytea,
    artifact                  text NOT NULL DEFAULT '',
    create_time               timestamptz NOT NULL DEFAULT now(),
    start_time                timestamptz,
    end_time                  timestamptz,
    update_time               timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT task_end_is_terminal CHECK ((end_time IS NOT NULL) = (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))),
    CONSTRAINT task_error_is_failure CHECK ((error IS NOT NULL) = (state = 'FAILED')),
    CONSTRAINT task_artifact_is_success CHECK ((artifact <> '') = (state = 'SUCCEEDED'))
) WITH (fillfactor = 80);

CREATE INDEX task_newest ON task (create_time DESC, id DESC);
CREATE INDEX task_queue ON task (create_time, id) WHERE state = 'QUEUED';
CREATE INDEX task_active ON task (id) WHERE state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING');

-- One row per task that every append updates: small, and no index on what changes, so that updates stay within the page.
-- It also says who may write: epoch and owner are compared by every sink.
CREATE TABLE event_head (
    task_id                  uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    head_sequence            bigint NOT NULL DEFAULT 0,
    first_available_sequence bigint NOT NULL DEFAULT 1,
    epoch                    bigint NOT NULL DEFAULT 0,
    run_sequence             bigint NOT NULL DEFAULT 0,
    owner                    uuid,
    lease_expire_time        timestamptz,
    CONSTRAINT event_head_owner_has_lease CHECK ((owner IS NULL) = (lease_expire_time IS NULL))
) WITH (fillfactor = 70);

-- Many events in one row: `payload` is a serialised WatchTaskResponse with the events first_sequence to last_sequence.
CREATE TABLE event_frame (
    task_id        uuid NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    first_sequence bigint NOT NULL CHECK (first_sequence >= 1),
    last_sequence  bigint NOT NULL,
    epoch          bigint NOT NULL,
    payload        bytea NOT NULL,
    PRIMARY KEY (task_id, first_sequence),
    CHECK (last_sequence >= first_sequence)
);

-- Values as float8, not as JSON: NaN and Inf are values.
CREATE TABLE task_progress (
    task_id       uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    step          bigint NOT NULL,
    total_steps   bigint NOT NULL,
    epoch         float8 NOT NULL,
    remaining     interval,
    metric_names  text[] NOT NULL,
    metric_values float8[] NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE task_transition (
    task_id    uuid NOT NULL REFERENCES task (id) ON DELETE CASCADE,
    number     bigint GENERATED ALWAYS AS IDENTITY,
    from_state task_state,
    to_state   task_state NOT NULL,
    reason     text NOT NULL,
    attempt    int NOT NULL,
    time       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, number)
);

CREATE FUNCTION check_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'QUEUED' THEN
            RAISE EXCEPTION 'a task begins QUEUED, not %', NEW.state USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state <> OLD.state AND NOT EXISTS (
        SELECT FROM task_manager.allowed_transition a WHERE a.from_state = OLD.state AND a.to_state = NEW.state
    ) THEN
        RAISE EXCEPTION 'task % may not go from % to %', NEW.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.spec <> OLD.spec OR NEW.create_time <> OLD.create_time OR NEW.attempt < OLD.attempt THEN
        RAISE EXCEPTION 'spec, create_time and past attempts of task % do not change', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER task_check BEFORE INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION check_task();

-- History is written by the database itself, so that no code path can leave it out.
CREATE FUNCTION record_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state THEN
        INSERT INTO task_manager.task_transition (task_id, from_state, to_state, reason, attempt)
        VALUES (NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.state_reason, NEW.attempt);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER task_record AFTER INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION record_transition();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER task_transition_append_only BEFORE UPDATE ON task_transition FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_frame_append_only BEFORE UPDATE ON event_frame FOR EACH ROW EXECUTE FUNCTION refuse_change();
