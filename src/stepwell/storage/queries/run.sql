-- name: insert
-- Makes runs in the order of the arrays, claimable or put off, each with its event and its request key. Nothing of a run is
-- made whose id exists or whose key is taken, and nothing at all if a declaration is not the
-- one given. Returns the ids made. $1 environment; arrays: $2 to $29 of runs, $30 task and $31 version of declarations.
WITH given AS (
    SELECT r.*, coalesce(now() + make_interval(secs => r.delay), to_timestamp(r.delay_until)) AS delayed_until
    FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::integer[],
                $10::text[], $11::integer[], $12::text[], $13::integer[], $14::text[], $15::integer[], $16::text[],
                $17::integer[], $18::integer[], $19::double precision[], $20::double precision[], $21::text[],
                $22::bytea[], $23::text[], $24::text[], $25::text[], $26::boolean[], $27::double precision[],
                $28::double precision[], $29::text[])
         WITH ORDINALITY
         AS r (id, task_id, queue, payload, payload_type, parent_id, root_id, depth, spawn_key, child_index, batch_id,
               batch_index, forked_from, forked_seq, concurrency_key, priority, max_attempts, max_duration, ttl, tags,
               metadata, idempotency_key, trigger_function, traceparent, test, delay, delay_until, request_key, place)
    WHERE NOT EXISTS (
        SELECT FROM unnest($30::text[], $31::timestamptz[]) AS known (task_id, version)
        WHERE NOT EXISTS (SELECT FROM task WHERE task.environment_id = $1 AND task.id = known.task_id
                          AND task.updated_at = known.version))
), keyed AS (
    INSERT INTO request_key (environment_id, task_id, key, run_id, expires_at)
    SELECT $1, task_id, request_key, id, now() + interval '24 hours' FROM given WHERE request_key IS NOT NULL
    ORDER BY task_id, request_key
    ON CONFLICT (environment_id, task_id, key) DO UPDATE SET run_id = excluded.run_id, expires_at = excluded.expires_at
    WHERE request_key.expires_at <= now()
    RETURNING run_id
), made AS (
    INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, parent_id, root_id, depth,
                     spawn_key, child_index, batch_id, batch_index, forked_from, forked_seq, concurrency_key, priority,
                     max_attempts, max_duration, ttl, tags, metadata, idempotency_key, trigger_function, traceparent,
                     test, delayed_until, expires_at)
    SELECT id, $1, task_id, queue, CASE WHEN delayed_until > now() THEN 'delayed' ELSE 'queued' END, payload,
           payload_type, parent_id, root_id, depth, spawn_key, child_index, batch_id, batch_index, forked_from,
           forked_seq, concurrency_key, priority, max_attempts, max_duration, ttl, tags::text[], metadata,
           idempotency_key, trigger_function, traceparent, test, delayed_until,
           coalesce(greatest(delayed_until, now()), now()) + make_interval(secs => ttl)
    FROM given WHERE request_key IS NULL OR id IN (SELECT run_id FROM keyed)
    ORDER BY place
    ON CONFLICT (id) DO NOTHING
    RETURNING id, number, status, queue, task_id, concurrency_key, priority, expires_at, created_at, delayed_until,
              parent_id, forked_from, forked_seq
), queued AS (
    INSERT INTO ready (run_id, environment_id, queue, task_id, key, resumed, rank, number, expires_at)
    SELECT id, $1, queue, task_id, concurrency_key, false,
           coalesce(delayed_until, created_at) - make_interval(secs => priority), number, expires_at
    FROM made WHERE status = 'queued'
), laned AS (
    INSERT INTO lane (environment_id, queue, task_id, resumed, key, virtual_time)
    SELECT DISTINCT queue.environment_id, queue.name, made.task_id, false, made.concurrency_key, greatest(
               queue.virtual_time, (SELECT max(same.virtual_time) FROM lane AS same
                                    WHERE same.environment_id = queue.environment_id AND same.queue = queue.name
                                      AND same.key = made.concurrency_key))
    FROM made JOIN queue ON queue.environment_id = $1 AND queue.name = made.queue
    WHERE made.concurrency_key IS NOT NULL AND made.status = 'queued'
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (environment_id, queue, task_id, resumed, key) DO NOTHING
), put_off AS (
    INSERT INTO delayed (run_id, due_at) SELECT id, delayed_until FROM made WHERE status = 'delayed'
), told AS (
    INSERT INTO event (run_id, kind, data)
    SELECT id, 'triggered', CASE WHEN coalesce(parent_id, forked_from) IS NULL AND delayed_until IS NULL THEN '{}'
               ELSE jsonb_strip_nulls(jsonb_build_object('parent', parent_id, 'delayed_until', delayed_until,
                                                         'forked_from', forked_from, 'forked_seq', forked_seq)) END
    FROM made
)
SELECT id FROM made

