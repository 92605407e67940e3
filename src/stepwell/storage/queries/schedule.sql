-- name: upsert
-- Makes a schedule, or changes the one with the same key. A paused one stays paused, without anything to look at.
-- $1 id, $2 environment, $3 key, $4 task, $5 origin, $6 declaration, $7 next tick, $8 when it is due.
INSERT INTO schedule (id, environment_id, key, task_id, origin, declaration, next_tick, look_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (environment_id, key) DO UPDATE
SET task_id = excluded.task_id, origin = excluded.origin, declaration = excluded.declaration,
    next_tick = excluded.next_tick, buffered = NULL, updated_at = clock_timestamp(),
    look_at = CASE WHEN schedule.active THEN excluded.look_at END
RETURNING *, (xmax = 0) AS made

-- name: lock_declared
-- The schedules that the code of these tasks declared, locked in order.
SELECT * FROM schedule WHERE environment_id = $1 AND task_id = ANY($2) AND origin = 'code' ORDER BY id FOR NO KEY UPDATE

-- name: by_key
-- The schedule with this key.
SELECT * FROM schedule WHERE environment_id = $1 AND key = $2 FOR NO KEY UPDATE

-- name: lock
-- One schedule, locked.
SELECT * FROM schedule WHERE environment_id = $1 AND id = $2 FOR NO KEY UPDATE

-- name: one
-- One schedule.
SELECT * FROM schedule WHERE environment_id = $1 AND id = $2

-- name: page
-- A page of schedules, newest first, with how many there are. $2 tasks, $3 rows, $4 rows before.
SELECT *, count(*) OVER () AS total FROM schedule
WHERE environment_id = $1 AND ($2::text[] IS NULL OR task_id = ANY($2))
ORDER BY created_at DESC, id LIMIT $3 OFFSET $4

-- name: count
-- How many schedules there are. $2 tasks.
SELECT count(*) FROM schedule WHERE environment_id = $1 AND ($2::text[] IS NULL OR task_id = ANY($2))

-- name: delete
-- Removes schedules and the record of their ticks; runs stay.
DELETE FROM schedule WHERE id = ANY($1)

-- name: set_active
-- Pauses or resumes. $1 id, $2 why it is paused (null: it is active), $3 next tick, $4 when it is due.
UPDATE schedule SET active = $2::text IS NULL, paused_because = $2, next_tick = $3, look_at = $4, buffered = NULL,
                    updated_at = clock_timestamp()
WHERE id = $1 RETURNING *

-- name: due
-- Schedules with something to do, the longest due first; none that another server is at.
SELECT schedule.*, run.ended_as IS NULL AND run.id IS NOT NULL AS busy
FROM schedule LEFT JOIN run ON run.id = schedule.last_run_id
WHERE look_at <= extract(epoch FROM clock_timestamp())
ORDER BY look_at LIMIT $1
FOR NO KEY UPDATE OF schedule SKIP LOCKED

-- name: next_due
-- Seconds until the next schedule is due, null: none.
SELECT min(look_at) - extract(epoch FROM clock_timestamp())::double precision FROM schedule WHERE look_at IS NOT NULL

-- name: record
-- Records ticks. A second record of one would be a second run: it breaks the transaction. Arrays: $1 schedule, $2 tick,
-- $3 outcome, $4 run, $5 reason, $6 until.
INSERT INTO tick (schedule_id, at, outcome, run_id, reason, until)
SELECT * FROM unnest($1::text[], $2::double precision[], $3::text[], $4::text[], $5::text[], $6::double precision[])

-- name: known
-- Which of these ticks are recorded. Arrays: $1 schedule, $2 tick.
SELECT tick.schedule_id, tick.at
FROM tick JOIN unnest($1::text[], $2::double precision[]) AS f (schedule_id, at)
     ON f.schedule_id = tick.schedule_id AND f.at = tick.at

-- name: recorded
-- Which of these ticks have a run. $1 schedule, $2 from, $3 to.
SELECT at FROM tick WHERE schedule_id = $1 AND at BETWEEN $2 AND $3 AND outcome = 'triggered'

-- name: forget
-- Removes the record of ticks that had no run, so that they can have one. $1 schedule, $2 ticks.
DELETE FROM tick WHERE schedule_id = $1 AND at = ANY($2) AND outcome <> 'triggered'

-- name: go_on
-- Moves schedules on. Arrays: $1 id, $2 next tick, $3 last tick, $4 buffered, $5 look at, $6 last run.
UPDATE schedule SET next_tick = f.next_tick, last_tick = f.last_tick, buffered = f.buffered, look_at = f.look_at,
                    last_run_id = coalesce(f.last_run_id, schedule.last_run_id)
FROM unnest($1::text[], $2::double precision[], $3::double precision[], $4::double precision[], $5::double precision[],
            $6::text[]) AS f (id, next_tick, last_tick, buffered, look_at, last_run_id)
WHERE schedule.id = f.id

-- name: ticks
-- The newest ticks of a schedule before $2, with how their runs ended.
SELECT tick.schedule_id, tick.at, tick.outcome, tick.run_id, tick.reason, tick.until
FROM tick WHERE schedule_id = $1 AND ($2::double precision IS NULL OR at < $2) ORDER BY at DESC LIMIT $3

-- name: failing
-- Which of these schedules have had nothing but failures since they were made, changed or resumed: their last so many
-- ended runs all failed. Arrays: $1 schedule, $2 how many.
SELECT f.id
FROM unnest($1::text[], $2::integer[]) AS f (id, many)
CROSS JOIN LATERAL (
    SELECT count(*) AS ended, count(*) FILTER (WHERE ended_as = 'failed') AS failed
    FROM (SELECT run.ended_as FROM tick JOIN run ON run.id = tick.run_id
                     JOIN schedule ON schedule.id = tick.schedule_id
          WHERE tick.schedule_id = f.id AND run.ended_as IS NOT NULL AND tick.created_at >= schedule.updated_at
          ORDER BY tick.at DESC LIMIT f.many) AS latest
) AS record
WHERE record.ended = f.many AND record.failed = f.many
