-- name: insert
-- Makes a batch unless one of its keys is taken. $1 id, $2 environment, $3 expected, $4 idempotency, $5 request, $6 parent.
INSERT INTO batch (id, environment_id, expected, idempotency_key, request_key, parent_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING id

-- name: by_key
-- The batch that has one of these keys.
SELECT id, expected, request_key FROM batch
WHERE environment_id = $1 AND (idempotency_key = $2 OR request_key = $3) ORDER BY created_at LIMIT 1

-- name: lock
-- Locks a batch while items are added to it.
SELECT id, expected, received, parent_id FROM batch WHERE environment_id = $1 AND id = $2 FOR NO KEY UPDATE

-- name: indexes
-- Which places from $2 to $3 are taken.
SELECT index FROM batched WHERE batch_id = $1 AND index BETWEEN $2 AND $3

-- name: insert_items
-- Adds items for which no run was made. $1 batch; arrays: $2 index, $3 task, $4 run, $5 error code, $6 error.
INSERT INTO batch_item (batch_id, index, task_id, run_id, error_code, error)
SELECT $1, * FROM unnest($2::integer[], $3::text[], $4::text[], $5::text[], $6::text[])

-- name: seal
-- Notes $2 new items, and the moment when the last one came.
UPDATE batch SET received = received + $2, updated_at = clock_timestamp(),
                 sealed_at = CASE WHEN received + $2 >= expected THEN coalesce(sealed_at, clock_timestamp()) END
WHERE id = $1
RETURNING received, sealed_at IS NOT NULL AS sealed

-- name: counted
-- A batch with counts.
SELECT batch.*, counted.*
FROM batch CROSS JOIN LATERAL (
    SELECT count(run_id) AS accepted, count(error) AS refused, count(ended_as) AS ended,
           max(finished_at) AS last_finished_at
    FROM batched WHERE batched.batch_id = batch.id
) AS counted
WHERE batch.environment_id = $1 AND batch.id = $2

-- name: listed
-- A batch's items in order, without how their runs ended.
SELECT index, task_id, run_id, error_code, error FROM batched WHERE batch_id = $1 ORDER BY index

-- name: page
-- A batch's items in order: those after index $2, at most $3.
SELECT index, task_id, run_id, error_code, error, status, output, output_type, failure
FROM batched WHERE batch_id = $1 AND index > $2 ORDER BY index LIMIT $3