-- name: insert_alike
-- Makes usual runs that differ in nothing but id, payload and place in their batch, each with its event.
-- $1 environment, $2 batch, $3 task, $4 queue, $5 type of the payloads, $6 concurrency key, $7 priority, $8 attempts,
-- $9 max_duration, $10 ttl, $11 tags, $12 metadata, $13 trigger function, $14 traceparent, $15 test, $16 delay,
-- $17 delay_until; arrays: $18 run, $19 index; $20 all payloads, of which each one begins at $21 and has $22 bytes.
WITH moment AS MATERIALIZED (
    SELECT coalesce(now() + make_interval(secs => $16), to_timestamp($17)) AS delayed_until
), made AS (
    INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id, batch_id, batch_index,
                     concurrency_key, priority, max_attempts, max_duration, ttl, tags, metadata, trigger_function,
                     traceparent, test, delayed_until, expires_at)
    SELECT id, $1, $3, $4, CASE WHEN delayed_until > now() THEN 'delayed' ELSE 'queued' END,
           substring($20::bytea FROM begins FOR length), $5, id, $2, index,
           $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, delayed_until,
           coalesce(greatest(delayed_until, now()), now()) + make_interval(secs => $10)
    FROM unnest($18::text[], $19::integer[], $21::integer[], $22::integer[]) AS r (id, index, begins, length)
         CROSS JOIN moment
    RETURNING id, number, status, expires_at, created_at, delayed_until
), queued AS (
    INSERT INTO ready (run_id, environment_id, queue, task_id, key, resumed, rank, number, expires_at)
    SELECT id, $1, $4, $3, $6, false, coalesce(delayed_until, created_at) - make_interval(secs => $7), number, expires_at
    FROM made WHERE status = 'queued'
), laned AS (
    INSERT INTO lane (environment_id, queue, task_id, resumed, key, virtual_time)
    SELECT $1, $4, $3, false, $6, greatest(
               queue.virtual_time, (SELECT max(same.virtual_time) FROM lane AS same
                                    WHERE same.environment_id = $1 AND same.queue = $4 AND same.key = $6))
    FROM queue
    WHERE environment_id = $1 AND name = $4 AND $6 IS NOT NULL AND EXISTS (SELECT FROM made WHERE status = 'queued')
    ON CONFLICT (environment_id, queue, task_id, resumed, key) DO NOTHING
), put_off AS (
    INSERT INTO delayed (run_id, due_at) SELECT id, delayed_until FROM made WHERE status = 'delayed'
)
INSERT INTO event (run_id, kind, data)
SELECT id, 'triggered', CASE WHEN delayed_until IS NULL THEN '{}'
                             ELSE jsonb_build_object('delayed_until', delayed_until) END
FROM made

