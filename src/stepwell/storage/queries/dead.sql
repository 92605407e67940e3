-- name: page
-- A page of dead letters, newest first. $2 tasks, $3 groups, $4 older than this run, $5 rows.
SELECT * FROM run_summary
WHERE environment_id = $1 AND reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}')
  AND ($2::text[] IS NULL OR task_id = ANY($2))
  AND ($3::text[] IS NULL OR error_group = ANY($3))
  AND ($4::text IS NULL OR number < (SELECT number FROM run WHERE environment_id = $1 AND id = $4))
ORDER BY number DESC LIMIT $5

-- name: numbers
-- Dead letters in the order of their making, without a look at them. $2 tasks, $3 groups, $4 ids, $5 after and $6 up to
-- this number (null: any), $7 rows.
SELECT id, number FROM run
WHERE environment_id = $1 AND reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}')
  AND ($2::text[] IS NULL OR task_id = ANY($2))
  AND ($3::text[] IS NULL OR error_group = ANY($3))
  AND ($4::text[] IS NULL OR id = ANY($4))
  AND ($5::bigint IS NULL OR number > $5)
  AND ($6::bigint IS NULL OR number <= $6)
ORDER BY number LIMIT $7

-- name: newest
-- The number of the newest run, before which a redrive of many looks for dead letters.
SELECT coalesce(max(number), 0) FROM run WHERE environment_id = $1

-- name: still
-- Which of these locked runs are on the list.
SELECT id FROM run
WHERE environment_id = $1 AND id = ANY($2) AND reviewed_at IS NULL
  AND (ended_badly_as = 'failed' OR not_undone <> '{}')

-- name: groups
-- A page of the groups of dead letters, the last seen first, each with its newest run. $2 tasks, $3 groups, $4 rows,
-- $5 rows before.
WITH alike AS (
    SELECT error_group AS name, count(*) AS amount, min(finished_at) AS first_seen, max(finished_at) AS last_seen,
           max(number) AS newest, array_agg(DISTINCT task_id) AS task_ids
    FROM run
    WHERE environment_id = $1 AND reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}')
      AND ($2::text[] IS NULL OR task_id = ANY($2))
      AND ($3::text[] IS NULL OR error_group = ANY($3))
    GROUP BY error_group
)
SELECT alike.*, run.id AS newest_id, run.failure, run.not_undone, count(*) OVER () AS total
FROM alike JOIN run ON run.environment_id = $1 AND run.number = alike.newest
ORDER BY alike.last_seen DESC, alike.newest DESC LIMIT $4 OFFSET $5
