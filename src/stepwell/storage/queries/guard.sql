-- name: declare
-- Makes guards that are not there. Arrays: $1 environment, $2 kind, $3 name, $4 amount, $5 period, $6 cool-down, $7 task.
INSERT INTO guard (environment_id, kind, name, amount, period, cool_down, task_id)
SELECT DISTINCT ON (environment_id, kind, name) environment_id, kind, name, amount, period, cool_down, task_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::double precision[], $5::double precision[], $6::double precision[],
            $7::text[]) AS g (environment_id, kind, name, amount, period, cool_down, task_id)
ORDER BY environment_id, kind, name
ON CONFLICT (environment_id, kind, name) DO NOTHING

-- name: lock
-- Locks guards before anybody decides by them, in order. Arrays: $1 environment, $2 kind, $3 name.
SELECT guard.*
FROM guard JOIN unnest($1::text[], $2::text[], $3::text[]) AS g (environment_id, kind, name)
     USING (environment_id, kind, name)
ORDER BY environment_id, kind, name FOR NO KEY UPDATE OF guard

-- name: clock
-- What time it is, once the locks are held.
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: update
-- What became of a locked guard. $4 amount, $5 period, $6 cool-down, $7 task, $8 full, $9 failures, $10 opened, $11 probing.
UPDATE guard SET amount = $4, period = $5, cool_down = $6, task_id = $7, full_at = $8, failures = $9, opened_at = $10,
                 probing_since = $11, updated_at = clock_timestamp()
WHERE environment_id = $1 AND kind = $2 AND name = $3

-- name: list
-- All guards of a kind, with how many permits are held and waited for.
SELECT guard.*, extract(epoch FROM clock_timestamp())::double precision AS now, counted.held, counted.waiting
FROM guard
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE granted_at IS NOT NULL) AS held,
           count(*) FILTER (WHERE granted_at IS NULL AND refusal IS NULL) AS waiting
    FROM permit WHERE permit.environment_id = guard.environment_id AND permit.kind = guard.kind
                  AND permit.name = guard.name) AS counted
WHERE guard.environment_id = $1 AND guard.kind = $2
ORDER BY guard.name

-- name: remove
-- Forgets a guard.
DELETE FROM guard WHERE environment_id = $1 AND kind = $2 AND name = $3

-- name: starved
-- Semaphores with somebody waiting and a slot free: none, but for a moment.
SELECT environment_id, name FROM guard
WHERE kind = 'semaphore' AND EXISTS (
    SELECT FROM permit WHERE permit.environment_id = guard.environment_id AND permit.kind = 'semaphore'
                         AND permit.name = guard.name AND granted_at IS NULL AND refusal IS NULL)
  AND amount > (
    SELECT count(*) FROM permit WHERE permit.environment_id = guard.environment_id AND permit.kind = 'semaphore'
                                  AND permit.name = guard.name AND granted_at IS NOT NULL)
LIMIT $1