-- name: begin
-- Makes one usual run, with its request key, as `insert` does; and if nothing limits or pauses it, and nothing waits in its
-- queue, it is executing from the beginning, under a lease of worker $18, as if `ready.claim` had found it. Nothing is
-- made if the id or the key is taken, or the task's declaration is not the one given. $1 environment, $2 run, $3 task,
-- $4 its version, $5 queue, $6 payload, $7 its type, $8 priority, $9 attempts, $10 max_duration, $11 ttl, $12 tags,
-- $13 metadata, $14 trigger function, $15 traceparent, $16 test, $17 request key, $19 lease seconds.
WITH found AS MATERIALIZED (
    SELECT slug, open AND NOT limited
           AND EXISTS (SELECT FROM worker WHERE worker.id = $18)
           AND NOT EXISTS (SELECT FROM ready WHERE environment_id = $1 AND queue = $5 AND key IS NULL)
           AND NOT EXISTS (SELECT FROM lane WHERE environment_id = $1 AND queue = $5) AS at_once
    FROM place WHERE environment_id = $1 AND queue = $5 AND task_id = $3 AND declared_at = $4
), keyed AS (
    INSERT INTO request_key (environment_id, task_id, key, run_id, expires_at)
    SELECT $1, $3, $17, $2, now() + interval '24 hours' FROM found WHERE $17::text IS NOT NULL
    ON CONFLICT (environment_id, task_id, key) DO UPDATE SET run_id = excluded.run_id, expires_at = excluded.expires_at
    WHERE request_key.expires_at <= now()
    RETURNING run_id
), made AS (
    INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id, priority, max_attempts,
                     max_duration, ttl, tags, metadata, trigger_function, traceparent, test, expires_at,
                     worker_id, lease_epoch, attempt, attempt_open, started_at)
    SELECT $2, $1, $3, $5, CASE WHEN at_once THEN 'executing' ELSE 'queued' END, $6, $7, $2, $8, $9,
           $10, $11, $12, $13, $14, $15, $16, now() + make_interval(secs => $11),
           CASE WHEN at_once THEN $18 END, at_once::integer, at_once::integer, at_once,
           CASE WHEN at_once THEN clock_timestamp() END
    FROM found WHERE $17::text IS NULL OR EXISTS (SELECT FROM keyed)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, number, expires_at, created_at, started_at
), queued AS (
    INSERT INTO ready (run_id, environment_id, queue, task_id, resumed, rank, number, expires_at)
    SELECT id, $1, $5, $3, false, created_at - make_interval(secs => $8), number, expires_at
    FROM made WHERE started_at IS NULL
), leased AS (
    INSERT INTO lease (run_id, environment_id, queue, task_id, worker_id, epoch, claimed_at, expires_at)
    SELECT id, $1, $5, $3, $18, 1, started_at, started_at + make_interval(secs => $19) FROM made WHERE started_at IS NOT NULL
), tried AS (
    INSERT INTO attempt (run_id, number, worker_id, started_at)
    SELECT id, 1, $18, started_at FROM made WHERE started_at IS NOT NULL
), told AS (
    INSERT INTO event (run_id, kind, data)
    SELECT id, kind, data
    FROM made CROSS JOIN LATERAL (VALUES
        (1, 'triggered', '{}'::jsonb),
        (2, 'claimed', jsonb_build_object('worker', $18, 'epoch', 1, 'attempt', 1, 'checkpoints', 0))
    ) AS fact (place, kind, data)
    WHERE kind = 'triggered' OR started_at IS NOT NULL ORDER BY fact.place
)
SELECT extract(epoch FROM started_at)::double precision AS started_at,
       extract(epoch FROM created_at)::double precision AS created_at,
       extract(epoch FROM clock_timestamp())::double precision AS now, found.slug AS environment
FROM made CROSS JOIN found

-- name: lineage
-- Where these runs stand in their trees, for their new children.
SELECT id, root_id, depth FROM run WHERE environment_id = $1 AND id = ANY($2)

-- name: tasks
-- Of which tasks these runs are.
SELECT id, task_id FROM run WHERE id = ANY($1)

-- name: open_ancestors
-- How many runs in a row, from $1 upwards, have not ended; counted up to $2.
WITH RECURSIVE up (parent_id, number) AS (
    SELECT parent_id, 1 FROM run WHERE id = $1 AND ended_as IS NULL
    UNION ALL
    SELECT run.parent_id, up.number + 1 FROM up JOIN run ON run.id = ANY(ARRAY[up.parent_id])
    WHERE run.ended_as IS NULL AND up.number < $2
)
SELECT coalesce(max(number), 0) FROM up

