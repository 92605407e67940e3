-- name: insert
-- Asks for permits; one that is there stays as it is. Arrays: $1 run, $2 key, $3 environment, $4 kind, $5 name, $6 weight,
-- $7 granted, $8 ask again, $9 refusal, $10 probe.
INSERT INTO permit (run_id, key, environment_id, kind, name, weight, granted_at, retry_at, refusal, probe)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::double precision[],
                     $7::double precision[], $8::double precision[], $9::text[], $10::boolean[])
ON CONFLICT (run_id, key) DO NOTHING

-- name: remove
-- Takes permits back. Arrays: $1 run, $2 key.
DELETE FROM permit USING unnest($1::text[], $2::text[]) AS p (run_id, key)
WHERE permit.run_id = p.run_id AND permit.key = p.key RETURNING permit.*

-- name: guards_of
-- The guards of which these runs have or want something.
SELECT DISTINCT environment_id, kind, name FROM permit WHERE run_id = ANY($1)

-- name: remove_all
-- Takes everything back from runs.
DELETE FROM permit WHERE run_id = ANY($1) RETURNING *

-- name: grant
-- Gives free slots of a locked semaphore $2 to those who wait longest.
UPDATE permit SET granted_at = extract(epoch FROM clock_timestamp())
FROM (
    SELECT waiting.run_id, waiting.key
    FROM guard
    CROSS JOIN LATERAL (
        SELECT run_id, key FROM permit
        WHERE permit.environment_id = $1 AND kind = 'semaphore' AND permit.name = $2
          AND granted_at IS NULL AND refusal IS NULL
        ORDER BY number
        LIMIT greatest(0, guard.amount::integer - (
            SELECT count(*)::integer FROM permit
            WHERE permit.environment_id = $1 AND kind = 'semaphore' AND permit.name = $2
              AND granted_at IS NOT NULL))) AS waiting
    WHERE guard.environment_id = $1 AND guard.kind = 'semaphore' AND guard.name = $2
) AS next
WHERE permit.run_id = next.run_id AND permit.key = next.key
RETURNING permit.run_id

-- name: hold
-- Whoever grants one of these meanwhile is waited for. Arrays: $1 run, $2 key.
SELECT permit.run_id FROM permit JOIN unnest($1::text[], $2::text[]) AS p (run_id, key)
       ON permit.run_id = p.run_id AND permit.key = p.key
ORDER BY permit.run_id, permit.key FOR SHARE OF permit

-- name: answers
-- How these stand. Arrays: $1 run, $2 key. No row: there is none.
SELECT permit.* FROM permit JOIN unnest($1::text[], $2::text[]) AS p (run_id, key)
       ON permit.run_id = p.run_id AND permit.key = p.key

-- name: of_guards
-- Who holds or waits for what of a kind, in the order of asking; $3: of one guard only.
SELECT * FROM permit WHERE environment_id = $1 AND kind = $2 AND ($3::text IS NULL OR name = $3)
ORDER BY name, number LIMIT $4

-- name: orphans
-- Runs that have ended and still hold something: none, but for a moment.
SELECT DISTINCT run_id FROM permit JOIN run ON run.id = ANY(ARRAY[permit.run_id]) WHERE run.ended_as IS NOT NULL LIMIT $1
