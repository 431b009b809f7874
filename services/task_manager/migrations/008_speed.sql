-- Appends and claims make many rows in one call, before anybody knows their numbers: those of the row count, not what the payload
-- says; attempt NULL = as the payload says.
ALTER TABLE event_frame ADD COLUMN attempt int;

-- The owner of a task appends frames of its run, all or none, with the progress they tell. `after`: the run's last event before
-- them; `run_events`: how many events of the run they stand for; `counts`: events in each payload.
-- Answers the run's last event that is stored: more than `after` when these are stored, by now or from before; less when events
-- were left out, and nothing is; NULL for anybody but the owner.
CREATE FUNCTION append_frames(
    of_task uuid, claimed_epoch bigint, claiming_owner uuid, after bigint, run_events bigint, counts int[], payloads bytea[],
    with_progress boolean, at_step bigint, of_steps bigint, at_epoch float8, time_left interval, names text[], numbers float8[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head task_manager.event_head;
    of_attempt int := (SELECT attempt FROM task_manager.task WHERE id = of_task);
    first bigint;
BEGIN
    SELECT * INTO head FROM task_manager.event_head
    WHERE task_id = of_task AND epoch = claimed_epoch AND owner = claiming_owner FOR NO KEY UPDATE;
    IF NOT FOUND OR head.run_sequence <> after THEN
        RETURN head.run_sequence;
    END IF;
    first := head.head_sequence + 1;
    FOR i IN 1 .. cardinality(counts) LOOP
        INSERT INTO task_manager.event_frame (task_id, first_sequence, last_sequence, epoch, payload, attempt)
        VALUES (of_task, first, first + counts[i] - 1, claimed_epoch, payloads[i], of_attempt);
        first := first + counts[i];
    END LOOP;
    UPDATE task_manager.event_head SET head_sequence = first - 1, run_sequence = after + run_events WHERE task_id = of_task;
    IF with_progress THEN
        INSERT INTO task_manager.task_progress (task_id, step, total_steps, epoch, remaining, metric_names, metric_values)
        VALUES (of_task, at_step, of_steps, at_epoch, time_left, names, numbers)
        ON CONFLICT (task_id) DO UPDATE SET step = excluded.step, total_steps = excluded.total_steps, epoch = excluded.epoch,
            remaining = excluded.remaining, metric_names = excluded.metric_names, metric_values = excluded.metric_values;
    END IF;
    RETURN after + run_events;
END $$;

-- Not compressed: that cost more than everything else about an append, and does not last; what a task leaves is compacted.
ALTER TABLE event_frame ALTER COLUMN payload SET STORAGE EXTERNAL;

-- The label `project` says whose share of the trainers a task takes; tasks without one share one. By size and project, so that no
-- project's tasks are waded through for those of another.
CREATE OR REPLACE VIEW due_task AS
SELECT id, processes, create_time, expected_duration AS duration, -priority AS rank, coalesce(labels ->> 'project', '') AS project
FROM task WHERE state = 'QUEUED' AND (not_before IS NULL OR not_before <= now());

DROP INDEX task_queue_by_size;
CREATE INDEX task_queue_by_project ON task (processes, (coalesce(labels ->> 'project', '')), (-priority), create_time, id)
WHERE state = 'QUEUED';
