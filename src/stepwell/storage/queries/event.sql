-- name: append
-- Records facts. Arrays: $1 run, $2 kind, $3 data.
INSERT INTO event (run_id, kind, data) SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])

-- name: of_run
-- A page of a run's events: those after $2, at most $3.
SELECT run_id, seq, at, kind, data FROM event WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
