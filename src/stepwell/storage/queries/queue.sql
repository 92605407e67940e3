-- name: upsert
-- Declares queues. Overrides, which were made at runtime, stay. $1 environment; arrays: $2 name, $3 kind, $4 concurrency,
-- $5 the same per key, $6 rate, $7 the same per key, $8 weights of keys, $9 greatest length. Lanes that were parked for another
-- rate are looked at again.
WITH changed AS (
INSERT INTO queue (environment_id, name, kind, concurrency_limit, key_concurrency_limit, rate_limit, key_rate_limit,
                   key_weights, max_length)
SELECT $1, q.*
FROM unnest($2::text[], $3::text[], $4::integer[], $5::integer[], $6::jsonb[], $7::jsonb[], $8::jsonb[], $9::integer[])
     AS q (name, kind, concurrency_limit, key_concurrency_limit, rate_limit, key_rate_limit, key_weights, max_length)
ORDER BY name
ON CONFLICT (environment_id, name) DO UPDATE
SET kind = excluded.kind, concurrency_limit = excluded.concurrency_limit,
    key_concurrency_limit = excluded.key_concurrency_limit, rate_limit = excluded.rate_limit,
    key_rate_limit = excluded.key_rate_limit, key_weights = excluded.key_weights, max_length = excluded.max_length
WHERE (queue.kind, queue.concurrency_limit, queue.key_concurrency_limit, queue.rate_limit, queue.key_rate_limit,
       queue.key_weights, queue.max_length)
      IS DISTINCT FROM (excluded.kind, excluded.concurrency_limit, excluded.key_concurrency_limit, excluded.rate_limit,
                        excluded.key_rate_limit, excluded.key_weights, excluded.max_length)
RETURNING name)
UPDATE lane SET parked_until = NULL FROM changed
WHERE lane.environment_id = $1 AND lane.queue = changed.name AND parked_until IS NOT NULL

-- name: bounded
-- The queues that have a length from which triggers are refused.
SELECT name FROM queue WHERE environment_id = $1 AND coalesce(max_length_override, max_length) IS NOT NULL

-- name: lock_bounded
-- Locks those of these queues that have a length from which triggers are refused.
SELECT name, coalesce(max_length_override, max_length) AS max_length FROM queue
WHERE environment_id = $1 AND name = ANY($2) AND coalesce(max_length_override, max_length) IS NOT NULL
ORDER BY name FOR NO KEY UPDATE

-- name: lengths
-- How many runs are queued in these queues. $1 environment, $2 names.
SELECT name, (SELECT count(*) FROM ready WHERE environment_id = $1 AND queue = name AND key IS NULL)
           + (SELECT count(*) FROM ready WHERE environment_id = $1 AND queue = name AND key IS NOT NULL) AS length
FROM unnest($2::text[]) AS named (name)

-- name: known
-- Which of these names are declared queues.
SELECT name FROM queue WHERE environment_id = $1 AND name = ANY($2)

-- name: names
-- The names of an environment's queues, for "did you mean".
SELECT name FROM queue WHERE environment_id = $1 ORDER BY name LIMIT 1000

-- name: lock
-- Locks a queue.
SELECT FROM queue WHERE environment_id = $1 AND name = $2 FOR NO KEY UPDATE

-- name: all
-- A page of queues with what is in them now. $2 the only one (null: any), $3 rows, $4 rows before. `oldest`: seconds that
-- the longest waiting run has been claimable: one that never began since it was made or its delay was over, one that goes
-- on since it was woken. Of either kind the one made first is looked at.
SELECT queue.*, waiting.amount AS queued, held.amount AS executing, oldest.seconds AS oldest
FROM (SELECT * FROM queue WHERE environment_id = $1 AND ($2::text IS NULL OR name = $2)
      ORDER BY name LIMIT $3 OFFSET $4) AS queue
CROSS JOIN LATERAL (
    SELECT count(*) AS amount, min(number) FILTER (WHERE NOT resumed) AS fresh, min(number) FILTER (WHERE resumed) AS again
    FROM (SELECT number, resumed FROM ready WHERE environment_id = $1 AND ready.queue = queue.name AND key IS NULL
          UNION ALL  -- two indexes
          SELECT number, resumed FROM ready WHERE environment_id = $1 AND ready.queue = queue.name AND key IS NOT NULL
         ) AS queued) AS waiting
CROSS JOIN LATERAL (
    SELECT count(*) AS amount FROM lease WHERE lease.environment_id = $1 AND lease.queue = queue.name) AS held
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM clock_timestamp() - min(CASE WHEN run.number = waiting.again THEN run.updated_at
               ELSE greatest(run.created_at, run.delayed_until) END))::double precision AS seconds
    FROM run WHERE run.environment_id = $1 AND run.number IN (waiting.fresh, waiting.again)) AS oldest
ORDER BY queue.name

-- name: count
-- How many queues an environment has.
SELECT count(*) FROM queue WHERE environment_id = $1

-- name: override
-- Sets all that is in place of what was declared (null: nothing). $2 name, $3 concurrency, $4 the same per key, $5 rate,
-- $6 the same per key, $7 weights of keys, $8 greatest length, $9 who does. Lanes that were parked for another rate are looked
-- at again.
WITH opened AS (
    UPDATE lane SET parked_until = NULL WHERE environment_id = $1 AND queue = $2 AND parked_until IS NOT NULL
)
UPDATE queue SET concurrency_override = $3, key_concurrency_override = $4, rate_override = $5, key_rate_override = $6,
                 key_weights_override = $7, max_length_override = $8, overridden_by = $9,
                 overridden_at = CASE WHEN num_nonnulls($3::integer, $4::integer, $5::jsonb, $6::jsonb, $7::jsonb,
                                                        $8::integer) > 0 THEN clock_timestamp() END
WHERE environment_id = $1 AND name = $2

-- name: set_paused
-- Stops or resumes claiming from a queue.
UPDATE queue SET paused = $3 WHERE environment_id = $1 AND name = $2
