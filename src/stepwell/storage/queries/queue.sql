-- name: upsert
-- Declares queues. Overrides, which were made at runtime, stay. $1 environment; arrays: $2 name, $3 kind, $4 concurrency,
-- $5 the same per key, $6 rate, $7 the same per key, $8 weights of keys.
INSERT INTO queue (environment_id, name, kind, concurrency_limit, key_concurrency_limit, rate_limit, key_rate_limit,
                   key_weights)
SELECT $1, q.*
FROM unnest($2::text[], $3::text[], $4::integer[], $5::integer[], $6::jsonb[], $7::jsonb[], $8::jsonb[])
     AS q (name, kind, concurrency_limit, key_concurrency_limit, rate_limit, key_rate_limit, key_weights)
ORDER BY name
ON CONFLICT (environment_id, name) DO UPDATE
SET kind = excluded.kind, concurrency_limit = excluded.concurrency_limit,
    key_concurrency_limit = excluded.key_concurrency_limit, rate_limit = excluded.rate_limit,
    key_rate_limit = excluded.key_rate_limit, key_weights = excluded.key_weights
WHERE (queue.kind, queue.concurrency_limit, queue.key_concurrency_limit, queue.rate_limit, queue.key_rate_limit,
       queue.key_weights)
      IS DISTINCT FROM (excluded.kind, excluded.concurrency_limit, excluded.key_concurrency_limit, excluded.rate_limit,
                        excluded.key_rate_limit, excluded.key_weights)

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
SELECT queue.*, ready.amount AS queued, lease.amount AS executing
FROM queue
CROSS JOIN LATERAL (SELECT count(*) AS amount FROM ready WHERE environment_id = $1 AND ready.queue = name) AS ready
CROSS JOIN LATERAL (SELECT count(*) AS amount FROM lease WHERE environment_id = $1 AND lease.queue = name) AS lease
WHERE queue.environment_id = $1
ORDER BY queue.name

-- name: set_paused
-- Stops or resumes claiming from a queue.
UPDATE queue SET paused = $3 WHERE environment_id = $1 AND name = $2