-- name: share
-- The same, holding off a cancel until the new children are committed.
SELECT id, status, root_id, depth FROM run WHERE environment_id = $1 AND id = ANY($2) ORDER BY depth, id FOR SHARE

-- name: lock
-- Locks runs in the house order.
SELECT id, environment_id, task_id, queue, status, parent_id, depth, attempt, attempt_open, max_attempts, crashes,
       crash_length, lease_epoch, worker_id, left_by, ttl, cancel_grace,
       EXISTS (SELECT FROM permit WHERE permit.run_id = run.id OFFSET 0) AS has_permits
FROM run WHERE id = ANY($1) ORDER BY depth, id FOR NO KEY UPDATE

-- name: lock_free
-- The same, passing over runs that somebody else has: what time does can be done a moment later.
SELECT id, environment_id, task_id, queue, status, parent_id, depth, attempt, attempt_open, max_attempts, crashes,
       crash_length, lease_epoch, worker_id, left_by, ttl, cancel_grace,
       EXISTS (SELECT FROM permit WHERE permit.run_id = run.id OFFSET 0) AS has_permits
FROM run WHERE id = ANY($1) ORDER BY depth, id FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_family
-- Locks runs that are about to end, together with whoever may wait for them: their parents, and forks that adopted them.
WITH ending AS MATERIALIZED (SELECT parent_id, spawn_key FROM run WHERE id = ANY($1) OFFSET 0)
SELECT id, environment_id, task_id, queue, status, parent_id, depth, attempt, attempt_open, max_attempts, crashes,
       crash_length, lease_epoch, worker_id, left_by, ttl, cancel_grace,
       EXISTS (SELECT FROM permit WHERE permit.run_id = run.id OFFSET 0) AS has_permits
FROM run
WHERE id = ANY(ARRAY(
    SELECT unnest($1::text[])
    UNION SELECT ending.parent_id FROM ending WHERE ending.parent_id IS NOT NULL
    UNION SELECT adoption.run_id FROM ending JOIN adoption
          ON adoption.parent_id = ANY(ARRAY[ending.parent_id]) AND adoption.spawn_key = ending.spawn_key))
ORDER BY depth, id FOR NO KEY UPDATE

-- name: open_children
-- Children of these runs that have not ended and go with them.
SELECT id FROM run WHERE open_child_of = ANY($1) AND NOT abandoned

-- name: suspend
-- executing -> waiting. Arrays: $1 run, $2 epoch.
WITH f AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS f (id, epoch)
), ended AS (
    DELETE FROM lease USING f WHERE lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch RETURNING lease.*
)
UPDATE run SET status = 'waiting', worker_id = NULL, left_by = 'suspend', updated_at = clock_timestamp(),
               executed = executed + extract(epoch FROM clock_timestamp() - ended.claimed_at)
FROM ended WHERE run.id = ANY(ARRAY[ended.run_id]) AND run.status = 'executing' AND run.lease_epoch = ended.epoch
RETURNING run.id

-- name: release
-- executing -> queued, as if nothing had been. Arrays: $1 run, $2 epoch.
WITH f AS (SELECT * FROM unnest($1::text[], $2::integer[]) AS f (id, epoch)
), ended AS (
    DELETE FROM lease USING f WHERE lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch RETURNING lease.*
)
UPDATE run SET status = 'queued', worker_id = NULL, left_by = 'release', updated_at = clock_timestamp(),
               executed = executed + extract(epoch FROM clock_timestamp() - ended.claimed_at)
FROM ended WHERE run.id = ANY(ARRAY[ended.run_id]) AND run.status = 'executing' AND run.lease_epoch = ended.epoch
RETURNING run.id

-- name: rescue
-- executing -> queued, with the next epoch: what the old owner still writes is void. Arrays: $1 run, $2 epoch, $3 crashes,
-- $4 length of the journal.
WITH f AS (SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[]) AS f (id, epoch, crashes, length)
), ended AS (
    DELETE FROM lease USING f WHERE lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch
    RETURNING lease.*, f.crashes, f.length
)
UPDATE run SET status = 'queued', worker_id = NULL, left_by = 'rescue', lease_epoch = lease_epoch + 1,
               crashes = ended.crashes, crash_length = ended.length, updated_at = clock_timestamp(),
               executed = executed + extract(epoch FROM least(clock_timestamp(), ended.expires_at) - ended.claimed_at)
