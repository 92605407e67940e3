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
    updated_at = clock_timestamp()
WHERE (task.queue, task.declaration, task.schema_digest)
      IS DISTINCT FROM (excluded.queue, excluded.declaration, excluded.schema_digest)

-- name: set_paused
-- Stops or resumes claiming runs of a task.
UPDATE task SET paused = $3 WHERE environment_id = $1 AND id = $2

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
SELECT id, declaration, payload_schema, updated_at, paused FROM task WHERE environment_id = $1 ORDER BY id

-- name: ids
-- The ids of an environment's tasks, for "did you mean".
SELECT id FROM task WHERE environment_id = $1 ORDER BY id LIMIT 1000
