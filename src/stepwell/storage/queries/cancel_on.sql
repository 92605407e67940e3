-- name: insert
-- What cancels runs from now on. $1 environment. Arrays: $2 run, $3 place, $4 event, $5 match.
INSERT INTO cancel_on (environment_id, run_id, place, name, match)
SELECT $1, c.* FROM unnest($2::text[], $3::integer[], $4::text[], $5::jsonb[]) AS c (run_id, place, name, match)

-- name: fitting
-- Which events cancel which runs. $1 environment. Arrays: $2 name, $3 fields; $4 runs, null: of all.
SELECT DISTINCT event.place::integer - 1 AS place, cancel_on.run_id
FROM unnest($2::text[], $3::jsonb[]) WITH ORDINALITY AS event (name, fields, place)
JOIN cancel_on ON cancel_on.environment_id = $1 AND cancel_on.name = event.name
WHERE ($4::text[] IS NULL OR cancel_on.run_id = ANY($4))
  AND NOT EXISTS (SELECT FROM jsonb_each(cancel_on.match) AS wanted (path, value)
                  WHERE event.fields #> string_to_array(wanted.path, '.') IS DISTINCT FROM wanted.value)
ORDER BY 1, 2
