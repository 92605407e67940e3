-- name: end
-- Ends attempts. Arrays: $1 run, $2 number, $3 outcome, $4 failure, $5 seconds until the next.
UPDATE attempt SET outcome = f.outcome, failure = f.failure, retry_after = f.retry_after, ended_at = clock_timestamp()
FROM unnest($1::text[], $2::integer[], $3::text[], $4::jsonb[], $5::double precision[])
     AS f (run_id, number, outcome, failure, retry_after)
WHERE attempt.run_id = ANY(ARRAY[f.run_id]) AND attempt.number = f.number AND attempt.outcome = 'open'

-- name: cancel
-- Ends the open attempts of these runs.
UPDATE attempt SET outcome = 'canceled', ended_at = clock_timestamp() WHERE run_id = ANY($1) AND outcome = 'open'

-- name: of_run
-- The attempts of a run, in order.
SELECT run_id, number, outcome, worker_id, started_at, ended_at, failure, retry_after
FROM attempt WHERE run_id = $1 ORDER BY number
