-- name: insert
-- Keeps messages; one whose id is there already stays as it is. $1 environment, $2 kind. Arrays: $3 id, $4 name, $5 run,
-- $6 data, $7 fields.
INSERT INTO message (environment_id, kind, id, name, run_id, data, fields, status)
SELECT $1, $2, m.*, CASE WHEN $2 = 'update' THEN 'pending' END
FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[], $7::jsonb[]) AS m (id, name, run_id, data, fields)
ON CONFLICT (environment_id, kind, id) DO NOTHING
RETURNING id

-- name: by_ids
-- Messages of a kind, and how many waits each has completed.
SELECT *, (SELECT count(*) FROM token WHERE awaits = message.kind AND message_name = message.name
           AND token.message_id = message.id AND token.environment_id = message.environment_id) AS received
FROM message WHERE environment_id = $1 AND kind = $2 AND id = ANY($3)

-- name: list
-- A page of messages, newest first. $2 kind, $3 name, $4 run, $5 older than this one, $6 rows.
SELECT *, (SELECT count(*) FROM token WHERE awaits = message.kind AND message_name = message.name
           AND token.message_id = message.id AND token.environment_id = message.environment_id) AS received
FROM message
WHERE environment_id = $1 AND kind = $2
  AND ($3::text IS NULL OR name = $3)
  AND ($4::text IS NULL OR run_id = $4)
  AND ($5::text IS NULL OR number < (SELECT number FROM message WHERE environment_id = $1 AND kind = $2 AND id = $5))
ORDER BY number DESC LIMIT $6

-- name: unread
-- How many messages a run has been sent that no wait of it has had.
SELECT count(*) FROM message
WHERE message.run_id = $1 AND NOT EXISTS (
    SELECT FROM token WHERE token.run_id = message.run_id AND awaits = message.kind AND message_id = message.id)

-- name: note_started
-- What tasks made of an event.
UPDATE message SET started = $3 WHERE environment_id = $1 AND kind = 'event' AND id = $2

-- name: note_canceled
-- How many runs events have canceled. $1 environment. Arrays: $2 event, $3 runs.
UPDATE message SET canceled = c.amount FROM unnest($2::text[], $3::integer[]) AS c (id, amount)
WHERE environment_id = $1 AND kind = 'event' AND message.id = c.id

