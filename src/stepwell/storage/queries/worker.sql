-- name: upsert
-- A worker says hello. 0 rows: its id is another environment's. $1 id, $2 environment, $3 name, $4 pid, $5 version, $6 tasks.
INSERT INTO worker (id, environment_id, name, pid, version, task_ids) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, pid = excluded.pid, version = excluded.version, task_ids = excluded.task_ids,
    last_seen_at = clock_timestamp()
WHERE worker.environment_id = excluded.environment_id

-- name: seen
-- Notes a heartbeat. 0 rows: there is no such worker (in environment $2, unless null).
UPDATE worker SET last_seen_at = clock_timestamp() WHERE id = $1 AND environment_id = coalesce($2, environment_id)

-- name: all
-- Workers of an environment that were seen since $2 seconds ago, or hold a lease.
SELECT worker.*, coalesce(held.amount, 0) AS held
FROM worker
LEFT JOIN (SELECT worker_id, count(*) AS amount FROM lease WHERE environment_id = $1 GROUP BY worker_id) AS held
       ON held.worker_id = worker.id
WHERE worker.environment_id = $1
  AND (held.amount > 0 OR worker.last_seen_at > clock_timestamp() - make_interval(secs => $2))
ORDER BY worker.last_seen_at DESC, worker.id

-- name: now
-- Postgres's clock.
SELECT extract(epoch FROM clock_timestamp())::double precision
