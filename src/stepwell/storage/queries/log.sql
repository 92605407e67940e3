-- name: writable
-- Which of these writers may still add lines: the last lease of the run was theirs, and it was not taken away. Arrays:
-- $2 run, $3 epoch; $1 worker's environment is asked through its own row.
SELECT run.id, run.lease_epoch AS epoch FROM run
JOIN unnest($2::text[], $3::integer[]) AS f (id, epoch) ON run.id = ANY(ARRAY[f.id]) AND run.lease_epoch = f.epoch
WHERE (run.worker_id = $1 OR run.left_by IN ('finish', 'suspend', 'release'))
  AND EXISTS (SELECT FROM worker WHERE worker.id = $1 AND worker.environment_id = run.environment_id OFFSET 0)

-- name: append
-- Adds lines; one that is there already stays.
INSERT INTO run_log (run_id, attempt, at, level, stream, logger, step, message, attributes, digest)
SELECT * FROM unnest($1::text[], $2::integer[], $3::double precision[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::jsonb[], $10::bytea[])
ON CONFLICT (run_id, digest) DO NOTHING

-- name: of_run
-- A page of a run's lines: those after $2, at most $3.
SELECT seq, attempt, at, level, stream, logger, step, message, attributes
FROM run_log WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
