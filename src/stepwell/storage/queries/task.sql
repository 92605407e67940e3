-- name: upsert
-- Stores declarations where they changed. $1 environment; arrays: $2 id, $3 queue, $4 declaration, $5 schema, $6 digest,
-- $7 concurrency (which the declaration says too).
INSERT INTO task (environment_id, id, queue, declaration, payload_schema, schema_digest, concurrency_limit)
SELECT $1, id, queue, declaration, payload_schema, schema_digest, concurrency_limit
FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::jsonb[], $6::text[], $7::integer[])
     AS t (id, queue, declaration, payload_schema, schema_digest, concurrency_limit)
ORDER BY id
ON CONFLICT (environment_id, id) DO UPDATE
SET queue = excluded.queue, declaration = excluded.declaration, payload_schema = excluded.payload_schema,
    schema_digest = excluded.schema_digest, concurrency_limit = excluded.concurrency_limit,
    failed_in_row = 0, slowed_until = NULL, slow_gap = NULL, probe_id = NULL, updated_at = clock_timestamp()
WHERE (task.queue, task.declaration, task.schema_digest)
      IS DISTINCT FROM (excluded.queue, excluded.declaration, excluded.schema_digest)

-- name: set_paused
-- Stops or resumes claiming runs of a task; a slowed one that is resumed starts as ever.
UPDATE task SET paused = $3, failed_in_row = CASE WHEN $3 THEN failed_in_row ELSE 0 END,
                slowed_until = CASE WHEN $3 THEN slowed_until END, slow_gap = CASE WHEN $3 THEN slow_gap END
WHERE environment_id = $1 AND id = $2

-- name: failed
-- Counts failed attempts, and slows their tasks when there are enough in a row. The distance doubles when the run fails
-- that started last; others began before. $1 environment; arrays: $2 task, $3 run, $4 after how many, $5 first distance,
-- $6 longest.
UPDATE task SET failed_in_row = task.failed_in_row + next.amount, slow_gap = next.gap,
                probe_id = CASE WHEN next.probed THEN NULL ELSE task.probe_id END,
                slowed_until = CASE WHEN next.gap IS NULL THEN NULL
                                    WHEN task.slowed_until IS NULL OR next.probed
                                    THEN clock_timestamp() + make_interval(secs => next.gap)
                                    ELSE task.slowed_until END
FROM (SELECT task.id, f.amount, coalesce(task.probe_id = ANY(f.runs), false) AS probed,
             CASE WHEN task.failed_in_row + f.amount < f.after THEN NULL
                  WHEN task.slow_gap IS NULL THEN f.first
                  WHEN task.probe_id = ANY(f.runs) THEN least(task.slow_gap * 2, f.longest)
                  ELSE task.slow_gap END AS gap
      FROM (SELECT task_id, count(*)::integer AS amount, array_agg(run_id) AS runs, max(after) AS after,
                   max(first) AS first, max(longest) AS longest
            FROM unnest($2::text[], $3::text[], $4::integer[], $5::double precision[], $6::double precision[])
                 AS f (task_id, run_id, after, first, longest)
            GROUP BY task_id) AS f
      JOIN task ON task.environment_id = $1 AND task.id = f.task_id
      ORDER BY task.id FOR NO KEY UPDATE OF task) AS next
WHERE task.environment_id = $1 AND task.id = next.id

-- name: recovered
-- Forgets the failures of these tasks; returns those that were slowed. $1 environment, $2 tasks.
UPDATE task SET failed_in_row = 0, slowed_until = NULL, slow_gap = NULL, probe_id = NULL
FROM (SELECT id, slowed_until IS NOT NULL AS slowed FROM task
      WHERE environment_id = $1 AND id = ANY($2) AND failed_in_row > 0 ORDER BY id FOR NO KEY UPDATE) AS before
WHERE task.environment_id = $1 AND task.id = before.id
RETURNING task.id, before.slowed

-- name: probe
-- These runs of slowed tasks start now; without news of them the next ones do after the time given. $1 environment;
-- arrays: $2 task, $3 run. A minute is the least, so that a long run is not followed by many.
UPDATE task SET probe_id = f.run_id, slowed_until = clock_timestamp() + make_interval(secs => greatest(60, slow_gap))
FROM unnest($2::text[], $3::text[]) AS f (task_id, run_id)
WHERE task.environment_id = $1 AND task.id = f.task_id AND task.slowed_until IS NOT NULL

-- name: override
-- Sets how many runs of a task may execute at once in place of what was declared; null: as declared. Returns both.
UPDATE task SET concurrency_override = $3 WHERE environment_id = $1 AND id = $2
RETURNING concurrency_limit AS declared, concurrency_override AS overridden

-- name: load
-- Declarations of these tasks, without their schemas.
SELECT id, declaration, schema_digest, updated_at FROM task WHERE environment_id = $1 AND id = ANY($2)

-- name: mark_bounded
-- Notes with the tasks of a queue, where it is not noted yet, whether the queue has a greatest length: so a trigger looks
-- at no queue that has none. $1 environment, $2 queues.
UPDATE task SET declaration = jsonb_set(task.declaration, '{bounded}', to_jsonb(other.bounded)), updated_at = clock_timestamp()
FROM (SELECT task.id, coalesce(queue.max_length_override, queue.max_length) IS NOT NULL AS bounded
      FROM task JOIN queue ON queue.environment_id = task.environment_id AND queue.name = task.queue
      WHERE task.environment_id = $1 AND task.queue = ANY($2)
        AND coalesce((task.declaration ->> 'bounded')::boolean, false)
            <> (coalesce(queue.max_length_override, queue.max_length) IS NOT NULL)
      ORDER BY task.id FOR NO KEY UPDATE OF task) AS other
WHERE task.environment_id = $1 AND task.id = other.id

-- name: schemas
-- The payload schemas of these tasks.
SELECT id, payload_schema, schema_digest FROM task
WHERE environment_id = $1 AND id = ANY($2) AND payload_schema IS NOT NULL

-- name: all
-- All tasks of an environment by id.
SELECT id, declaration, payload_schema, updated_at, paused, failed_in_row, slowed_until,
       coalesce(concurrency_override, concurrency_limit) AS concurrency
FROM task WHERE environment_id = $1 ORDER BY id

-- name: ids
-- The ids of an environment's tasks, for "did you mean".
SELECT id FROM task WHERE environment_id = $1 ORDER BY id LIMIT 1000
