-- In a transaction of its own: nobody waits for it but who retries, renames or deletes a task that had ended before it.
SET LOCAL gin_pending_list_limit = '64MB';
SET LOCAL work_mem = '64MB';
INSERT INTO task_facet (task_id, day, create_time, words, facets)
SELECT id, task_day(create_time), create_time, display_name || E'\n' || description, task_facets(t) FROM task t
WHERE end_time IS NOT NULL ORDER BY create_time ON CONFLICT (task_id) DO NOTHING;
SELECT gin_clean_pending_list('task_facet_keys');