-- name: prune
-- Forgets events that are older than so many seconds, at most $2.
DELETE FROM message WHERE (environment_id, kind, id) IN (
    SELECT environment_id, kind, id FROM message
    WHERE run_id IS NULL AND sent_at < statement_timestamp() - make_interval(secs => $1)
    ORDER BY sent_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id

-- name: add_topics
-- Makes what is to be locked. Arrays: $1 scope, $2 name.
INSERT INTO topic (scope, name) SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS t (scope, name)
ORDER BY 1, 2 ON CONFLICT DO NOTHING

-- name: share_topics
-- Holds off senders. Arrays: $1 scope, $2 name.
SELECT scope FROM topic WHERE (scope, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY scope, name FOR SHARE

-- name: lock_topics
-- Holds off everybody. Arrays: $1 scope, $2 name.
SELECT scope FROM topic WHERE (scope, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY scope, name FOR NO KEY UPDATE

-- name: prune_topics
-- Forgets topics that are a day old and that nobody has locked; who needs one makes it again.
DELETE FROM topic WHERE (scope, name) IN (
    SELECT scope, name FROM topic WHERE created_at < statement_timestamp() - interval '1 day'
    LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING scope

-- name: waiting_for_event
-- Open waits that this event fits, the one that began first of each run first; locked against their timeouts.
-- $1 environment, $2 name, $3 fields.
SELECT id, run_id FROM token
WHERE environment_id = $1 AND awaits = 'event' AND message_name = $2 AND status = 'waiting'
  AND NOT EXISTS (SELECT FROM jsonb_each(token.match) AS wanted (path, value)
                  WHERE $3::jsonb #> string_to_array(wanted.path, '.') IS DISTINCT FROM wanted.value)
ORDER BY number FOR NO KEY UPDATE

-- name: give
-- Completes locked waits with a message. $1 environment, $2 kind, $3 message, $4 tokens.
UPDATE token SET status = 'completed', message_id = message.id, closed_at = clock_timestamp(),
       output = convert_to(json_build_object('id', message.id, 'name', message.name,
                    'at', extract(epoch FROM message.sent_at)::double precision,
                    'data', convert_from(message.data, 'UTF8')::json)::text, 'UTF8')
FROM message
WHERE message.environment_id = $1 AND message.kind = $2 AND message.id = $3
  AND token.id = ANY($4) AND token.status = 'waiting'
RETURNING token.id, token.run_id

-- name: open_waits
-- A run's open waits for messages of a kind and name, in the order in which they began; locked. $1 run, $2 kind, $3 name.
SELECT id FROM token WHERE run_id = $1 AND awaits = $2 AND message_name = $3 AND status = 'waiting'
ORDER BY number FOR NO KEY UPDATE

-- name: first_event_for
-- The oldest event that fits a wait and that no wait of its run has had.
SELECT message.id FROM token JOIN message
    ON message.environment_id = token.environment_id AND message.run_id IS NULL AND message.name = token.message_name
   AND message.sent_at >= token.since
   AND NOT EXISTS (SELECT FROM jsonb_each(token.match) AS wanted (path, value)
                   WHERE message.fields #> string_to_array(wanted.path, '.') IS DISTINCT FROM wanted.value)
   AND NOT EXISTS (SELECT FROM token AS had
                   WHERE had.run_id = token.run_id AND had.awaits = 'event' AND had.message_id = message.id)
WHERE token.id = $1
ORDER BY message.sent_at, message.number LIMIT 1

-- name: first_for
-- The oldest signal or update to the run of this wait that none of its waits has had.
SELECT message.id FROM token JOIN message
    ON message.run_id = token.run_id AND message.kind = token.awaits AND message.name = token.message_name
   AND NOT EXISTS (SELECT FROM token AS had WHERE had.run_id = token.run_id AND had.awaits = token.awaits
                   AND had.message_id = message.id)
WHERE token.id = $1
ORDER BY message.number LIMIT 1

-- name: give_up
-- Waits that a run has ceased; what they had been given is free again. $1 run, $2 tokens.
UPDATE token SET status = 'canceled', message_id = NULL, output = NULL, closed_at = clock_timestamp()
WHERE run_id = $1 AND id = ANY($2) AND awaits IS NOT NULL AND status IN ('waiting', 'completed')
RETURNING awaits, message_name

-- name: subscribed
-- Kind and name of waits that a run is about to cease. $1 run, $2 tokens.
SELECT DISTINCT awaits, message_name FROM token WHERE run_id = $1 AND id = ANY($2) AND awaits IS NOT NULL

-- name: hold
-- Whoever gives one of these a message meanwhile is waited for.
SELECT id FROM token WHERE id = ANY($1) AND awaits IS NOT NULL ORDER BY id FOR SHARE

-- name: drop_triggers
-- Forgets what events start these tasks $2 beyond so many $3 (arrays).
DELETE FROM event_trigger USING unnest($2::text[], $3::integer[]) AS t (task_id, amount)
WHERE environment_id = $1 AND event_trigger.task_id = t.task_id AND place >= t.amount

-- name: add_triggers
-- What events start tasks. $1 environment. Arrays: $2 task, $3 place, $4 name, $5 match.
INSERT INTO event_trigger (environment_id, task_id, place, name, match)
SELECT $1, t.* FROM unnest($2::text[], $3::integer[], $4::text[], $5::jsonb[]) AS t (task_id, place, name, match)
ON CONFLICT (environment_id, task_id, place) DO UPDATE SET name = excluded.name, match = excluded.match
WHERE (event_trigger.name, event_trigger.match) IS DISTINCT FROM (excluded.name, excluded.match)

-- name: triggered_by
-- Tasks that an event starts. $1 environment, $2 name, $3 fields.
SELECT DISTINCT task_id FROM event_trigger
WHERE environment_id = $1 AND name = $2
  AND NOT EXISTS (SELECT FROM jsonb_each(event_trigger.match) AS wanted (path, value)
                  WHERE $3::jsonb #> string_to_array(wanted.path, '.') IS DISTINCT FROM wanted.value)
ORDER BY task_id

-- name: answer
-- pending -> accepted or refused. $1 environment, $2 run. Arrays: $3 id, $4 status, $5 answer.
UPDATE message SET status = r.status, answer = r.answer, answered_at = clock_timestamp()
FROM unnest($3::text[], $4::text[], $5::bytea[]) AS r (id, status, answer)
WHERE environment_id = $1 AND kind = 'update' AND message.id = r.id AND message.run_id = $2
  AND message.status = 'pending'
RETURNING message.id
