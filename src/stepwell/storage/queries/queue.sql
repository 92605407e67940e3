-- name: upsert
-- Declares queues; a limit is changed by its declaration. $1 environment; arrays: $2 name, $3 kind, $4 limit.
INSERT INTO queue (environment_id, name, kind, concurrency_limit)
SELECT $1, name, kind, concurrency_limit
FROM unnest($2::text[], $3::text[], $4::integer[]) AS q (name, kind, concurrency_limit)
ORDER BY name
ON CONFLICT (environment_id, name) DO UPDATE SET kind = excluded.kind, concurrency_limit = excluded.concurrency_limit
WHERE (queue.kind, queue.concurrency_limit) IS DISTINCT FROM (excluded.kind, excluded.concurrency_limit)

-- name: known
-- Which of these names are declared queues.
SELECT name FROM queue WHERE environment_id = $1 AND name = ANY($2)

-- name: names
-- The names of an environment's queues, for "did you mean".
SELECT name FROM queue WHERE environment_id = $1 ORDER BY name LIMIT 1000

-- name: lock
-- Locks limited queues before a claim counts what they hold: a limit needs a lock, in a statement of its own.
SELECT name FROM queue WHERE environment_id = $1 AND name = ANY($2) ORDER BY name FOR NO KEY UPDATE

-- name: all
-- All queues of an environment with what is in them now.
SELECT queue.name, queue.kind, queue.concurrency_limit, queue.paused, ready.amount AS queued, lease.amount AS executing
FROM queue
CROSS JOIN LATERAL (SELECT count(*) AS amount FROM ready WHERE environment_id = $1 AND ready.queue = name) AS ready
CROSS JOIN LATERAL (SELECT count(*) AS amount FROM lease WHERE environment_id = $1 AND lease.queue = name) AS lease
WHERE queue.environment_id = $1
ORDER BY queue.name

-- name: set_paused
-- Stops or resumes claiming from a queue.
UPDATE queue SET paused = $3 WHERE environment_id = $1 AND name = $2
