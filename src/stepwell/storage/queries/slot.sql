-- name: lock
-- What there is to claim for these tasks, with all that limits it, locked in the house order: the environment, if it has a
-- limit; queues that are limited or have lanes, by name; limited and slowed tasks, by id. Whoever waited for a lock is given the rows as
-- they are then; the meters are as they were before. It also opens lanes whose keys' rates let something through again.
-- $1 environment, $2 tasks.
WITH RECURSIVE keyless AS (
    (SELECT queue, task_id FROM ready WHERE environment_id = $1 AND key IS NULL ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM keyless CROSS JOIN LATERAL (
        SELECT queue, task_id FROM ready
        WHERE environment_id = $1 AND (queue, task_id) > (keyless.queue, keyless.task_id) AND key IS NULL
        ORDER BY queue, task_id LIMIT 1
    ) AS following
), laned AS (
    (SELECT queue, task_id FROM lane WHERE environment_id = $1 ORDER BY queue, task_id LIMIT 1)
    UNION ALL
    SELECT following.queue, following.task_id
    FROM laned CROSS JOIN LATERAL (
        SELECT queue, task_id FROM lane
        WHERE environment_id = $1 AND (queue, task_id) > (laned.queue, laned.task_id)
        ORDER BY queue, task_id LIMIT 1
    ) AS following
), pair AS MATERIALIZED (
    SELECT each.queue, each.task_id, bool_or(each.laned) AS laned
    FROM (SELECT queue, task_id, false AS laned FROM keyless UNION ALL SELECT queue, task_id, true FROM laned) AS each
    JOIN place ON place.environment_id = $1 AND place.queue = each.queue AND place.task_id = each.task_id
    WHERE each.task_id = ANY($2) AND place.open
    GROUP BY each.queue, each.task_id
), everywhere AS MATERIALIZED (
    SELECT concurrency_limit, burst_factor FROM environment
    WHERE id = $1 AND concurrency_limit IS NOT NULL AND EXISTS (SELECT FROM pair) FOR NO KEY UPDATE
), locked_queue AS MATERIALIZED (
    SELECT * FROM queue
    WHERE environment_id = $1 AND name = ANY(ARRAY(SELECT queue FROM pair WHERE (SELECT count(*) FROM everywhere) >= 0))
      AND (limited OR name = ANY(ARRAY(SELECT queue FROM pair WHERE laned)))
    ORDER BY name FOR NO KEY UPDATE
), locked_task AS MATERIALIZED (
    SELECT id, coalesce(concurrency_override, concurrency_limit) AS concurrency, slowed_until FROM task
    WHERE environment_id = $1
      AND (coalesce(concurrency_override, concurrency_limit) IS NOT NULL OR slowed_until IS NOT NULL)
      AND id = ANY(ARRAY(SELECT task_id FROM pair WHERE (SELECT count(*) FROM locked_queue) >= 0))
    ORDER BY id FOR NO KEY UPDATE
), opened AS (
    UPDATE lane SET parked_until = NULL
    WHERE environment_id = $1 AND queue = ANY(ARRAY(SELECT name FROM locked_queue)) AND parked_until <= statement_timestamp()
)
SELECT pair.queue, pair.task_id, pair.laned, everywhere.concurrency_limit AS everywhere, everywhere.burst_factor,
       locked_task.concurrency AS of_task,
       extract(epoch FROM locked_task.slowed_until - clock_timestamp())::double precision AS slowed_for, locked_queue.*, meter.lacking, meter.at, meter.moments, meter.amounts,
       extract(epoch FROM clock_timestamp())::double precision AS now
FROM pair
LEFT JOIN everywhere ON true
LEFT JOIN locked_queue ON locked_queue.name = pair.queue
LEFT JOIN locked_task ON locked_task.id = pair.task_id
LEFT JOIN meter ON meter.environment_id = $1 AND meter.queue = locked_queue.name AND meter.key = ''
ORDER BY pair.queue, pair.task_id

-- name: look
-- Under these locks: the slots held, what was used of rates, and the runs whose turn it may be. It shows more than can be
-- taken, and never less. $1 environment; arrays of what is offered: $2 queue, $3 task, $4 whether it has lanes, $5 whether
-- new runs of the queue may start, $6 the task's limit; $7 locked queues, of which slots are counted, $8 whether of all;
-- $9 most runs in the environment, $10 most runs to take. Of each lane it shows twice its share, as the others may have none.
WITH held AS MATERIALIZED (
    SELECT queue, task_id, key, count(*)::integer AS amount
    FROM (SELECT queue, task_id, key FROM lease WHERE environment_id = $1 AND queue = ANY($7::text[]) AND NOT $8::boolean
          UNION ALL SELECT queue, task_id, key FROM lease WHERE environment_id = $1 AND $8::boolean) AS live
    GROUP BY queue, task_id, key
), line AS MATERIALIZED (
    SELECT name, virtual_time, coalesce(key_weights_override, key_weights) AS weights,
           coalesce(key_concurrency_override, key_concurrency_limit) AS most_of_key,
           coalesce(key_rate_override, key_rate_limit) IS NOT NULL AS rated_by_key,
           least($10::integer, $9::integer - (SELECT coalesce(sum(amount), 0) FROM held),
                 coalesce(concurrency_override, concurrency_limit)
                     - (SELECT coalesce(sum(amount), 0) FROM held WHERE held.queue = name)) AS room
    FROM queue WHERE environment_id = $1 AND name = ANY($2::text[])
), full_key AS MATERIALIZED (
    SELECT held.queue, held.key FROM held JOIN line ON line.name = held.queue
    WHERE held.key IS NOT NULL GROUP BY held.queue, held.key, line.most_of_key HAVING sum(held.amount) >= line.most_of_key
), pair AS MATERIALIZED (
    SELECT offered.*, greatest(0, least(line.room, offered.most - (SELECT coalesce(sum(amount), 0) FROM held
                                        WHERE offered.most IS NOT NULL AND held.task_id = offered.task_id)))::integer AS room
    FROM unnest($2, $3::text[], $4::boolean[], $5::boolean[], $6::integer[]) AS offered (queue, task_id, laned, new, most)
    JOIN line ON line.name = offered.queue
), walk AS MATERIALIZED (
    SELECT first.*, pair.room, coalesce((line.weights ->> first.key)::double precision, 1) AS weight
    FROM pair
    JOIN line ON line.name = pair.queue
    CROSS JOIN unnest('{t,f}'::boolean[]) AS kind (resumed)
    CROSS JOIN LATERAL (
        SELECT queue, task_id, resumed, key, virtual_time FROM lane
        WHERE environment_id = $1 AND queue = pair.queue AND task_id = pair.task_id AND resumed = kind.resumed
          AND parked_until IS NULL AND (queue, key) NOT IN (SELECT queue, key FROM full_key)
        ORDER BY lane.virtual_time LIMIT pair.room
    ) AS first
    WHERE pair.laned AND (kind.resumed OR pair.new)
), total AS MATERIALIZED (
    SELECT queue, sum(weight) AS weight FROM (SELECT DISTINCT queue, key, weight FROM walk) AS each GROUP BY queue
), lane_seen AS MATERIALIZED (
    SELECT walk.*, least(walk.room, ceil(2 * walk.room * walk.weight / total.weight) + 1)::integer AS most
    FROM walk JOIN total ON total.queue = walk.queue
), seen AS MATERIALIZED (
    SELECT first.*
    FROM lane_seen CROSS JOIN LATERAL (
        SELECT run_id, queue, task_id, key, resumed, rank, number FROM ready
        WHERE environment_id = $1 AND queue = lane_seen.queue AND task_id = lane_seen.task_id
          AND resumed = lane_seen.resumed AND key = lane_seen.key
        ORDER BY ready.rank, number LIMIT lane_seen.most
    ) AS first
    UNION ALL
    SELECT first.*
    FROM pair CROSS JOIN LATERAL (
        SELECT run_id, queue, task_id, key, resumed, rank, number FROM ready
        WHERE environment_id = $1 AND queue = pair.queue AND task_id = pair.task_id AND key IS NULL
          AND (resumed OR pair.new)
        ORDER BY ready.resumed DESC, ready.rank, number LIMIT pair.room
    ) AS first
), emptied AS MATERIALIZED (
    -- Locked, to be removed by a later statement. One that was served more than its share stays while others wait.
    SELECT lane.queue, lane.task_id, lane.resumed, lane.key
    FROM lane_seen JOIN line ON line.name = lane_seen.queue
    JOIN lane ON lane.environment_id = $1 AND lane.queue = lane_seen.queue AND lane.task_id = lane_seen.task_id
        AND lane.resumed = lane_seen.resumed AND lane.key = lane_seen.key
    WHERE NOT EXISTS (SELECT FROM ready WHERE ready.environment_id = $1 AND ready.queue = lane.queue
                      AND ready.task_id = lane.task_id AND ready.resumed = lane.resumed AND ready.key = lane.key OFFSET 0)
      AND (lane_seen.virtual_time <= line.virtual_time OR NOT EXISTS (SELECT FROM seen WHERE seen.queue = lane.queue))
    FOR UPDATE OF lane SKIP LOCKED
), used AS (
    SELECT meter.* FROM line JOIN meter ON meter.environment_id = $1 AND meter.queue = line.name AND meter.key = ''
    UNION ALL
    SELECT meter.*
    FROM (SELECT DISTINCT lane_seen.queue, lane_seen.key FROM lane_seen JOIN line ON line.name = lane_seen.queue
          WHERE line.rated_by_key) AS each
    JOIN meter ON meter.environment_id = $1 AND meter.queue = each.queue AND meter.key = each.key
)
SELECT 'held' AS kind, queue, task_id, key, false AS resumed, amount, NULL::double precision AS moment, NULL AS run_id,
       NULL::bigint AS number, NULL::double precision AS lacking, NULL::double precision[] AS moments, NULL::double precision[] AS amounts
FROM held
UNION ALL
SELECT 'meter', queue, '', key, false, 0, at, NULL, NULL, lacking, moments, amounts FROM used
UNION ALL
SELECT 'lane', queue, task_id, key, resumed, most, virtual_time, NULL, NULL, NULL, NULL, NULL FROM lane_seen
UNION ALL
SELECT 'emptied', queue, task_id, key, resumed, 0, NULL, NULL, NULL, NULL, NULL, NULL FROM emptied
UNION ALL
SELECT 'run', queue, task_id, key, resumed, 0, extract(epoch FROM rank)::double precision, run_id, number, NULL, NULL, NULL
FROM seen
UNION ALL
SELECT 'now', '', '', NULL, false, 0, extract(epoch FROM statement_timestamp())::double precision, NULL, NULL, NULL, NULL, NULL
UNION ALL
SELECT 'opens', '', '', NULL, false, 0, extract(epoch FROM min(first.parked_until))::double precision, NULL, NULL, NULL, NULL, NULL
FROM line CROSS JOIN LATERAL (
    SELECT parked_until FROM lane WHERE environment_id = $1 AND queue = line.name AND parked_until IS NOT NULL
    ORDER BY parked_until LIMIT 1
) AS first
WHERE line.rated_by_key

-- name: charge
-- Notes whom a claim has served. $1 environment; arrays: $2 to $4 queue, its virtual time, that of runs without a key; $5 to
-- $8 queue, key, its virtual time, until when its new runs are passed over (null: as it is); $9 to $15 meters: queue, key,
-- lacking, at, texts of the arrays of the sliding window, idle_at; $16 to $19 emptied lanes that are locked: queue, task, whether
-- of resumed runs, key. Of these it removes what is still empty, and says how many. It also forgets meters that say nothing.
WITH advanced AS (
    UPDATE queue SET virtual_time = f.virtual_time, keyless_time = f.keyless_time
    FROM unnest($2::text[], $3::double precision[], $4::double precision[]) AS f (name, virtual_time, keyless_time)
    WHERE queue.environment_id = $1 AND queue.name = f.name
), served AS (
    UPDATE lane SET virtual_time = coalesce(f.virtual_time, lane.virtual_time),
                    parked_until = CASE WHEN f.until IS NULL OR lane.resumed THEN lane.parked_until ELSE to_timestamp(f.until) END
    FROM unnest($5::text[], $6::text[], $7::double precision[], $8::double precision[]) AS f (queue, key, virtual_time, until)
    WHERE lane.environment_id = $1 AND lane.queue = f.queue AND lane.key = f.key
      AND (lane.queue, lane.task_id, lane.resumed, lane.key)
          NOT IN (SELECT * FROM unnest($16::text[], $17::text[], $18::boolean[], $19::text[]))
), forgotten AS (
    DELETE FROM meter WHERE ctid = ANY(ARRAY(
        SELECT old.ctid FROM (SELECT DISTINCT queue FROM unnest($9::text[]) AS f (queue)) AS f
        CROSS JOIN LATERAL (
            SELECT ctid FROM meter WHERE environment_id = $1 AND queue = f.queue
                AND idle_at < extract(epoch FROM statement_timestamp())::double precision - 60
            ORDER BY idle_at LIMIT 100
        ) AS old))
    AND idle_at < extract(epoch FROM statement_timestamp())::double precision - 60
    AND (queue, key) NOT IN (SELECT * FROM unnest($9::text[], $10::text[]))
), noted AS (
    INSERT INTO meter (environment_id, queue, key, lacking, at, moments, amounts, idle_at)
    SELECT $1, queue, key, lacking, at, moments::double precision[], amounts::double precision[], idle_at
    FROM unnest($9, $10, $11::double precision[], $12::double precision[], $13::text[], $14::text[], $15::double precision[])
         AS f (queue, key, lacking, at, moments, amounts, idle_at)
    ON CONFLICT (environment_id, queue, key) DO UPDATE
    SET lacking = excluded.lacking, at = excluded.at, moments = excluded.moments, amounts = excluded.amounts,
        idle_at = excluded.idle_at
), removed AS (
    DELETE FROM lane USING unnest($16, $17, $18, $19) AS f (queue, task_id, resumed, key)
    WHERE lane.environment_id = $1 AND lane.queue = f.queue AND lane.task_id = f.task_id
      AND lane.resumed = f.resumed AND lane.key = f.key
      AND NOT EXISTS (
          SELECT FROM ready WHERE ready.environment_id = $1 AND ready.queue = f.queue AND ready.task_id = f.task_id
                              AND ready.resumed = f.resumed AND ready.key = f.key OFFSET 0)
    RETURNING 1
)
SELECT count(*) FROM removed