FROM ended WHERE run.id = ANY(ARRAY[ended.run_id]) AND run.status = 'executing' AND run.lease_epoch = ended.epoch
RETURNING run.id

-- name: retry
-- executing -> waiting, for another attempt or for the same again after a crash. Arrays: $1 run, $2 epoch, $3 whether the
-- attempt goes on, $4 crashes, $5 length of the journal at the last crash.
WITH f AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::boolean[], $4::integer[], $5::integer[])
                  AS f (id, epoch, attempt_open, crashes, length)
), ended AS (
    DELETE FROM lease USING f WHERE lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch
    RETURNING lease.*, f.attempt_open, f.crashes, f.length
)
UPDATE run SET status = 'waiting', worker_id = NULL, left_by = 'finish', attempt_open = ended.attempt_open,
               crashes = ended.crashes, crash_length = ended.length, updated_at = clock_timestamp(),
               executed = executed + extract(epoch FROM clock_timestamp() - ended.claimed_at)
FROM ended WHERE run.id = ANY(ARRAY[ended.run_id]) AND run.status = 'executing' AND run.lease_epoch = ended.epoch
RETURNING run.id

-- name: finish
-- executing -> completed, failed or canceled. Arrays: $1 run, $2 epoch, $3 status, $4 output, $5 its type, $6 failure,
-- $7 crashes, $8 error group; $9 the verb.
WITH ended AS (
    DELETE FROM lease
    USING unnest($1::text[], $2::integer[], $3::text[], $4::bytea[], $5::text[], $6::jsonb[], $7::integer[], $8::text[])
          AS f (id, epoch, status, output, output_type, failure, crashes, error_group)
    WHERE lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch
    RETURNING f.*, lease.claimed_at, lease.expires_at
), settled AS (DELETE FROM cancel_on USING ended WHERE cancel_on.run_id = ANY(ARRAY[ended.id])
)
UPDATE run SET status = ended.status, output = ended.output, output_type = ended.output_type, failure = ended.failure,
               crashes = ended.crashes, error_group = ended.error_group, worker_id = NULL, left_by = $9,
               attempt_open = false,
               finished_at = clock_timestamp(), updated_at = clock_timestamp(),
               executed = executed + extract(epoch FROM least(clock_timestamp(), ended.expires_at) - ended.claimed_at)
FROM ended
WHERE run.id = ANY(ARRAY[ended.id]) AND run.status = 'executing' AND run.lease_epoch = ended.epoch
RETURNING run.id

