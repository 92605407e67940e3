-- name: insert
-- Opens waits. Arrays: $1 run, $2 key, $3 kind, $4 seconds since the epoch, $5 spawn key, $6 token.
INSERT INTO wait (run_id, key, kind, due_at, spawn_key, token_id)
SELECT run_id, key, kind, to_timestamp(due_at), spawn_key, token_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::double precision[], $5::text[], $6::text[])
     AS w (run_id, key, kind, due_at, spawn_key, token_id)
ON CONFLICT (run_id, key) DO NOTHING

-- name: insert_retry
-- Opens the waits of retries, so many seconds from now. Arrays: $1 run, $2 seconds.
INSERT INTO wait (run_id, key, kind, due_at)
SELECT run_id, 'retry', 'retry', clock_timestamp() + make_interval(secs => seconds)
FROM unnest($1::text[], $2::double precision[]) AS w (run_id, seconds)

-- name: wake
-- waiting -> queued for at most $1 waits that are due, passing over what somebody else has locked. A wait that could be
-- locked was not ended meanwhile, so its run still waits for it. statement_timestamp() can be looked up in the index,
-- as clock_timestamp() cannot: how many are not due yet makes no difference. The first timer of a run that is due
-- stands in its ready row: the claim notes in the journal that it rang, unless it was set within a step (two bars in its
-- key), which its executor has to note. Environments of what was woken, and how many; in a row without one the seconds
-- until the next wait is due, 0 if one was passed over, null if there is none.
-- Nobody waits until this is on disk: if it is lost the wait is still there, and is over once more. Whatever is built on it
-- (a claim) stands behind it in the log, and is there only if this is.
WITH unhurried AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) AS setting  -- of this transaction, which is this statement
), due AS MATERIALIZED (
    SELECT wait.run_id, wait.key, wait.kind, wait.due_at
    FROM wait JOIN run ON run.id = ANY(ARRAY[wait.run_id])
    WHERE wait.due_at <= statement_timestamp() AND run.status = 'waiting' AND (SELECT setting FROM unhurried) = 'off'
    ORDER BY wait.due_at
    LIMIT $1
    FOR UPDATE OF wait SKIP LOCKED FOR NO KEY UPDATE OF run SKIP LOCKED
), over AS (
    DELETE FROM wait WHERE run_id = ANY(ARRAY(SELECT run_id FROM due))  -- an array keeps the planner at the index
), woken AS (
    UPDATE run SET status = 'queued', updated_at = clock_timestamp()
    WHERE id = ANY(ARRAY(SELECT run_id FROM due)) AND status = 'waiting'
    RETURNING id, environment_id, queue, task_id, concurrency_key, attempt_open, priority, number, created_at,
              delayed_until
), enqueued AS (
    INSERT INTO ready (run_id, environment_id, queue, task_id, key, resumed, rank, number, rang)
    SELECT id, environment_id, queue, task_id, concurrency_key, attempt_open,
           coalesce(delayed_until, created_at) - make_interval(secs => priority), number,
           (SELECT wait.key FROM wait
            WHERE wait.run_id = woken.id AND wait.kind = 'timer' AND wait.due_at <= statement_timestamp()
              AND wait.key NOT LIKE '%|%|%'
            ORDER BY wait.due_at, wait.key LIMIT 1)
    FROM woken
), laned AS (
    INSERT INTO lane (environment_id, queue, task_id, resumed, key, virtual_time)
    SELECT DISTINCT queue.environment_id, queue.name, woken.task_id, woken.attempt_open, woken.concurrency_key, greatest(
               queue.virtual_time, (SELECT max(same.virtual_time) FROM lane AS same
                                    WHERE same.environment_id = queue.environment_id AND same.queue = queue.name
                                      AND same.key = woken.concurrency_key))
    FROM woken JOIN queue ON queue.environment_id = woken.environment_id AND queue.name = woken.queue
    WHERE woken.concurrency_key IS NOT NULL
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (environment_id, queue, task_id, resumed, key) DO NOTHING
), told AS (
    INSERT INTO event (run_id, kind, data)
    SELECT DISTINCT ON (run_id) run_id, 'woken', jsonb_build_object('key', key, 'reason', kind)
    FROM due ORDER BY run_id, due_at, key
)
SELECT environment_id, count(*) AS amount, NULL::double precision AS next_due FROM woken GROUP BY environment_id
UNION ALL
SELECT NULL, 0, CASE
    WHEN (SELECT count(*) FROM due)
       < (SELECT count(*) FROM (SELECT FROM wait WHERE due_at <= statement_timestamp() LIMIT $1) AS overdue) THEN 0
    ELSE (SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision
          FROM wait WHERE due_at > statement_timestamp()) END

-- name: children_over
-- Sweep: runs that wait for children of whom none is open any more.
SELECT wait.run_id
FROM wait
LEFT JOIN adoption ON adoption.run_id = wait.run_id AND adoption.spawn_key = wait.spawn_key
WHERE wait.kind = 'children' AND NOT EXISTS (
    SELECT FROM run AS child
    WHERE child.open_child_of = coalesce(adoption.parent_id, wait.run_id) AND child.spawn_key = wait.spawn_key)
LIMIT $1

-- name: tokens_closed
-- Sweep: runs that wait for a token that is not open any more, or is gone.
SELECT wait.run_id FROM wait LEFT JOIN token ON token.id = wait.token_id
WHERE wait.token_id IS NOT NULL AND token.status IS DISTINCT FROM 'waiting' LIMIT $1

-- name: permits_over
-- Sweep: runs that wait for a permit which is granted, refused or gone.
SELECT run_id FROM wait
WHERE kind = 'permit' AND NOT EXISTS (
    SELECT FROM permit WHERE permit.run_id = wait.run_id AND permit.key = wait.spawn_key
                         AND granted_at IS NULL AND refusal IS NULL)
LIMIT $1

-- name: satisfied
-- Of these waiting runs, locked by now: which wait of each is satisfied, the one due first. The OFFSETs keep the planner
-- from reading all runs into a hash.
SELECT DISTINCT ON (wait.run_id) wait.run_id, wait.key, wait.kind
FROM wait
LEFT JOIN adoption ON adoption.run_id = wait.run_id AND adoption.spawn_key = wait.spawn_key
WHERE wait.run_id = ANY($1) AND (
    wait.due_at <= clock_timestamp()
    OR wait.kind = 'children' AND NOT EXISTS (
        SELECT FROM run AS child
        WHERE child.open_child_of = coalesce(adoption.parent_id, wait.run_id) AND child.spawn_key = wait.spawn_key
        OFFSET 0)
    OR wait.kind = 'token' AND NOT EXISTS (
        SELECT FROM token WHERE token.id = wait.token_id AND token.status = 'waiting' OFFSET 0)
    OR wait.kind = 'permit' AND NOT EXISTS (
        SELECT FROM permit WHERE permit.run_id = wait.run_id AND permit.key = wait.spawn_key
                             AND permit.granted_at IS NULL AND permit.refusal IS NULL OFFSET 0))
ORDER BY wait.run_id, wait.due_at NULLS FIRST, wait.key

-- name: next_due
-- Seconds until the next timer or retry is due, null: none.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision FROM wait WHERE due_at IS NOT NULL

-- name: of_run
-- What a run waits for.
SELECT key, kind, extract(epoch FROM due_at)::double precision AS due_at, spawn_key, token_id
FROM wait WHERE run_id = $1 ORDER BY due_at NULLS LAST, key
