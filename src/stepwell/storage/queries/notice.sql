-- name: take_announced
-- Takes up to $1 announcements of new tokens out, skipping those that another server is at, with what decides on them.
DELETE FROM notice USING token, environment
WHERE notice.id IN (SELECT id FROM notice WHERE target IS NULL ORDER BY due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
  AND token.id = notice.token_id AND environment.id = notice.environment_id
RETURNING notice.id, notice.environment_id, notice.token_id, environment.slug, token.tags

-- name: insert
-- Adds notices to targets. An `expiring` one is due $6 seconds before its token times out, but not in the first half of
-- its time; a token that does not time out has none. Arrays: $1 id, $2 environment, $3 token, $4 occasion, $5 target.
INSERT INTO notice (id, environment_id, token_id, occasion, target, due_at)
SELECT n.id, n.environment_id, n.token_id, n.occasion, n.target,
       CASE n.occasion WHEN 'created' THEN clock_timestamp()
            ELSE greatest(token.timeout_at - make_interval(secs => $6),
                          token.created_at + (token.timeout_at - token.created_at) / 2) END
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
     AS n (id, environment_id, token_id, occasion, target)
JOIN token ON token.id = n.token_id
WHERE n.occasion = 'created' OR token.timeout_at IS NOT NULL
ON CONFLICT (token_id, occasion, target) DO NOTHING

-- name: claim
-- Takes up to $2 notices of target $1 that are due. If they are neither delivered nor failed within $3 seconds, because
-- whoever took them died, they are due again.
UPDATE notice SET tries = tries + 1, due_at = clock_timestamp() + make_interval(secs => $3)
WHERE id IN (SELECT id FROM notice WHERE target = $1 AND due_at <= clock_timestamp()
             ORDER BY due_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING *

-- name: close
-- Ends a notice, if the try with this number is still the last one. $1 id, $2 tries, $3 outcome, $4 problem.
UPDATE notice SET due_at = NULL, outcome = $3, problem = $4, ended_at = clock_timestamp()
WHERE id = $1 AND tries = $2 AND outcome IS NULL

-- name: postpone
-- Notes why a try failed, and tries again in $3 seconds. $1 id, $2 tries, $4 problem.
UPDATE notice SET due_at = clock_timestamp() + make_interval(secs => $3), problem = $4
WHERE id = $1 AND tries = $2 AND outcome IS NULL

-- name: next_due
-- Seconds until the next notice of target $1 is due, null: none.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision FROM notice
WHERE target = $1 AND due_at IS NOT NULL

-- name: next_announced
-- Seconds until the next announcement is to be looked at, negative if it is already there, null: none.
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision FROM notice WHERE target IS NULL

-- name: of_token
-- A token's notices, oldest first.
SELECT * FROM notice WHERE token_id = $1 AND target IS NOT NULL ORDER BY due_at NULLS FIRST, id
