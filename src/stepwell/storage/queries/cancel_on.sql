-- name: insert
-- What cancels runs from now on. $1 environment. Arrays: $2 run, $3 place, $4 event, $5 match.
INSERT INTO cancel_on (environment_id, run_id, place, name, match)
SELECT $1, c.* FROM unnest($2::text[], $3::integer[], $4::text[], $5::jsonb[]) AS c (run_id, place, name, match)

-- name: fitting
-- Which events cancel which runs. $1 environment. Arrays: $2 name, $3 fields; $4 runs, null: of all. However many runs an
-- event does not mean: of each combination of fields by which runs are matched it is asked what it has there, and those
-- with just that are found by the index.
SELECT DISTINCT event.place::integer - 1 AS place, meant.run_id
FROM unnest($2::text[], $3::jsonb[]) WITH ORDINALITY AS event (name, fields, place)
CROSS JOIN LATERAL (
    WITH RECURSIVE known (shape, match) AS (
        (SELECT shape, match FROM cancel_on WHERE environment_id = $1 AND name = event.name ORDER BY shape LIMIT 1)
        UNION ALL
        SELECT next.* FROM known CROSS JOIN LATERAL (
            SELECT shape, match FROM cancel_on
            WHERE environment_id = $1 AND name = event.name AND cancel_on.shape > known.shape ORDER BY shape LIMIT 1
        ) AS next
    )
    SELECT known.shape, said.match FROM known CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(path, event.fields #> string_to_array(path, '.')), '{}') AS match
        FROM jsonb_object_keys(known.match) AS path
        HAVING coalesce(bool_and(event.fields #> string_to_array(path, '.') IS NOT NULL), true)
    ) AS said
) AS asked
CROSS JOIN LATERAL (
    SELECT run_id FROM cancel_on
    WHERE environment_id = $1 AND name = event.name AND shape = asked.shape
      AND digest = jsonb_hash_extended(asked.match, 0) AND match = asked.match
      AND ($4::text[] IS NULL OR run_id = ANY($4))
    OFFSET 0
) AS meant
ORDER BY 1, 2
