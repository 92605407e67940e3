-- name: detail
-- One run in full.
SELECT run_summary.*, run.payload, run.payload_type, run.output, run.output_type
FROM run_summary JOIN run USING (id) WHERE run_summary.environment_id = $1 AND id = $2

-- name: details
-- The same of several, in the order of their making.
SELECT run_summary.*, run.payload, run.payload_type, run.output, run.output_type
FROM run_summary JOIN run USING (id) WHERE run_summary.environment_id = $1 AND id = ANY($2) ORDER BY run_summary.number

-- name: summaries
-- These runs, in no order.
SELECT * FROM run_summary WHERE environment_id = $1 AND id = ANY($2)

-- name: children
-- The children of a run in the order of their making, at most $3.
SELECT * FROM run_summary WHERE environment_id = $1 AND parent_id = $2 ORDER BY number LIMIT $3

-- name: relatives
-- The first $3 children of a run, and the first $3 runs that were made from it by rerun, fork or redrive.
(SELECT * FROM run_summary WHERE environment_id = $1 AND parent_id = $2 ORDER BY number LIMIT $3)
UNION ALL
(SELECT * FROM run_summary WHERE environment_id = $1 AND forked_from = $2 ORDER BY number LIMIT $3)

-- name: origins
-- What a run was made from, and that from, and so on, the nearest first; at most $3.
WITH RECURSIVE origin AS (
    SELECT forked_from AS id, 1 AS distance FROM run WHERE environment_id = $1 AND id = $2
    UNION ALL
    SELECT run.forked_from, distance + 1 FROM origin JOIN run ON run.id = ANY(ARRAY[origin.id]) WHERE distance < $3
)
SELECT run_summary.* FROM origin JOIN run_summary USING (id) WHERE environment_id = $1 ORDER BY distance

-- name: spawns_under_way
-- Of these runs and keys, those under which a child has not ended: one probe of an index each, however many there are.
-- Arrays: $1 run, $2 key.
SELECT f.run_id, f.spawn_key
FROM unnest($1::text[], $2::text[]) AS f (run_id, spawn_key)
LEFT JOIN adoption ON adoption.run_id = f.run_id AND adoption.spawn_key = f.spawn_key
WHERE EXISTS (
    SELECT FROM run
    WHERE run.open_child_of = coalesce(adoption.parent_id, f.run_id) AND run.spawn_key = f.spawn_key OFFSET 0)

-- name: outcomes_of_children
-- How the children ended that run $1 triggered (or adopted) under each key of $2; open ones have no outcome yet. Of
-- each key a page: from child number $3 on, at most $4 of them, and none behind the one with which $5 bytes are full.
-- on_page: how many there are of the key, counted to one beyond $4. The sizes are read without the outputs.
SELECT * FROM (
    SELECT f.spawn_key, child.*, count(*) OVER spawn AS on_page,
           row_number() OVER in_order AS place, sum(child.size) OVER in_order - child.size AS before
    FROM unnest($2::text[]) AS f (spawn_key)
    LEFT JOIN adoption ON adoption.run_id = $1 AND adoption.spawn_key = f.spawn_key
    CROSS JOIN LATERAL (
        SELECT run.id, run.status, run.ended_as, run.child_index, run.output, run.output_type, run.failure, run.ttl,
               run.queue, coalesce(octet_length(run.output), 0) + coalesce(pg_column_size(run.failure), 0) AS size
        FROM run
        WHERE run.parent_id = coalesce(adoption.parent_id, $1) AND run.spawn_key = f.spawn_key
          AND run.child_index >= $3::int
        ORDER BY run.child_index
        LIMIT $4::int + 1
    ) AS child
    WINDOW spawn AS (PARTITION BY f.spawn_key), in_order AS (PARTITION BY f.spawn_key ORDER BY child.child_index)
) AS page
WHERE place <= $4::int AND before < $5::bigint
ORDER BY spawn_key, child_index

