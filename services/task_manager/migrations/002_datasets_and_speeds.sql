-- Which datasets a task trains and validates on, so that they can be asked for.
ALTER TABLE task ADD COLUMN datasets uuid[] NOT NULL DEFAULT '{}';

-- Specs hold full resource names as plain text, whatever else is around them.
UPDATE task SET datasets = coalesce((
    SELECT array_agg(DISTINCT found.match[1]::uuid)
    FROM regexp_matches(
        encode(spec, 'escape'), 'datasets/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})', 'g'
    ) AS found(match)
), '{}');

CREATE INDEX task_datasets ON task USING gin (datasets);

-- How fast runs were, for the plans of later tasks; without a reference, because it outlives its task.
CREATE TABLE run_speed (
    task_id           uuid NOT NULL,
    attempt           int NOT NULL,
    base_model        text NOT NULL,
    method            text NOT NULL,
    tuning            text NOT NULL,
    processes         int NOT NULL,
    precision         text NOT NULL,
    lora_rank         int NOT NULL,
    target_modules    text[] NOT NULL,
    batch_size        int NOT NULL,
    tokens_per_second float8 NOT NULL CHECK (tokens_per_second > 0),
    create_time       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, attempt)
);
CREATE INDEX run_speed_alike ON run_speed (base_model, create_time DESC);
