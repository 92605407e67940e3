-- name: fence
-- Locks the leases of a writer against rescue, cancel and the like until its commit, and says where each journal ends.
-- KEY SHARE: heartbeats, which only move expires_at, are not held up. $1 worker, $2 runs.
SELECT lease.run_id, lease.epoch, run.attempt, run.environment_id,
       coalesce((SELECT max(seq) FROM checkpoint WHERE checkpoint.run_id = lease.run_id), -1) AS last
FROM lease JOIN run ON run.id = ANY(ARRAY[lease.run_id])
WHERE lease.worker_id = $1 AND lease.run_id = ANY($2)
ORDER BY lease.run_id
FOR KEY SHARE OF lease

-- name: renew
-- Renews a worker's leases, in order. Arrays: $2 run, $3 epoch; $1 worker, $4 lease seconds.
WITH mine AS (
    SELECT lease.run_id FROM lease
    JOIN unnest($2::text[], $3::integer[]) AS f (run_id, epoch) ON lease.run_id = ANY(ARRAY[f.run_id]) AND f.epoch = lease.epoch
    WHERE lease.worker_id = $1
    ORDER BY f.run_id
    FOR NO KEY UPDATE OF lease
)
UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $4)
FROM mine WHERE lease.run_id = ANY(ARRAY[mine.run_id])
RETURNING lease.run_id

-- name: live
-- Which of these leases are this worker's. Arrays: $2 run, $3 epoch; $1 worker.
SELECT lease.run_id FROM lease
JOIN unnest($2::text[], $3::integer[]) AS f (run_id, epoch) ON lease.run_id = ANY(ARRAY[f.run_id]) AND f.epoch = lease.epoch
WHERE lease.worker_id = $1

-- name: of_worker
-- All leases of a worker.
SELECT run_id, epoch FROM lease WHERE worker_id = $1 ORDER BY run_id

-- name: of_workers
-- Leases of some workers of an environment, the oldest first. $1 environment, $2 workers, $3 most rows.
SELECT run_id FROM lease WHERE worker_id = ANY($2) AND environment_id = $1 ORDER BY claimed_at LIMIT $3

-- name: still_of_workers
-- The same again under the runs' locks.
SELECT run_id FROM lease WHERE run_id = ANY($1) AND worker_id = ANY($2) ORDER BY run_id FOR UPDATE

-- name: unheld
-- Leases of a worker that it does not know of, claimed $4 seconds ago or earlier. Arrays: $2 run, $3 epoch; $1 worker.
SELECT lease.run_id, lease.epoch
FROM lease
LEFT JOIN unnest($2::text[], $3::integer[]) AS f (run_id, epoch) ON f.run_id = lease.run_id AND f.epoch = lease.epoch
WHERE lease.worker_id = $1 AND f.run_id IS NULL AND lease.claimed_at <= clock_timestamp() - make_interval(secs => $4)
ORDER BY lease.run_id

-- name: overdue
-- Runs whose lease ran out.
SELECT run_id FROM lease WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT $1

-- name: still_overdue
-- The same again under the runs' locks, waiting for a heartbeat under way: whoever renewed in time keeps the run.
SELECT run_id FROM lease WHERE run_id = ANY($1) AND expires_at < clock_timestamp() ORDER BY run_id FOR UPDATE

-- name: next_overdue
-- Seconds until the next lease runs out, null: none.
SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::double precision FROM lease