-- name: outcomes
-- How these runs ended, or their status if they have not.
SELECT id, task_id, status, output, output_type, failure, ttl, queue FROM run WHERE environment_id = $1 AND id = ANY($2)

-- name: standings
-- What became of leases that are gone. Arrays: $1 run.
SELECT id, status, lease_epoch, left_by FROM run WHERE id = ANY($1)

-- name: plan_by_values
-- Lists are planned for the filters at hand, by any means.
SELECT set_config(name, value, true)
FROM (VALUES ('plan_cache_mode', 'force_custom_plan'), ('enable_seqscan', 'on'), ('enable_bitmapscan', 'on'),
             ('enable_hashjoin', 'on'), ('enable_mergejoin', 'on')) AS setting (name, value)

-- name: list
-- A page of runs. $2 statuses, $3 statuses of those that ended badly, $4 tasks, $5 queues, $6 tags, $7 batch, $8 parent,
-- $9 root, $10 test, $11 and $12 creation, $13 ids, $14 older than this run, $15 newer than this run, $16 rows,
-- $17 schedule.
SELECT * FROM run_summary
WHERE environment_id = $1
  AND ($2::text[] IS NULL OR status = ANY($2))
  AND ($3::text[] IS NULL OR ended_badly_as = ANY($3))
  AND ($4::text[] IS NULL OR task_id = ANY($4))
  AND ($5::text[] IS NULL OR queue = ANY($5))
  AND ($6::text[] IS NULL OR tags && $6)
  AND ($7::text IS NULL OR batch_id = $7)
  AND ($8::text IS NULL OR parent_id = $8)
  AND ($9::text IS NULL OR root_id = $9)
  AND ($10::boolean IS NULL OR test = $10)
  AND ($11::timestamptz IS NULL OR created_at >= $11)
  AND ($12::timestamptz IS NULL OR created_at < $12)
  AND ($13::text[] IS NULL OR id = ANY($13))
  AND ($17::text IS NULL OR id IN (SELECT run_id FROM tick WHERE schedule_id = $17))
  AND ($14::text IS NULL OR number < (SELECT number FROM run WHERE environment_id = $1 AND id = $14))
  AND ($15::text IS NULL OR number > (SELECT number FROM run WHERE environment_id = $1 AND id = $15))
ORDER BY CASE WHEN $15::text IS NULL THEN number END DESC, CASE WHEN $15::text IS NOT NULL THEN number END
LIMIT $16

-- name: list_living
-- The same of runs that have not ended: $2 their statuses, $3 the same again.
SELECT * FROM run_summary
WHERE environment_id = $1
  AND id IN (SELECT run_id FROM living WHERE living.status = ANY($2))
  AND status = ANY($3::text[])
  AND ($4::text[] IS NULL OR task_id = ANY($4))
  AND ($5::text[] IS NULL OR queue = ANY($5))
  AND ($6::text[] IS NULL OR tags && $6)
  AND ($7::text IS NULL OR batch_id = $7)
  AND ($8::text IS NULL OR parent_id = $8)
  AND ($9::text IS NULL OR root_id = $9)
  AND ($10::boolean IS NULL OR test = $10)
  AND ($11::timestamptz IS NULL OR created_at >= $11)
  AND ($12::timestamptz IS NULL OR created_at < $12)
  AND ($13::text[] IS NULL OR id = ANY($13))
  AND ($17::text IS NULL OR id IN (SELECT run_id FROM tick WHERE schedule_id = $17))
  AND ($14::text IS NULL OR number < (SELECT number FROM run WHERE environment_id = $1 AND id = $14))
  AND ($15::text IS NULL OR number > (SELECT number FROM run WHERE environment_id = $1 AND id = $15))
ORDER BY CASE WHEN $15::text IS NULL THEN number END DESC, CASE WHEN $15::text IS NOT NULL THEN number END
LIMIT $16

-- name: without_wakeup
-- Runs that are stuck: none, at any time.
SELECT id, environment_id, status, has FROM run_without_wakeup ORDER BY id LIMIT 100
