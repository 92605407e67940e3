-- name: enqueue
-- Makes queued runs claimable. Only a run that never began can expire.
INSERT INTO ready (run_id, environment_id, queue, task_id, resumed, priority, number, expires_at)
SELECT id, environment_id, queue, task_id, attempt_open, priority, number, CASE WHEN attempt = 0 THEN expires_at END
FROM run WHERE id = ANY($1) AND status = 'queued'

-- name: remove
-- Takes runs out of the queue that were canceled, expired or put off.
DELETE FROM ready WHERE run_id = ANY($1)

-- name: limited
-- Which limits bind a claim of these tasks: the queues with one, and the environment's own.
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
SELECT DISTINCT queue.name
FROM pair JOIN queue ON queue.environment_id = $1 AND queue.name = pair.queue
WHERE pair.task_id = ANY($2) AND NOT queue.paused AND coalesce(queue.concurrency_override, queue.concurrency_limit) IS NOT NULL
ORDER BY queue.name

-- name: claim
-- Turns ready rows into leases. $1 environment, $2 tasks, $3 most rows, $4 worker, $5 lease seconds; $6 queues whose limit,
-- $7 whether the environment's limit, was locked by an earlier statement. Where another one binds it claims nothing, and
-- says so: `barred`. `pair` skips from one (queue, task) to the next along the index, so that a backlog of any length costs
-- one probe. `head` only looks, to divide $3 over queues and tasks by order and free slots; `picked` locks so many of each,
-- passing over rows (and runs) that somebody else holds, and `wanted` says how many there should have been.
WITH RECURSIVE pair AS (
    (SELECT queue, task_id FROM ready WHERE environment_id = $1 ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM pair CROSS JOIN LATERAL (
        SELECT queue, task_id FROM ready
        WHERE environment_id = $1 AND (queue, task_id) > (pair.queue, pair.task_id)
        ORDER BY queue, task_id LIMIT 1
    ) AS following
), offered AS MATERIALIZED (
    SELECT pair.queue, pair.task_id, task.updated_at AS declared_at,
           coalesce(queue.concurrency_override, queue.concurrency_limit) IS NOT NULL AND queue.name <> ALL($6::text[])
               OR environment.concurrency_limit IS NOT NULL AND NOT $7::boolean AS barred,
           CASE WHEN coalesce(queue.concurrency_override, queue.concurrency_limit) IS NULL THEN $3::bigint ELSE greatest(0, coalesce(queue.concurrency_override, queue.concurrency_limit) - (
               SELECT count(*) FROM lease WHERE lease.environment_id = $1 AND lease.queue = pair.queue)) END AS slots
    FROM pair
    JOIN queue ON queue.environment_id = $1 AND queue.name = pair.queue
    JOIN environment ON environment.id = $1
    JOIN task ON task.environment_id = $1 AND task.id = pair.task_id
    WHERE pair.task_id = ANY($2) AND NOT queue.paused AND NOT environment.paused AND NOT task.paused
), head AS (
    SELECT first.*, offered.declared_at, offered.slots, row_number() OVER (
               PARTITION BY first.queue ORDER BY first.resumed DESC, first.priority DESC, first.number) AS place
    FROM offered CROSS JOIN LATERAL (
        SELECT queue, task_id, resumed, priority, number FROM ready
        WHERE environment_id = $1 AND queue = offered.queue AND task_id = offered.task_id
        ORDER BY resumed DESC, priority DESC, number LIMIT least($3, offered.slots)
    ) AS first
    WHERE NOT EXISTS (SELECT FROM offered WHERE barred)
), share AS MATERIALIZED (
    SELECT queue, task_id, declared_at, count(*) AS amount
    FROM (SELECT queue, task_id, declared_at FROM head WHERE place <= slots
          ORDER BY resumed DESC, priority DESC, number LIMIT $3) AS best
    GROUP BY queue, task_id, declared_at
), picked AS MATERIALIZED (
    SELECT mine.*, share.declared_at
    FROM share CROSS JOIN LATERAL (
        SELECT ready.ctid AS ready_at, run.ctid AS run_at, ready.resumed
        FROM ready JOIN run ON run.id = ready.run_id
        WHERE ready.environment_id = $1 AND ready.queue = share.queue AND ready.task_id = share.task_id
          AND run.status = 'queued' AND EXISTS (SELECT FROM worker WHERE worker.id = $4)
        ORDER BY ready.resumed DESC, ready.priority DESC, ready.number
        LIMIT share.amount
        FOR UPDATE OF ready SKIP LOCKED FOR NO KEY UPDATE OF run SKIP LOCKED
    ) AS mine
), taken AS (
    -- Where the row stands, for it is locked. One that changed since this statement began is not found there: it stays.
    UPDATE run
    SET status = 'executing', worker_id = $4, lease_epoch = lease_epoch + 1, left_by = NULL,
        attempt = attempt + CASE WHEN attempt_open THEN 0 ELSE 1 END, attempt_open = true,
        executed_before = CASE WHEN attempt_open THEN executed_before ELSE executed END,
        cancel_deadline = clock_timestamp() + make_interval(secs => cancel_grace + 3600),  -- null while nobody canceled it
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM picked WHERE run.ctid = picked.run_at AND run.status = 'queued'
    RETURNING run.*, picked.resumed, picked.ready_at, picked.declared_at
), gone AS (
    DELETE FROM ready USING taken WHERE ready.ctid = taken.ready_at
), leased AS (
    INSERT INTO lease (run_id, environment_id, queue, worker_id, epoch, claimed_at, expires_at)
    SELECT id, environment_id, queue, $4, lease_epoch, clock_timestamp(),
           clock_timestamp() + make_interval(secs => $5)
    FROM taken
), tried AS (
    INSERT INTO attempt (run_id, number, worker_id, started_at)
    SELECT id, attempt, $4, clock_timestamp() FROM taken
    ON CONFLICT (run_id, number) DO UPDATE SET worker_id = excluded.worker_id
), told AS (
    INSERT INTO event (run_id, kind, data)
    SELECT id, 'claimed', jsonb_build_object('worker', $4, 'epoch', lease_epoch, 'attempt', attempt, 'checkpoints',
               CASE WHEN lease_epoch = 1 AND forked_from IS NULL THEN 0
                    ELSE coalesce((SELECT max(seq) + 1 FROM checkpoint WHERE checkpoint.run_id = taken.id), 0) END)
    FROM taken
)
SELECT gate.barred, gate.wanted, taken.id, taken.task_id, taken.queue, taken.lease_epoch, taken.attempt, taken.payload,
       taken.payload_type, extract(epoch FROM taken.started_at)::double precision AS started_at,
       extract(epoch FROM taken.created_at)::double precision AS created_at,
       extract(epoch FROM clock_timestamp())::double precision AS now,
       taken.max_attempts, taken.max_duration, taken.executed,
       taken.executed - taken.executed_before AS executed_in_attempt, taken.cancel_grace, taken.tags,
       taken.metadata, taken.parent_id, taken.root_id, taken.idempotency_key, coalesce(taken.seed, taken.id) AS seed,
       taken.lease_epoch > 1 OR taken.forked_from IS NOT NULL AS journaled, taken.declared_at,
       (SELECT slug FROM environment WHERE id = $1) AS environment
FROM (SELECT coalesce((SELECT bool_or(barred) FROM offered), false) AS barred,
             coalesce((SELECT sum(amount) FROM share), 0)::integer AS wanted) AS gate
LEFT JOIN taken ON true
ORDER BY taken.resumed DESC, taken.priority DESC, taken.number

-- name: overdue
-- Runs that no worker took within their ttl.
SELECT run_id FROM ready WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT $1

-- name: next_expiry
-- Seconds until the next of them, null: none.
SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::double precision FROM ready WHERE expires_at IS NOT NULL

-- name: delay
-- Puts runs off until their delayed_until.
INSERT INTO delayed (run_id, due_at) SELECT id, delayed_until FROM run WHERE id = ANY($1) AND status = 'delayed'
ON CONFLICT (run_id) DO UPDATE SET due_at = excluded.due_at

-- name: due
-- Delayed runs whose time has come.
SELECT run_id FROM delayed WHERE due_at <= statement_timestamp() ORDER BY due_at LIMIT $1

-- name: next_due
-- Seconds until the next delay is over, null: none.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision FROM delayed
