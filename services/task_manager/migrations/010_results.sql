-- What evaluations and generations have found: a serialised Task message with nothing but its result set.
CREATE TABLE task_result (
    task_id uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    payload bytea NOT NULL
);
