-- All that a task is found by in one index, so that conditions are looked up together: parts of texts as in `text_parts`, and facets
-- such as `model baseModels/x`, as numbers. Different ones may have the same number, so what is found is compared again.
CREATE FUNCTION facet_number(facet text) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (hashtextextended(facet, 0) & 1073741823)::int;

-- The index has every number once for each day, since the newest days are looked at first and a page that is full ends the search.
CREATE FUNCTION day_key(number int, day int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (hashint4extended(number, day) & 2147483647)::int;

CREATE FUNCTION task_day(moment timestamptz) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN floor(extract(epoch FROM moment AT TIME ZONE 'UTC') / 86400)::int;

-- Of texts only parts of three characters, half of all: nearly every task has those of one. To compute it is dear, and Postgres should
-- know that.
CREATE FUNCTION task_keys(day int, words text, facets int[]) RETURNS int[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5000 AS $$
    SELECT ARRAY(
        SELECT task_manager.day_key(number, day) FROM unnest(task_manager.text_parts(words) || facets) AS numbers (number)
        WHERE number >> 29 < 2
    )
$$;

-- Of its states only those at the end, since whatever changes here writes all keys anew.
CREATE FUNCTION task_facets(given task) RETURNS int[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT task_manager.facet_number(facet) FROM (
            VALUES ('state ' || CASE WHEN given.end_time IS NULL THEN 'LIVE' ELSE given.state::text END),
                ('base_model ' || given.base_model), ('method ' || given.method), ('tuning ' || given.tuning),
                ('kind ' || given.kind), ('creator ' || given.creator)
            UNION ALL SELECT 'dataset ' || dataset FROM unnest(given.datasets) AS used (dataset)
            UNION ALL SELECT 'label ' || key || '=' || value FROM jsonb_each_text(given.labels)
        ) AS facets (facet)
    )
$$;

-- The parts of a text that the fewest tasks have, by the statistics of texts; three are enough to tell it from most others.
CREATE FUNCTION rare_parts(given text) RETURNS int[] LANGUAGE sql STABLE STRICT AS $$
    SELECT ARRAY(
        SELECT part FROM unnest(task_manager.text_lookup(given)) AS parts (part) LEFT JOIN (
            SELECT unnest(most_common_elems::text::int[]), unnest(most_common_elem_freqs) FROM pg_stats
            WHERE schemaname = 'task_manager' AND tablename = 'task_text_parts'
        ) AS common (part, frequency) USING (part)
        ORDER BY coalesce(frequency, 0), part LIMIT 3
    )
$$;

CREATE TABLE task_facet (
    task_id     uuid PRIMARY KEY REFERENCES task (id) ON DELETE CASCADE,
    day         int NOT NULL,
    create_time timestamptz NOT NULL,
    words       text NOT NULL,
    facets      int[] NOT NULL
);
CREATE INDEX task_facet_keys ON task_facet USING gin (task_keys(day, words, facets));

CREATE FUNCTION note_facets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_manager.task_facet (task_id, day, create_time, words, facets)
    VALUES (NEW.id, task_manager.task_day(NEW.create_time), NEW.create_time, NEW.display_name || E'\n' || NEW.description,
            task_manager.task_facets(NEW))
    ON CONFLICT (task_id) DO UPDATE SET words = excluded.words, facets = excluded.facets;
    RETURN NULL;
END $$;
CREATE TRIGGER task_note_facets AFTER INSERT OR UPDATE OF display_name, description, labels ON task
FOR EACH ROW EXECUTE FUNCTION note_facets();
CREATE TRIGGER task_note_facets_at_end AFTER UPDATE OF end_time ON task
FOR EACH ROW WHEN (OLD.end_time IS DISTINCT FROM NEW.end_time) EXECUTE FUNCTION note_facets();

-- Tasks that have ended are next; they may be many, and those that go on should not wait for them.
INSERT INTO task_facet (task_id, day, create_time, words, facets)
SELECT id, task_day(create_time), create_time, display_name || E'\n' || description, task_facets(t) FROM task t WHERE end_time IS NULL;
