-- name: enqueue
-- Makes queued runs claimable. Only a run that never began can expire.
WITH queued AS (
    SELECT id, environment_id, queue, task_id, concurrency_key, attempt_open, priority, number, created_at, delayed_until,
           CASE WHEN attempt = 0 THEN expires_at END AS expires_at
    FROM run WHERE id = ANY($1) AND status = 'queued'
), laned AS (
    INSERT INTO lane (environment_id, queue, task_id, resumed, key, virtual_time)
    SELECT DISTINCT queue.environment_id, queue.name, queued.task_id, queued.attempt_open, queued.concurrency_key, greatest(
               queue.virtual_time, (SELECT max(same.virtual_time) FROM lane AS same
                                    WHERE same.environment_id = queue.environment_id AND same.queue = queue.name
                                      AND same.key = queued.concurrency_key))
    FROM queued JOIN queue ON queue.environment_id = queued.environment_id AND queue.name = queued.queue
    WHERE queued.concurrency_key IS NOT NULL
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (environment_id, queue, task_id, resumed, key) DO NOTHING
)
INSERT INTO ready (run_id, environment_id, queue, task_id, key, resumed, rank, number, expires_at)
SELECT id, environment_id, queue, task_id, concurrency_key, attempt_open,
       coalesce(delayed_until, created_at) - make_interval(secs => priority), number, expires_at
FROM queued

-- name: remove
-- Takes runs out of the queue that were canceled, expired or put off.
DELETE FROM ready WHERE run_id = ANY($1)

