-- name: unpark
-- Opens lanes whose keys' rates let something through again. $1 environment, $2 queues.
UPDATE lane SET parked_until = NULL
WHERE environment_id = $1 AND queue = ANY($2) AND parked_until <= statement_timestamp()

-- name: park
-- Passes over new runs of keys whose rate is used up. $1 environment; arrays: $2 queue, $3 key, $4 seconds since the epoch.
UPDATE lane SET parked_until = to_timestamp(f.until)
FROM unnest($2::text[], $3::text[], $4::double precision[]) AS f (queue, key, until)
WHERE lane.environment_id = $1 AND lane.queue = f.queue AND lane.key = f.key AND NOT lane.resumed

-- name: next_open
-- When the first of the parked lanes opens, in seconds since the epoch. $1 environment, $2 queues.
SELECT extract(epoch FROM min(first.parked_until))::double precision
FROM unnest($2::text[]) AS f (queue)
CROSS JOIN LATERAL (
    SELECT parked_until FROM lane WHERE environment_id = $1 AND queue = f.queue AND parked_until IS NOT NULL
    ORDER BY parked_until LIMIT 1
) AS first

-- name: walk
-- The lanes that were served least, without those whose keys hold as much as they may. $1 environment; arrays: $2 to $4
-- queue, task, whether of resumed runs; $5, $6 queue and key that are left out; $7 at most how many of each.
SELECT lane.queue, lane.task_id, lane.resumed, lane.key, lane.virtual_time
FROM unnest($2::text[], $3::text[], $4::boolean[]) AS f (queue, task_id, resumed)
CROSS JOIN LATERAL (
    SELECT * FROM lane
    WHERE environment_id = $1 AND queue = f.queue AND task_id = f.task_id AND resumed = f.resumed
      AND parked_until IS NULL AND (queue, key) NOT IN (SELECT * FROM unnest($5::text[], $6::text[]))
    ORDER BY virtual_time LIMIT $7
) AS lane

-- name: advance
-- Counts what keys were served. $1 environment; arrays: $2 queue, $3 key, $4 virtual time.
UPDATE lane SET virtual_time = f.virtual_time
FROM unnest($2::text[], $3::text[], $4::double precision[]) AS f (queue, key, virtual_time)
WHERE lane.environment_id = $1 AND lane.queue = f.queue AND lane.key = f.key

-- name: lock_empty
-- Locks emptied lanes that no run is on its way into. $1 environment; arrays: $2 queue, $3 task, $4 whether of resumed runs,
-- $5 key.
SELECT lane.queue, lane.task_id, lane.resumed, lane.key
FROM unnest($2::text[], $3::text[], $4::boolean[], $5::text[]) AS f (queue, task_id, resumed, key)
JOIN lane ON lane.environment_id = $1 AND lane.queue = f.queue AND lane.task_id = f.task_id
    AND lane.resumed = f.resumed AND lane.key = f.key
FOR UPDATE OF lane SKIP LOCKED

-- name: remove_empty
-- Removes them, in a later statement, which sees whoever came before the lock. The same arguments.
DELETE FROM lane
USING unnest($2::text[], $3::text[], $4::boolean[], $5::text[]) AS f (queue, task_id, resumed, key)
WHERE lane.environment_id = $1 AND lane.queue = f.queue AND lane.task_id = f.task_id
  AND lane.resumed = f.resumed AND lane.key = f.key
  AND NOT EXISTS (
      SELECT FROM ready WHERE ready.environment_id = $1 AND ready.queue = f.queue AND ready.task_id = f.task_id
                          AND ready.resumed = f.resumed AND ready.key = f.key OFFSET 0)