-- name: complete
-- The usual end, as a transaction by itself: executing -> completed, with all that goes with it, for runs without a
-- parent, for whom nobody waits, and that nobody canceled. Locks them in the order of the arrays, which is that of their
-- ids. A lease is ended only under its run's lock, so the one that is read here is still there. Returns the runs that it
-- ended, with their tasks; others are as they were; the environments in which a slot came free that somebody may wait for;
-- and the tasks of which attempts had failed before, with their environments. $1 worker; arrays: $2 run, $3 epoch, $4 type
-- of its output; $5 all outputs, of which each one begins at $6 and has $7 bytes.
WITH done AS (
    UPDATE run SET status = 'completed', output = substring($5::bytea FROM f.begins FOR f.length),
                   output_type = f.output_type, worker_id = NULL,
                   left_by = 'finish', attempt_open = false, finished_at = clock_timestamp(),
                   updated_at = clock_timestamp(),
                   executed = executed + extract(epoch FROM least(clock_timestamp(), lease.expires_at) - claimed_at)
    FROM unnest($2::text[], $3::integer[], $4::text[], $6::integer[], $7::integer[])
         AS f (id, epoch, output_type, begins, length)
    JOIN lease ON lease.run_id = ANY(ARRAY[f.id]) AND lease.epoch = f.epoch
    WHERE run.id = ANY(ARRAY[f.id]) AND run.status = 'executing' AND run.lease_epoch = f.epoch AND run.worker_id = $1
      AND run.parent_id IS NULL AND run.cancel_grace IS NULL
      AND NOT EXISTS (SELECT FROM permit WHERE permit.run_id = run.id OFFSET 0)
    RETURNING run.id, run.environment_id, run.queue, run.task_id, run.attempt
), freed AS (
    DELETE FROM lease USING done WHERE lease.run_id = ANY(ARRAY[done.id])
), settled AS (
    DELETE FROM cancel_on USING done WHERE cancel_on.run_id = ANY(ARRAY[done.id])
), tried AS (
    UPDATE attempt SET outcome = 'completed', ended_at = clock_timestamp()
    FROM done WHERE attempt.run_id = ANY(ARRAY[done.id]) AND attempt.number = done.attempt AND attempt.outcome = 'open'
), told AS (
    INSERT INTO event (run_id, kind, data) SELECT id, 'completed', jsonb_build_object('attempt', attempt) FROM done
)
SELECT id, task_id, ARRAY(
    SELECT slot.environment_id FROM (SELECT DISTINCT environment_id, queue, task_id FROM done) AS slot
    JOIN queue ON queue.environment_id = slot.environment_id AND queue.name = slot.queue
    JOIN environment ON environment.id = slot.environment_id
    JOIN task ON task.environment_id = slot.environment_id AND task.id = slot.task_id
    WHERE queue.limited OR environment.concurrency_limit IS NOT NULL
       OR coalesce(task.concurrency_override, task.concurrency_limit) IS NOT NULL) AS freed,
    (SELECT array_agg(ARRAY[task.environment_id, task.id]) FROM (SELECT DISTINCT environment_id, task_id FROM done) AS mine
     JOIN task ON task.environment_id = ANY(ARRAY[mine.environment_id]) AND task.id = ANY(ARRAY[mine.task_id])
     WHERE task.failed_in_row > 0) AS recovered
FROM done

-- name: cancel
-- Any status that is not terminal -> canceled, with all that could wake it. Deleting the lease waits for journal writes
-- under way; after this statement there are no new children. $1 runs, $2 reason, $3 the verb.
WITH queued AS (DELETE FROM ready WHERE run_id = ANY($1)
), put_off AS (DELETE FROM delayed WHERE run_id = ANY($1)
), waiting AS (DELETE FROM wait WHERE run_id = ANY($1)
), settled AS (DELETE FROM cancel_on WHERE run_id = ANY($1)
), held AS (DELETE FROM lease WHERE run_id = ANY($1) RETURNING run_id, claimed_at)
UPDATE run SET status = 'canceled', cancel_reason = coalesce($2, cancel_reason), worker_id = NULL, attempt_open = false,
               left_by = CASE WHEN status = 'executing' THEN $3 ELSE left_by END, cancel_deadline = NULL,
               finished_at = clock_timestamp(), updated_at = clock_timestamp(),
               executed = executed + coalesce((
                   SELECT extract(epoch FROM clock_timestamp() - claimed_at) FROM held WHERE held.run_id = run.id), 0)
WHERE id = ANY($1) AND ended_as IS NULL
RETURNING id

-- name: request_cancel
-- From now on these runs end as canceled. Arrays: $1 run, $2 seconds of grace; $3 reason, $4 seconds beyond the grace.
WITH settled AS (DELETE FROM cancel_on WHERE run_id = ANY($1))
UPDATE run SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), cancel_grace = f.grace,
               cancel_reason = coalesce(cancel_reason, $3), updated_at = clock_timestamp(),
               cancel_deadline = CASE WHEN status = 'executing'
                                      THEN clock_timestamp() + make_interval(secs => f.grace + $4) END
FROM unnest($1::text[], $2::double precision[]) AS f (id, grace)
WHERE run.id = ANY(ARRAY[f.id]) AND ended_as IS NULL
RETURNING run.id

-- name: canceling
-- Which of these executing runs are to be canceled, and the seconds that they have for it.
SELECT id, cancel_grace FROM run WHERE id = ANY($1) AND status = 'executing' AND cancel_grace IS NOT NULL