-- name: claim
-- Turns ready rows into leases. $1 environment, $2 tasks, $3 most rows, $4 worker, $5 lease seconds. With runs in $6, these
-- were chosen under the locks of what limits them, and $2 is empty. Without, it chooses by itself where nothing is limited;
-- where a limit or a lane is in the way it claims nothing, and says so: `barred`. `pair` skips from one (queue, task) to the
-- next along the index, so that a backlog of any length costs one probe. `head` only looks, to divide $3 over queues and
-- tasks by order; `picked` locks so many of each, passing over rows (and runs) that somebody else holds, and `wanted` says
-- how many there should have been. A skim looks only at $8 queues with $9 tasks, and of runs that are not resumed only at
-- those from rank $7 on (seconds since the epoch): what is gone, but cannot be vacuumed, stands before. `passed` says how many
-- entries of such the look met (by this session's statistics), `took` how many seconds it took, `since` where a skim may begin.
WITH RECURSIVE before AS MATERIALIZED (
    SELECT coalesce(pg_stat_get_xact_tuples_returned('ready_order'::regclass), 0) AS entries
), pair AS (
    (SELECT queue, task_id FROM ready
     WHERE environment_id = $1 AND key IS NULL AND cardinality($2::text[]) > 0 AND cardinality($8::text[]) = 0
       AND (SELECT entries FROM before) >= 0
     ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM pair CROSS JOIN LATERAL (
        SELECT queue, task_id FROM ready
        WHERE environment_id = $1 AND (queue, task_id) > (pair.queue, pair.task_id) AND key IS NULL
        ORDER BY queue, task_id LIMIT 1
    ) AS following
), laned AS (
    (SELECT queue, task_id FROM lane WHERE environment_id = $1 AND cardinality($2) > 0 ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM laned CROSS JOIN LATERAL (
        SELECT queue, task_id FROM lane
        WHERE environment_id = $1 AND (queue, task_id) > (laned.queue, laned.task_id)
        ORDER BY queue, task_id LIMIT 1
    ) AS following
), offered AS MATERIALIZED (
    SELECT pair.queue, pair.task_id, place.declared_at, place.limited OR pair.laned AS barred
    FROM (SELECT queue, task_id, false AS laned FROM pair UNION ALL SELECT queue, task_id, true FROM laned
          UNION ALL SELECT queue, task_id, false FROM unnest($8, $9::text[]) AS known (queue, task_id)) AS pair
    JOIN place ON place.environment_id = $1 AND place.queue = pair.queue AND place.task_id = pair.task_id
    WHERE pair.task_id = ANY($2) AND place.open AND NOT (place.limited AND place.full)
), head AS MATERIALIZED (
    SELECT first.*, offered.declared_at
    FROM offered CROSS JOIN (VALUES (true, '-infinity'), (false, to_timestamp($7))) AS part (resumed, since)
    CROSS JOIN LATERAL (
        SELECT queue, task_id, resumed, rank, number FROM ready
        WHERE environment_id = $1 AND queue = offered.queue AND task_id = offered.task_id AND resumed = part.resumed
          AND rank >= part.since AND key IS NULL
        ORDER BY rank, number LIMIT $3
    ) AS first
    WHERE NOT EXISTS (SELECT FROM offered WHERE barred)
), share AS MATERIALIZED (
    SELECT queue, task_id, resumed, declared_at, min(rank) AS since, count(*) AS amount
    FROM (SELECT * FROM head ORDER BY resumed DESC, rank, number LIMIT $3) AS best
    GROUP BY queue, task_id, resumed, declared_at
), looked AS MATERIALIZED (
    SELECT coalesce(sum(amount), 0)::integer AS amount,
           coalesce(pg_stat_get_xact_tuples_returned('ready_order'::regclass), 0) - (SELECT entries FROM before)
               - (SELECT count(*) FROM head) AS passed,
           extract(epoch FROM clock_timestamp() - statement_timestamp())::double precision AS took
    FROM share
), picked AS MATERIALIZED (
    SELECT mine.*, share.declared_at
    FROM share CROSS JOIN LATERAL (
        SELECT ready.ctid AS ready_at, run.ctid AS run_at, ready.resumed, ready.rank, ready.rang
        FROM ready JOIN run ON run.id = ANY(ARRAY[ready.run_id])
        WHERE ready.environment_id = $1 AND ready.queue = share.queue AND ready.task_id = share.task_id
          AND ready.resumed = share.resumed AND ready.rank >= share.since AND ready.key IS NULL
          AND run.status = 'queued' AND EXISTS (SELECT FROM worker WHERE worker.id = $4)
        ORDER BY ready.rank, ready.number
        LIMIT share.amount
        FOR UPDATE OF ready SKIP LOCKED FOR NO KEY UPDATE OF run SKIP LOCKED
    ) AS mine
), chosen AS MATERIALIZED (
    SELECT ready.ctid AS ready_at, run.ctid AS run_at, ready.resumed, ready.rank, ready.rang, task.updated_at AS declared_at
    FROM unnest($6::text[]) AS f (run_id)
    JOIN ready ON ready.run_id = ANY(ARRAY[f.run_id])
    JOIN run ON run.id = ANY(ARRAY[f.run_id])
    JOIN task ON task.environment_id = $1 AND task.id = ready.task_id
    WHERE run.status = 'queued' AND EXISTS (SELECT FROM worker WHERE worker.id = $4)
    FOR UPDATE OF ready SKIP LOCKED FOR NO KEY UPDATE OF run SKIP LOCKED
), taken AS (
    -- Where the row stands, for it is locked. One that changed since this statement began is not found there: it stays.
    -- All that follows reads what this returns, so it returns no column more than that needs.
    UPDATE run
    SET status = 'executing', worker_id = $4, lease_epoch = lease_epoch + 1, left_by = NULL,
        attempt = attempt + CASE WHEN attempt_open THEN 0 ELSE 1 END, attempt_open = true,
        executed_before = CASE WHEN attempt_open THEN executed_before ELSE executed END,
        cancel_deadline = clock_timestamp() + make_interval(secs => cancel_grace + 3600),  -- null while nobody canceled it
        started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
    FROM (SELECT * FROM picked UNION ALL SELECT * FROM chosen) AS mine
    WHERE run.ctid = mine.run_at AND run.status = 'queued'
    RETURNING run.id, run.environment_id, run.number, run.task_id, run.queue, run.concurrency_key, run.payload,
              run.payload_type, run.lease_epoch, run.attempt, run.max_attempts, run.max_duration, run.executed,
              run.executed_before, run.cancel_grace, run.tags, run.metadata, run.parent_id, run.root_id,
              run.idempotency_key, run.forked_from, run.seed, run.started_at, run.created_at,
              mine.resumed, mine.rank, mine.rang, mine.ready_at, mine.declared_at
), rung AS (
    -- That a timer rang is an entry as its executor would write it, and here nobody else can write to the journal. It is
    -- noted only now, for the run's clock goes on from it: what it sets a time limit for does not begin before.
    -- `checksum` is that of `model/checkpoint.py`; a journal that is full (`executor/journal.py`) is left to the executor,
    -- which says so.
    INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                            checksum)
    SELECT id, seq, rang, 'timer', 'value', at, at, body, '', attempt, false, '', lease_epoch,
           substr(sha256(int4send(length(key)) || key || int4send(5) || 'timer' || int4send(5) || 'value' || int4send(0)
                         || int4send(seq) || float8send(at) || float8send(at) || '\x00' || int4send(0) || body), 1, 8)
    FROM taken CROSS JOIN LATERAL (
        SELECT coalesce(max(last.seq) + 1, 0) AS seq,
               greatest(extract(epoch FROM clock_timestamp())::double precision, max(last.at)) AS at,
               convert_to(taken.rang, 'UTF8') AS key, 'j{"v":null}'::bytea AS body
        FROM (SELECT seq, at FROM checkpoint WHERE run_id = taken.id ORDER BY seq DESC LIMIT 1) AS last
    ) AS entry
    WHERE rang IS NOT NULL AND cancel_grace IS NULL AND seq < 50000
), gone AS (
    DELETE FROM ready USING taken WHERE ready.ctid = taken.ready_at
), leased AS (
    INSERT INTO lease (run_id, environment_id, queue, task_id, key, worker_id, epoch, claimed_at, expires_at)
    SELECT id, environment_id, queue, task_id, concurrency_key, $4, lease_epoch, clock_timestamp(),
           clock_timestamp() + make_interval(secs => $5)
    FROM taken
    RETURNING claimed_at
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
SELECT gate.barred, gate.wanted, gate.passed, gate.took, gate.since, taken.id, taken.task_id, taken.queue, taken.lease_epoch, taken.attempt, taken.payload,
       taken.payload_type, extract(epoch FROM taken.started_at)::double precision AS started_at,
       extract(epoch FROM taken.created_at)::double precision AS created_at,
       extract(epoch FROM clock_timestamp())::double precision AS now,
       taken.max_attempts, taken.max_duration, taken.executed,
       taken.executed - taken.executed_before AS executed_in_attempt, taken.cancel_grace, taken.tags,
       taken.metadata, taken.parent_id, taken.root_id, taken.idempotency_key, coalesce(taken.seed, taken.id) AS seed,
       taken.lease_epoch > 1 OR taken.forked_from IS NOT NULL AS journaled, taken.declared_at,
       (SELECT slug FROM environment WHERE id = $1) AS environment,
       extract(epoch FROM (SELECT max(claimed_at) FROM leased))::double precision AS claimed_at
FROM (SELECT coalesce((SELECT bool_or(barred) FROM offered), false) AS barred,
             greatest(looked.amount, cardinality($6)) AS wanted, looked.passed, looked.took,
             extract(epoch FROM coalesce((SELECT min(rank) FROM head WHERE NOT resumed),
                                         statement_timestamp() - interval '1 s'))::double precision AS since
      FROM looked) AS gate
LEFT JOIN taken ON true
ORDER BY taken.resumed DESC, taken.rank, taken.number

-- name: bump
-- Puts a queued run to the front of its queue. Its lane is the next to be served.
WITH bumped AS (
    UPDATE ready SET rank = '-infinity' WHERE run_id = $1 RETURNING environment_id, queue, key
), first AS (
    UPDATE lane SET virtual_time = '-infinity', parked_until = NULL FROM bumped
    WHERE lane.environment_id = bumped.environment_id AND lane.queue = bumped.queue AND lane.key = bumped.key
)
SELECT FROM bumped

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
