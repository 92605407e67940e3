-- name: take_requests
-- Takes request keys for 24 hours; returns those that were free. $1 environment; arrays: $2 task, $3 key, $4 run.
INSERT INTO request_key (environment_id, task_id, key, run_id, expires_at)
SELECT $1, task_id, key, run_id, now() + interval '24 hours'
FROM unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, key, run_id)
ORDER BY task_id, key
ON CONFLICT (environment_id, task_id, key) DO UPDATE SET run_id = excluded.run_id, expires_at = excluded.expires_at
WHERE request_key.expires_at <= now()
RETURNING task_id, key

-- name: requests
-- Whose runs these request keys are. $1 environment; arrays: $2 task, $3 key.
SELECT request_key.task_id, request_key.key, request_key.run_id
FROM request_key JOIN unnest($2::text[], $3::text[]) AS f (task_id, key)
  ON request_key.task_id = f.task_id AND request_key.key = f.key
WHERE request_key.environment_id = $1 AND request_key.expires_at > now()

-- name: release_requests
-- Gives request keys back whose runs were not made after all. $1 environment; arrays: $2 task, $3 key, $4 run.
DELETE FROM request_key USING unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, key, run_id)
WHERE request_key.environment_id = $1 AND request_key.task_id = f.task_id AND request_key.key = f.key
  AND request_key.run_id = f.run_id

-- name: assign_requests
-- Lets request keys lead to the run that an idempotency key found. $1 environment; arrays: $2 task, $3 key, $4 run.
UPDATE request_key SET run_id = f.run_id FROM unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, key, run_id)
WHERE request_key.environment_id = $1 AND request_key.task_id = f.task_id AND request_key.key = f.key

-- name: take
-- Takes idempotency keys; returns those that were free. $1 environment; arrays: $2 task, $3 key, $4 run, $5 hash, $6 seconds.
INSERT INTO idempotency (environment_id, task_id, key, run_id, payload_hash, expires_at)
SELECT $1, task_id, key, run_id, payload_hash, now() + make_interval(secs => ttl)
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::double precision[])
     AS f (task_id, key, run_id, payload_hash, ttl)
ORDER BY task_id, key
ON CONFLICT (environment_id, task_id, key) DO UPDATE
SET run_id = excluded.run_id, payload_hash = excluded.payload_hash, expires_at = excluded.expires_at
WHERE idempotency.expires_at <= now()
RETURNING task_id, key

-- name: holders
-- Whose runs these keys are, and for what payload. $1 environment; arrays: $2 task, $3 key.
SELECT idempotency.task_id, idempotency.key, idempotency.run_id, idempotency.payload_hash
FROM idempotency JOIN unnest($2::text[], $3::text[]) AS f (task_id, key)
  ON idempotency.task_id = f.task_id AND idempotency.key = f.key
WHERE idempotency.environment_id = $1 AND idempotency.expires_at > now()

-- name: assign
-- Lets keys lead to the runs that stand for theirs. $1 environment; arrays: $2 task, $3 key, $4 run.
UPDATE idempotency SET run_id = f.run_id FROM unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, key, run_id)
WHERE idempotency.environment_id = $1 AND idempotency.task_id = f.task_id AND idempotency.key = f.key

-- name: reset
-- Frees a key: the next trigger with it makes a new run.
DELETE FROM idempotency WHERE environment_id = $1 AND task_id = $2 AND key = $3