-- name: cancel_overdue
-- Runs whose worker should have ended them long ago, at most $1 (null: all).
SELECT id FROM run
WHERE cancel_deadline <= clock_timestamp() AND ended_as IS NULL AND status = 'executing'
ORDER BY cancel_deadline LIMIT $1

-- name: next_cancel_overdue
-- Seconds until the next of them, null: none.
SELECT extract(epoch FROM min(cancel_deadline) - clock_timestamp())::double precision FROM run
WHERE cancel_deadline IS NOT NULL AND ended_as IS NULL AND status = 'executing'

-- name: note_undoing
-- What a run that ended could not undo, and the error group of that (null: all is undone). One that failed too is in
-- another group than those that only failed.
UPDATE run SET not_undone = $2,
               error_group = CASE WHEN $3::text IS NULL OR error_group IS NULL THEN coalesce(error_group, $3)
                                  ELSE 'err_' || left(md5(error_group || $3), 20) END
WHERE id = $1

-- name: abandon
-- These children outlive a cancel of their parent.
UPDATE run SET abandoned = true WHERE id = ANY($1)

-- name: wake
-- waiting -> queued.
WITH over AS (DELETE FROM wait WHERE run_id = ANY($1))
UPDATE run SET status = 'queued', updated_at = clock_timestamp()
WHERE id = ANY($1) AND status = 'waiting' RETURNING id

-- name: promote
-- delayed -> queued.
WITH over AS (DELETE FROM delayed WHERE run_id = ANY($1))
UPDATE run SET status = 'queued', updated_at = clock_timestamp()
WHERE id = ANY($1) AND status = 'delayed' RETURNING id

-- name: expire
-- queued -> expired, if it never began and its time is over.
WITH moved AS (
    UPDATE run SET status = 'expired', finished_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id = ANY($1) AND status = 'queued' AND attempt = 0 AND expires_at <= clock_timestamp() RETURNING id
), settled AS (DELETE FROM cancel_on USING moved WHERE cancel_on.run_id = moved.id)
SELECT id FROM moved

-- name: reschedule
-- delayed or queued -> delayed, if it never began. $2 seconds from now, or else $3 seconds since the epoch.
UPDATE run SET status = 'delayed', updated_at = clock_timestamp(),
               delayed_until = coalesce(clock_timestamp() + make_interval(secs => $2), to_timestamp($3)),
               expires_at = coalesce(clock_timestamp() + make_interval(secs => $2), to_timestamp($3))
                            + make_interval(secs => ttl)
WHERE id = $1 AND status IN ('delayed', 'queued') AND attempt = 0
    AND NOT EXISTS (SELECT FROM held WHERE held.run_id = run.id)  -- it waits for its turn, not for a time
RETURNING delayed_until

-- name: set_metadata
-- Replaces metadata documents of executing runs. Arrays: $2 run, $3 epoch, $4 document; $1 worker.
UPDATE run SET metadata = f.metadata, updated_at = clock_timestamp()
FROM unnest($2::text[], $3::integer[], $4::bytea[]) AS f (id, epoch, metadata)
WHERE run.id = ANY(ARRAY[f.id]) AND run.status = 'executing' AND run.lease_epoch = f.epoch AND run.worker_id = $1
RETURNING run.id

-- name: replace_metadata
-- Sets a run's metadata document from outside.
UPDATE run SET metadata = $2, updated_at = clock_timestamp() WHERE id = $1

-- name: set_tags
-- Sets a run's tags.
UPDATE run SET tags = $2, updated_at = clock_timestamp() WHERE id = $1

-- name: inherit
-- A fork $1 with a part of $2's journal keeps what replaying that part depends on: when it began, and its randomness.
UPDATE run SET started_at = source.started_at, seed = coalesce(source.seed, source.id)
FROM run AS source WHERE run.id = $1 AND source.id = $2

-- name: review
-- Takes runs off the dead letters: those that failed, or that could not undo what they did, and that are on the list.
UPDATE run SET reviewed_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = ANY($1) AND reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}')
RETURNING id
