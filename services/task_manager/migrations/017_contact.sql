-- When a trainer last answered any task manager that then could write it down; by the database's clock.
CREATE TABLE runner_contact (
    runner     text PRIMARY KEY,
    heard_time timestamptz NOT NULL
);
