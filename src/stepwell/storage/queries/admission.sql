-- name: lock
-- Locks keys, also those that are new, in one order; what is known of them, and the time. Arrays: $2 task, $3 kind, $4 key;
-- $1 environment. `live`: somebody of the key waits for its turn.
WITH mine AS (
    INSERT INTO admission (environment_id, task_id, kind, key, look_at)
    SELECT $1, task_id, kind, key, extract(epoch FROM now()) + 60
    FROM unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, kind, key) ORDER BY task_id, kind, key
    ON CONFLICT (environment_id, task_id, kind, key) DO UPDATE SET look_at = admission.look_at
    RETURNING *
)
SELECT mine.*, extract(epoch FROM clock_timestamp())::double precision AS now FROM mine

-- name: waiting
-- Of these locked keys those with runs that wait for their turn. $1 environment; arrays: $2 task, $3 kind, $4 key.
SELECT f.task_id, f.kind, f.key FROM unnest($2::text[], $3::text[], $4::text[]) AS f (task_id, kind, key)
WHERE EXISTS (
    SELECT FROM held JOIN delayed ON delayed.run_id = held.run_id
    WHERE held.environment_id = $1 AND held.task_id = f.task_id AND held.kind = f.kind AND held.key = f.key
      AND held.collector_id IS NULL)

-- name: write
-- What is known of locked keys from now on. $1 environment; arrays: $2 task, $3 kind, $4 key, $5 run, $6 since, $7 until,
-- $8 marks, $9 size, $10 seconds after which to look whether it is useless.
UPDATE admission SET run_id = f.run_id, since = f.since, until = f.until, marks = f.marks::double precision[],
                     size = f.size, look_at = extract(epoch FROM now()) + f.look_after
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::double precision[], $7::double precision[], $8::text[],
            $9::integer[], $10::double precision[])
     AS f (task_id, kind, key, run_id, since, until, marks, size, look_after)
WHERE admission.environment_id = $1 AND admission.task_id = f.task_id AND admission.kind = f.kind
  AND admission.key = f.key

-- name: hold
-- Runs that were just stored wait for their turn. $1 environment, $2 kind; arrays: $3 run, $4 key.
WITH mine AS (
    SELECT run.id, run.task_id, run.number, f.key FROM unnest($3::text[], $4::text[]) AS f (id, key) JOIN run USING (id)
), unready AS (
    DELETE FROM ready WHERE run_id = ANY($3)
), put_off AS (
    INSERT INTO delayed (run_id, due_at) SELECT id, NULL FROM mine
    ON CONFLICT (run_id) DO UPDATE SET due_at = NULL
), noted AS (
    INSERT INTO held (run_id, environment_id, task_id, kind, key, number)
    SELECT id, $1, task_id, $2, key, number FROM mine
), known AS (
    UPDATE admission SET waiting = true FROM mine
    WHERE admission.environment_id = $1 AND admission.task_id = mine.task_id AND admission.kind = $2
      AND admission.key = mine.key AND NOT waiting
)
UPDATE run SET status = 'delayed' WHERE id = ANY($3) AND status = 'queued'

-- name: held_of
-- Who waits for its turn under a key, at most $5. $1 environment, $2 task, $3 kind, $4 key.
SELECT run_id FROM held
WHERE environment_id = $1 AND task_id = $2 AND kind = $3 AND key = $4 AND collector_id IS NULL ORDER BY number
LIMIT $5

-- name: let_go
-- These wait no longer.
DELETE FROM held WHERE run_id = ANY($1)

-- name: next_turns
-- Keys of singletons whose run has ended while others wait, at most $1.
SELECT admission.environment_id, admission.task_id, admission.key
FROM admission LEFT JOIN run ON run.id = admission.run_id
WHERE admission.waiting AND admission.kind = 'singleton' AND (run.id IS NULL OR run.ended_as IS NOT NULL)
LIMIT $1

-- name: anyone_waits
-- Whether runs may wait for the end of another, and the seconds until a batch is due.
SELECT EXISTS (SELECT FROM admission WHERE waiting AND kind <> 'batch')
           OR EXISTS (SELECT FROM held WHERE place = 0 AND NOT over) AS found,
       (SELECT min(until) FROM admission WHERE waiting AND kind = 'batch')
           - extract(epoch FROM clock_timestamp())::double precision AS due

-- name: lock_one
-- Locks one key: its run.
SELECT run_id FROM admission
WHERE environment_id = $1 AND task_id = $2 AND kind = $3 AND key = $4 FOR NO KEY UPDATE

-- name: pass_on
-- From now on this run, or none, stands for the key. $5 run; $6 whether others wait.
UPDATE admission SET run_id = $5, waiting = $6
WHERE environment_id = $1 AND task_id = $2 AND kind = $3 AND key = $4

-- name: push
-- Puts off runs that are delayed and due at a moment. Arrays: $1 run, $2 seconds since the epoch.
WITH f AS (SELECT * FROM unnest($1::text[], $2::double precision[]) AS f (id, due)
), moved AS (
    UPDATE delayed SET due_at = to_timestamp(f.due) FROM f WHERE delayed.run_id = ANY(ARRAY[f.id]) AND delayed.due_at IS NOT NULL
)
UPDATE run SET delayed_until = to_timestamp(f.due), updated_at = clock_timestamp(),
               expires_at = to_timestamp(f.due) + make_interval(secs => ttl)
