-- name: insert
-- Appends entries to many journals at once; an entry that is there stays. Returns what was stored.
INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                        checksum)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::double precision[],
                     $7::double precision[], $8::bytea[], $9::text[], $10::integer[], $11::boolean[], $12::bytea[],
                     $13::integer[], $14::bytea[])
ON CONFLICT (run_id, seq) DO NOTHING
RETURNING run_id, seq

-- name: append
-- The same where nothing is unusual, as a transaction by itself: appends to those journals that end right before the
-- first entry given, under leases that it holds against rescue and cancel until the commit, locked in the order of the
-- arrays, which is that of the runs. Returns those runs; of others nothing is stored. An entry that somebody else stores
-- meanwhile breaks the whole statement. $1 worker; arrays of runs: $2 run, $3 epoch, $4 first seq; arrays of entries from
-- $5 on, $19 with their place in the former arrays.
WITH held AS MATERIALIZED (
    SELECT f.run_id, f.first, f.place
    FROM unnest($2::text[], $3::integer[], $4::integer[]) WITH ORDINALITY AS f (run_id, epoch, first, place)
    JOIN lease ON lease.run_id = ANY(ARRAY[f.run_id]) AND lease.epoch = f.epoch AND lease.worker_id = $1
    FOR KEY SHARE OF lease
), fit AS MATERIALIZED (
    SELECT run_id, place FROM held
    WHERE first = coalesce((SELECT max(seq) + 1 FROM checkpoint WHERE checkpoint.run_id = held.run_id), 0)
), stored AS (
    INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                            checksum)
    SELECT run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch, checksum
    FROM unnest($5::text[], $6::integer[], $7::text[], $8::text[], $9::text[], $10::double precision[],
                $11::double precision[], $12::bytea[], $13::text[], $14::integer[], $15::boolean[], $16::bytea[],
                $17::integer[], $18::bytea[], $19::bigint[])
         AS entry (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                   checksum, place)
    WHERE place = ANY(ARRAY(SELECT place FROM fit))
)
SELECT run_id FROM fit

-- name: append_one
-- The same of one entry of one run, which is all that a run alone has to say: of the statement above, the arrays are
-- half the cost. $1 worker, $2 epoch, $3 checksum, then the columns of the entry.
WITH held AS MATERIALIZED (
    SELECT FROM lease WHERE run_id = $4 AND epoch = $2 AND worker_id = $1 FOR KEY SHARE
)
INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                        checksum)
SELECT $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $2, $3
FROM held
WHERE $5 = coalesce((SELECT max(seq) + 1 FROM checkpoint WHERE run_id = $4), 0)
RETURNING run_id

-- name: stored
-- What stands at these places. Arrays: $1 run, $2 seq.
SELECT checkpoint.run_id, checkpoint.seq, checkpoint.epoch, checkpoint.checksum
FROM checkpoint JOIN unnest($1::text[], $2::integer[]) AS f (run_id, seq)
  ON checkpoint.run_id = ANY(ARRAY[f.run_id]) AND checkpoint.seq = f.seq

-- name: journals
-- The whole journals of these runs, each in order.
SELECT run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, checksum
FROM checkpoint WHERE run_id = ANY($1) ORDER BY run_id, seq

-- name: page
-- A page of one journal: entries after $2, at most $3.
SELECT run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, checksum
FROM checkpoint WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: lengths
-- How long these journals are.
SELECT f.run_id, coalesce((SELECT max(seq) + 1 FROM checkpoint WHERE checkpoint.run_id = f.run_id), 0) AS length
FROM unnest($1::text[]) AS f (run_id)

-- name: done_or_undone
-- Of these runs, in order: completed steps that can be undone (their bodies begin with a "u"), and tries to undo them.
SELECT run_id, key, outcome, substring(body FROM 1 FOR 1) <> '\x75' AS is_undo
FROM checkpoint
WHERE run_id = ANY($1) AND kind = 'step' AND NOT nested
  AND (substring(body FROM 1 FOR 1) = '\x75' OR key LIKE '|undo %')
ORDER BY run_id, seq

-- name: copy_prefix
-- A fork begins with another run's journal up to and including $3. Its entries are of no attempt of the fork's own.
INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested, fingerprint, epoch,
                        checksum)
SELECT $1, seq, key, kind, outcome, at, started, body, site, 0, nested, fingerprint, 0, checksum
FROM checkpoint WHERE run_id = $2 AND seq <= $3

-- name: adopt
-- The copied spawns' children stay who they are: notes whose children the fork $1 waits for under each key.
INSERT INTO adoption (run_id, spawn_key, parent_id)
SELECT $1, checkpoint.key, coalesce(adoption.parent_id, $2)
FROM checkpoint
LEFT JOIN adoption ON adoption.run_id = $2 AND adoption.spawn_key = checkpoint.key
WHERE checkpoint.run_id = $2 AND checkpoint.seq <= $3 AND checkpoint.kind = 'spawn'
ON CONFLICT (run_id, spawn_key) DO NOTHING
