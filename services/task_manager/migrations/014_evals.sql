-- What models are measured by, kept to be used again. Runs of an eval are tasks with a label that names it; they outlive it.
CREATE TABLE eval (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id         uuid UNIQUE,
    display_name       text NOT NULL,
    -- As the caller wrote them, JSON.
    data_source_config text NOT NULL,
    testing_criteria   text NOT NULL,
    labels             jsonb NOT NULL DEFAULT '{}',
    create_time        timestamptz NOT NULL DEFAULT now(),
    update_time        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX eval_create_time ON eval (create_time, id);