FROM f WHERE run.id = ANY(ARRAY[f.id]) AND run.status = 'delayed'

-- name: take_payload
-- Gives delayed runs another trigger's payload; what canceled them by the old one does so no more. Arrays: $1 run,
-- $2 payload, $3 type, $4 metadata, $5 tags.
WITH settled AS (DELETE FROM cancel_on WHERE run_id = ANY($1))
UPDATE run SET payload = f.payload, payload_type = f.payload_type, metadata = coalesce(f.metadata, run.metadata),
               tags = f.tags::text[]
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[], $5::text[]) AS f (id, payload, payload_type, metadata, tags)
WHERE run.id = ANY(ARRAY[f.id]) AND run.status = 'delayed'

-- name: turn
-- A held run has its turn: it is due now, or when its own delay is over; whether it is now.
UPDATE delayed SET due_at = greatest(clock_timestamp(), run.delayed_until)
FROM run WHERE run.id = delayed.run_id AND delayed.run_id = $1
RETURNING due_at <= clock_timestamp()

-- name: forget
-- Deletes at most $1 keys that say nothing any more: their window is over, or their run has ended and nobody waits. The
-- others are looked at again in a minute.
WITH old AS (
    SELECT environment_id, task_id, kind, key FROM admission
    WHERE look_at <= extract(epoch FROM statement_timestamp())::double precision ORDER BY look_at LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM admission USING old
    WHERE (admission.environment_id, admission.task_id, admission.kind, admission.key)
          = (old.environment_id, old.task_id, old.kind, old.key)
      AND NOT admission.waiting
      AND (admission.kind NOT IN ('singleton', 'debounce')
           OR NOT EXISTS (SELECT FROM run WHERE run.id = admission.run_id AND run.ended_as IS NULL))
    RETURNING 1
), kept AS (
    UPDATE admission SET look_at = extract(epoch FROM now()) + 60 FROM old
    WHERE (admission.environment_id, admission.task_id, admission.kind, admission.key)
          = (old.environment_id, old.task_id, old.kind, old.key)
      AND (admission.waiting OR admission.kind IN ('singleton', 'debounce')
           AND EXISTS (SELECT FROM run WHERE run.id = admission.run_id AND run.ended_as IS NULL))
)
SELECT count(*) FROM old

-- name: due_batches
-- Keys of batches that are to be collected, at most $1.
SELECT environment_id, task_id, key FROM admission
WHERE waiting AND kind = 'batch' AND until <= extract(epoch FROM statement_timestamp())::double precision LIMIT $1

-- name: lock_batch
-- Locks the key of a batch; what is known of it, and the time. $1 environment, $2 task, $3 key.
SELECT since, until, size, waiting, extract(epoch FROM clock_timestamp())::double precision AS now
FROM admission WHERE environment_id = $1 AND task_id = $2 AND kind = 'batch' AND key = $3 FOR NO KEY UPDATE

-- name: payloads
-- What these runs were given, and when they were made.
SELECT id, payload, payload_type, extract(epoch FROM created_at)::double precision AS created_at
FROM run WHERE id = ANY($1)

-- name: collect
-- Waiting runs of a batch have a collector, $1. Arrays: $2 run, $3 place in its list.
UPDATE held SET collector_id = $1, place = f.place
FROM unnest($2::text[], $3::integer[]) AS f (run_id, place) WHERE held.run_id = f.run_id

-- name: write_batch
-- What is known of a locked batch from now on. $1 environment, $2 task, $3 key, $4 since, $5 until, $6 size.
UPDATE admission SET since = $4, until = $5, size = $6, waiting = $6 > 0,
                     look_at = greatest($5, extract(epoch FROM now())::double precision) + 60
WHERE environment_id = $1 AND task_id = $2 AND kind = 'batch' AND key = $3

-- name: ended_collectors
-- Collectors that have ended and whose members do not know yet, at most $1.
SELECT held.collector_id FROM held JOIN run ON run.id = held.collector_id
WHERE held.place = 0 AND NOT held.over AND run.ended_as IS NOT NULL LIMIT $1

-- name: members
-- The runs whose payloads a collector has, in their order.
SELECT run_id FROM held WHERE collector_id = $1 ORDER BY place

-- name: collector
-- The run that has the payload of this one.
SELECT collector_id FROM held WHERE run_id = $1

-- name: outcome
-- What came of a collector.
SELECT id, environment_id, status, output, output_type, failure, error_group, cancel_reason, started_at, not_undone
FROM run WHERE id = $1

-- name: share_out
-- delayed -> the end of their collector. Arrays: $1 run, $2 output; $3 its type, $4 status, $5 failure, $6 error group,
-- $7 why it was canceled, $8 when the collector began, $9 the collector.
WITH put_off AS (DELETE FROM delayed WHERE run_id = ANY($1)
), settled AS (DELETE FROM cancel_on WHERE run_id = ANY($1)
), told AS (UPDATE held SET over = true WHERE collector_id = $9 AND NOT over)
UPDATE run SET status = $4, output = f.output, output_type = CASE WHEN f.output IS NOT NULL THEN $3::text END,
               failure = $5, error_group = $6, cancel_reason = $7, started_at = $8, finished_at = clock_timestamp(),
               updated_at = clock_timestamp()
FROM unnest($1::text[], $2::bytea[]) AS f (id, output)
WHERE run.id = ANY(ARRAY[f.id]) AND run.status = 'delayed'
RETURNING run.id
