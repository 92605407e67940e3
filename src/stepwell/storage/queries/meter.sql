-- name: load
-- What was used of rates. $1 environment; arrays: $2 queue, $3 key.
SELECT meter.queue, meter.key, full_at, moments, amounts
FROM unnest($2::text[], $3::text[]) AS f (queue, key)
JOIN meter ON meter.environment_id = $1 AND meter.queue = f.queue AND meter.key = f.key

-- name: store
-- Notes what is used of rates now, and forgets some that say nothing any more. $1 environment; arrays: $2 queue, $3 key,
-- $4 full_at, $5 and $6 texts of the arrays of the sliding window, $7 idle_at; $8 queues.
WITH idle AS (
    DELETE FROM meter WHERE ctid = ANY(ARRAY(
        SELECT old.ctid FROM unnest($8::text[]) AS f (queue)
        CROSS JOIN LATERAL (
            SELECT ctid FROM meter WHERE environment_id = $1 AND queue = f.queue
                AND idle_at < extract(epoch FROM statement_timestamp())::double precision - 60
            ORDER BY idle_at LIMIT 100
        ) AS old))
    AND idle_at < extract(epoch FROM statement_timestamp())::double precision - 60
    AND (queue, key) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))
)
INSERT INTO meter (environment_id, queue, key, full_at, moments, amounts, idle_at)
SELECT $1, queue, key, full_at, moments::double precision[], amounts::double precision[], idle_at
FROM unnest($2::text[], $3::text[], $4::double precision[], $5::text[], $6::text[], $7::double precision[])
     AS f (queue, key, full_at, moments, amounts, idle_at)
ON CONFLICT (environment_id, queue, key) DO UPDATE
SET full_at = excluded.full_at, moments = excluded.moments, amounts = excluded.amounts, idle_at = excluded.idle_at
