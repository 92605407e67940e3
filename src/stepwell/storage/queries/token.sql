-- name: insert
-- Makes tokens; one that is there stays as it is. Arrays: $1 id, $2 environment, $3 run, $4 key, $5 title, $6 data,
-- $7 answer schema, $8 tags, $9 seconds until it times out; for those that a message completes $10 kind, $11 name,
-- $12 match, $13 seconds before now since when events count, null: since the run was created. What is made for people is
-- announced (notice) in the same statement.
WITH made AS (
INSERT INTO token (id, environment_id, run_id, key, title, data, answer_schema, tags, timeout_at, awaits, message_name,
                   match, since)
SELECT id, environment_id, run_id, key, title, data, answer_schema, tags::text[],
       clock_timestamp() + make_interval(secs => timeout), awaits, message_name, match,
       CASE WHEN awaits = 'event' THEN coalesce(clock_timestamp() - make_interval(secs => since),
                                                (SELECT created_at FROM run WHERE run.id = t.run_id)) END
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::text[],
            $9::double precision[], $10::text[], $11::text[], $12::jsonb[], $13::double precision[])
     AS t (id, environment_id, run_id, key, title, data, answer_schema, tags, timeout, awaits, message_name, match, since)
ON CONFLICT (id) DO NOTHING
RETURNING id, environment_id, awaits)
INSERT INTO notice (id, environment_id, token_id, occasion)
SELECT 'new_' || id, environment_id, id, 'created' FROM made WHERE awaits IS NULL

-- name: free_key
-- Takes an idempotency key from a token whose claim to it is over.
UPDATE token SET idempotency_key = NULL, idempotency_expires_at = NULL
WHERE environment_id = $1 AND idempotency_key = $2 AND idempotency_expires_at <= clock_timestamp()

-- name: make
-- Makes a token from outside: $1 id, $2 environment, $3 title, $4 data, $5 answer schema, $6 tags, $7 seconds until it
-- times out, $8 idempotency key, $9 for so many seconds, $10 request. No row: one of the keys is another token's. What is
-- made is announced (notice) in the same statement.
WITH made AS (
INSERT INTO token (id, environment_id, title, data, answer_schema, tags, timeout_at, idempotency_key,
                   idempotency_expires_at, created_by_request)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7), $8,
        CASE WHEN $8::text IS NOT NULL THEN clock_timestamp() + make_interval(secs => $9) END, $10)
ON CONFLICT DO NOTHING
RETURNING *),
announced AS (
INSERT INTO notice (id, environment_id, token_id, occasion)
SELECT 'new_' || id, environment_id, id, 'created' FROM made)
SELECT * FROM made

-- name: by_key
-- The token that has this idempotency key $2, or that this request $3 made.
SELECT * FROM token WHERE environment_id = $1 AND (idempotency_key = $2 OR created_by_request = $3)
ORDER BY created_by_request = $3 DESC NULLS LAST LIMIT 1

-- name: close
-- waiting -> completed, timed_out or canceled: the one place where it happens. Arrays: $1 id; $2 status, $3 output,
-- $4 by whom, $5 the request.
UPDATE token SET status = $2, output = $3, completed_by = $4, closed_by_request = $5, closed_at = clock_timestamp()
WHERE id = ANY($1) AND status = 'waiting'
RETURNING id, run_id

-- name: one
-- One token; those that messages complete are nobody's to look at.
SELECT * FROM token WHERE environment_id = $1 AND id = $2 AND awaits IS NULL

-- name: linked
-- A token of whatever environment, for whoever holds the link to its page, and the task that asks.
SELECT token.*, run.task_id FROM token LEFT JOIN run ON run.id = token.run_id
WHERE token.id = $1 AND awaits IS NULL

-- name: by_ids
-- These tokens, of whatever environments.
SELECT * FROM token WHERE id = ANY($1)

-- name: environment_of
-- Where a token is.
SELECT environment_id FROM token WHERE id = $1 AND awaits IS NULL

-- name: closed_by_request
-- Which request closed the token.
SELECT closed_by_request FROM token WHERE id = $1

-- name: waiters
-- Runs that are suspended until one of these tokens is closed.
SELECT DISTINCT run_id FROM (SELECT run_id FROM wait WHERE token_id = ANY($1) OFFSET 0) AS waiting

-- name: overdue
-- Open tokens whose time is over.
SELECT id, run_id FROM token WHERE status = 'waiting' AND timeout_at <= clock_timestamp() ORDER BY timeout_at LIMIT $1

-- name: next_due
-- Seconds until the next token times out, null: none.
SELECT extract(epoch FROM min(timeout_at) - clock_timestamp())::double precision
FROM token WHERE status = 'waiting' AND timeout_at IS NOT NULL

-- name: orphans
-- Open tokens whose run has ended: nobody waits for them any more.
SELECT token.id FROM token JOIN run ON run.id = ANY(ARRAY[token.run_id])
WHERE token.status = 'waiting' AND token.run_id IS NOT NULL AND run.ended_as IS NOT NULL LIMIT $1

-- name: outcomes
-- How the tokens stand that these runs ask for; of another environment there are none. Arrays: $1 run, $2 token.
SELECT f.run_id, f.token_id, token.status, token.output, token.completed_by,
       extract(epoch FROM token.closed_at)::double precision AS closed_at
FROM unnest($1::text[], $2::text[]) AS f (run_id, token_id)
JOIN run ON run.id = ANY(ARRAY[f.run_id])
LEFT JOIN token ON token.id = ANY(ARRAY[f.token_id]) AND token.environment_id = ANY(ARRAY[run.environment_id])

-- name: list
-- A page of tokens. $2 statuses, $3 run, $4 idempotency key, $5 tags, $6 and $7 creation, $8 older than this one, $9 newer
-- than this one, $10 rows, $11 only those of which a notice was given up.
SELECT * FROM token
WHERE environment_id = $1 AND awaits IS NULL
  AND ($2::text[] IS NULL OR status = ANY($2))
  AND ($3::text IS NULL OR run_id = $3)
  AND ($4::text IS NULL OR idempotency_key = $4)
  AND ($5::text[] IS NULL OR tags && $5)
  AND ($6::timestamptz IS NULL OR created_at >= $6)
  AND ($7::timestamptz IS NULL OR created_at < $7)
  AND ($8::text IS NULL OR number < (SELECT number FROM token WHERE environment_id = $1 AND id = $8))
  AND ($9::text IS NULL OR number > (SELECT number FROM token WHERE environment_id = $1 AND id = $9))
  AND (NOT $11 OR EXISTS (SELECT FROM notice WHERE notice.token_id = token.id AND notice.outcome = 'failed'))
ORDER BY CASE WHEN $9::text IS NULL THEN number END DESC, CASE WHEN $9::text IS NOT NULL THEN number END
LIMIT $10
