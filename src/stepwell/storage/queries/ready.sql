-- name: enqueue
-- Makes queued runs claimable. Only a run that never began can expire.
INSERT INTO ready (run_id, environment_id, queue, task_id, resumed, priority, number, expires_at)
SELECT id, environment_id, queue, task_id, attempt_open, priority, number, CASE WHEN attempt = 0 THEN expires_at END
FROM run WHERE id = ANY($1) AND status = 'queued'

-- name: remove
-- Takes runs out of the queue that were canceled, expired or put off.
DELETE FROM ready WHERE run_id = ANY($1)

-- name: claimable
-- Which (queue, task) pairs have something for these tasks, with the limits that bind. Skips from pair to pair along
-- the index, so that a backlog of any length costs one probe.
WITH RECURSIVE pair AS (
    (SELECT queue, task_id FROM ready WHERE environment_id = $1 ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM pair CROSS JOIN LATERAL (
        SELECT queue, task_id FROM ready
        WHERE environment_id = $1 AND (queue, task_id) > (pair.queue, pair.task_id)
        ORDER BY queue, task_id LIMIT 1
    ) AS following
)
SELECT pair.queue, pair.task_id, queue.concurrency_limit AS queue_limit,
       environment.concurrency_limit AS environment_limit
FROM pair
JOIN queue ON queue.environment_id = $1 AND queue.name = pair.queue
JOIN environment ON environment.id = $1
WHERE pair.task_id = ANY($2) AND NOT queue.paused AND NOT environment.paused

-- name: claim
-- Turns ready rows into leases. $1 environment, pairs in $2 queue and $3 task, $4 most rows, $5 worker, $6 lease seconds.
-- `head` only looks, to divide $4 over queues and tasks by order and free slots; `picked` locks so many of each, passing
-- over rows (and runs) that somebody else holds. Queues with a limit have been locked by an earlier statement.
WITH room AS (
    SELECT name AS queue, CASE WHEN concurrency_limit IS NULL THEN $4 ELSE greatest(0, concurrency_limit - (
               SELECT count(*) FROM lease WHERE lease.environment_id = $1 AND lease.queue = queue.name)) END AS slots
    FROM queue WHERE environment_id = $1 AND name = ANY($2) AND NOT paused
), head AS (
    SELECT first.*, room.slots, row_number() OVER (
               PARTITION BY first.queue ORDER BY first.resumed DESC, first.priority DESC, first.number) AS place
    FROM unnest($2::text[], $3::text[]) AS pair (queue, task_id)
    JOIN room ON room.queue = pair.queue
    CROSS JOIN LATERAL (
        SELECT queue, task_id, resumed, priority, number FROM ready
        WHERE environment_id = $1 AND queue = pair.queue AND task_id = pair.task_id
        ORDER BY resumed DESC, priority DESC, number LIMIT least($4, room.slots)
    ) AS first
), share AS (
    SELECT queue, task_id, count(*) AS amount
    FROM (SELECT queue, task_id FROM head WHERE place <= slots
          ORDER BY resumed DESC, priority DESC, number LIMIT $4) AS best
    GROUP BY queue, task_id
), picked AS (
    SELECT mine.*
    FROM share CROSS JOIN LATERAL (
        SELECT ready.run_id, ready.resumed, ready.priority, ready.number
        FROM ready JOIN run ON run.id = ready.run_id
        WHERE ready.environment_id = $1 AND ready.queue = share.queue AND ready.task_id = share.task_id
          AND run.status = 'queued'
        ORDER BY ready.resumed DESC, ready.priority DESC, ready.number
        LIMIT share.amount
        FOR UPDATE OF ready SKIP LOCKED FOR NO KEY UPDATE OF run SKIP LOCKED
    ) AS mine
), gone AS (
    DELETE FROM ready WHERE run_id = ANY(ARRAY(SELECT run_id FROM picked))  -- an array keeps the planner at the index
), taken AS (
    UPDATE run
    SET status = 'executing', worker_id = $5, lease_epoch = lease_epoch + 1, left_by = NULL,
        attempt = attempt + CASE WHEN attempt_open THEN 0 ELSE 1 END, attempt_open = true,
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    WHERE id = ANY(ARRAY(SELECT run_id FROM picked)) AND status = 'queued'
    RETURNING run.*
), leased AS (
    INSERT INTO lease (run_id, environment_id, queue, worker_id, epoch, claimed_at, expires_at)
    SELECT id, environment_id, queue, $5, lease_epoch, clock_timestamp(),
           clock_timestamp() + make_interval(secs => $6)
    FROM taken
), tried AS (
    INSERT INTO attempt (run_id, number, worker_id, started_at)
    SELECT id, attempt, $5, clock_timestamp() FROM taken
    ON CONFLICT (run_id, number) DO UPDATE SET worker_id = excluded.worker_id
)
SELECT taken.id, taken.task_id, taken.queue, taken.lease_epoch, taken.attempt, taken.payload, taken.payload_type,
       extract(epoch FROM taken.started_at)::double precision AS started_at,
       extract(epoch FROM taken.created_at)::double precision AS created_at,
       extract(epoch FROM clock_timestamp())::double precision AS now,
       taken.max_attempts, taken.max_duration, taken.executed, taken.tags, taken.metadata, taken.parent_id,
       taken.root_id, taken.idempotency_key, coalesce(taken.seed, taken.id) AS seed, task.declaration, environment.slug AS environment
FROM taken
JOIN picked ON picked.run_id = taken.id
JOIN task ON task.environment_id = taken.environment_id AND task.id = taken.task_id
JOIN environment ON environment.id = taken.environment_id
ORDER BY picked.resumed DESC, taken.priority DESC, taken.number

-- name: overdue
-- Runs that no worker took within their ttl.
SELECT run_id FROM ready WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1

-- name: next_expiry
-- Seconds until the next of them, null: none.
SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::double precision FROM ready WHERE expires_at IS NOT NULL

-- name: delay
-- Puts runs off until their delayed_until.
INSERT INTO delayed (run_id, due_at) SELECT id, delayed_until FROM run WHERE id = ANY($1) AND status = 'delayed'
ON CONFLICT (run_id) DO UPDATE SET due_at = excluded.due_at

-- name: due
-- Delayed runs whose time has come.
SELECT run_id FROM delayed WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT $1

-- name: next_due
-- Seconds until the next delay is over, null: none.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision FROM delayed
