-- Where parts of words are found without an extension: every three characters that follow on one another in what a task is called and
-- described with, in lower case, as a number. Different ones may have the same number, so what is found is compared again.
CREATE FUNCTION text_parts(given text) RETURNS int[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(DISTINCT (first << 20) | (second << 10) | third), '{}')
    FROM (
        SELECT code AS first, lead(code) OVER line AS second, lead(code, 2) OVER line AS third
        FROM string_to_table(lower(given), NULL) WITH ORDINALITY AS characters (one, place), LATERAL (SELECT ascii(one) % 1024) AS codes (code)
        WINDOW line AS (ORDER BY place)
    ) AS threes
    WHERE third IS NOT NULL
$$;

-- Beside the task, since every change of a task's state would write the index anew.
CREATE TABLE task_text (
    task_id uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    parts   int[] NOT NULL
);
INSERT INTO task_text (task_id, parts) SELECT id, text_parts(display_name) || text_parts(description) FROM task;
CREATE INDEX task_text_parts ON task_text USING gin (parts);

CREATE FUNCTION note_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_manager.task_text (task_id, parts)
    VALUES (NEW.id, task_manager.text_parts(NEW.display_name) || task_manager.text_parts(NEW.description))
    ON CONFLICT (task_id) DO UPDATE SET parts = excluded.parts;
    RETURN NULL;
END $$;
CREATE TRIGGER task_note_text AFTER INSERT OR UPDATE OF display_name, description ON task
FOR EACH ROW EXECUTE FUNCTION note_text();
