-- The foundation: environments, tasks, queues, runs, what each live run waits for, and its history.

-- ── who ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE environment (
    id                 text PRIMARY KEY,
    slug               text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]{0,31}$'),
    concurrency_limit  integer CHECK (concurrency_limit >= 0),          -- null: no limit; of each queue, and of all
    burst_factor       double precision NOT NULL DEFAULT 1 CHECK (burst_factor >= 1),  -- of all queues together
    paused             boolean NOT NULL DEFAULT false,
    signing_secret     bytea NOT NULL CHECK (length(signing_secret) >= 32),
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL REFERENCES environment,
    name               text NOT NULL,
    hash               bytea NOT NULL UNIQUE CHECK (length(hash) = 32),  -- SHA-256; the key itself is not kept
    hint               text NOT NULL,                                    -- its last four characters
    created_at         timestamptz NOT NULL DEFAULT now(),
    last_used_at       timestamptz,
    expires_at         timestamptz,
    revoked_at         timestamptz
);
CREATE INDEX api_key_of_environment ON api_key (environment_id);

CREATE TABLE queue (
    environment_id     text NOT NULL REFERENCES environment,
    name               text NOT NULL CHECK (name <> ''),
    kind               text NOT NULL CHECK (kind IN ('task', 'custom')),
    -- Each limit as declared in code, and as set at runtime, which counts as long as it is there. Null: none.
    concurrency_limit  integer CHECK (concurrency_limit > 0),
    concurrency_override integer CHECK (concurrency_override >= 0),
    key_concurrency_limit integer CHECK (key_concurrency_limit > 0),     -- of each concurrency key
    key_concurrency_override integer CHECK (key_concurrency_override >= 0),
    rate_limit         jsonb,                                            -- Rate
    rate_override      jsonb,
    key_rate_limit     jsonb,                                            -- Rate, of each concurrency key
    key_rate_override  jsonb,
    key_weights        jsonb,                                            -- shares by key; 1 for all others
    key_weights_override jsonb,
    overridden_at      timestamptz,
    overridden_by      text,
    limited            boolean NOT NULL GENERATED ALWAYS AS              -- a claim has to lock this row
                           (coalesce(concurrency_override, concurrency_limit, key_concurrency_override,
                                     key_concurrency_limit) IS NOT NULL
                            OR coalesce(rate_override, rate_limit, key_rate_override, key_rate_limit) IS NOT NULL)
                           STORED,
    virtual_time       double precision NOT NULL DEFAULT 0,              -- how far its lanes have been served
    keyless_time       double precision NOT NULL DEFAULT 0,              -- the same of runs without a key, among lanes
    paused             boolean NOT NULL DEFAULT false,
    max_length         integer CHECK (max_length > 0),                   -- queued runs from which triggers are refused
    max_length_override integer CHECK (max_length_override >= 0),
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment_id, name)
) WITH (fillfactor = 50);

CREATE TABLE task (
    environment_id     text NOT NULL REFERENCES environment,
    id                 text NOT NULL CHECK (id <> ''),
    queue              text NOT NULL,
    declaration        jsonb NOT NULL,                                   -- TaskDeclaration, without its payload schema
    payload_schema     jsonb,
    schema_digest      text,
    concurrency_limit  integer CHECK (concurrency_limit > 0),            -- over all queues, as declared
    concurrency_override integer CHECK (concurrency_override >= 0),      -- as set at runtime, in its place
    paused             boolean NOT NULL DEFAULT false,
    failed_in_row      integer NOT NULL DEFAULT 0,                       -- attempts, if it wants to be slowed by them
    slowed_until       timestamptz,                                      -- it is slowed: then one run may start
    slow_gap           double precision,                                 -- seconds between two starts
    probe_id           text,                                             -- the run that started last
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment_id, id),
    FOREIGN KEY (environment_id, queue) REFERENCES queue,
    CHECK ((payload_schema IS NULL) = (schema_digest IS NULL))
);

CREATE TABLE worker (
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL REFERENCES environment,
    name               text NOT NULL,
    pid                integer NOT NULL,
    version            text NOT NULL,
    task_ids           text[] NOT NULL,
    first_seen_at      timestamptz NOT NULL DEFAULT now(),
    last_seen_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX worker_of_environment ON worker (environment_id);

-- ── runs: wide and cold ────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE batch (
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL REFERENCES environment,
    expected           integer NOT NULL CHECK (expected > 0),
    received           integer NOT NULL DEFAULT 0,                       -- items, changed under the lock of this row
    idempotency_key    text CHECK (idempotency_key <> ''),
    request_key        text CHECK (request_key <> ''),
    parent_id          text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    sealed_at          timestamptz
);
CREATE UNIQUE INDEX batch_idempotency ON batch (environment_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX batch_request ON batch (environment_id, request_key) WHERE request_key IS NOT NULL;

CREATE TABLE run (
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL,
    number             bigint GENERATED ALWAYS AS IDENTITY,              -- order of creation, for FIFO
    task_id            text NOT NULL,
    queue              text NOT NULL,
    status             text NOT NULL CHECK (status IN
                           ('delayed', 'queued', 'executing', 'waiting', 'completed', 'failed', 'canceled', 'expired')),
    ended_as           text GENERATED ALWAYS AS
                           (CASE WHEN status IN ('completed', 'failed', 'canceled', 'expired') THEN status END) STORED,
    -- Indexes use these two in place of `status`: they never change for a run without a parent that completes, so that all
    -- changes of most runs are HOT updates.
    ended_badly_as     text GENERATED ALWAYS AS
                           (CASE WHEN status IN ('failed', 'canceled', 'expired') THEN status END) STORED,
    open_child_of      text GENERATED ALWAYS AS
                           (CASE WHEN status NOT IN ('completed', 'failed', 'canceled', 'expired') THEN parent_id END)
                           STORED,

    payload            bytea NOT NULL,
    payload_type       text NOT NULL,
    output             bytea,
    output_type        text,
    failure            jsonb,
    cancel_reason      text,
    cancel_requested_at timestamptz,                                     -- from then on it ends as canceled, however its code ends
    cancel_grace       double precision CHECK (cancel_grace >= 0),       -- seconds that each lease has for the clean-up
    cancel_deadline    timestamptz,                                      -- of the lease; its worker should be done long before
    not_undone         text[],                                           -- steps, and why; null: nothing was to be undone
    error_group        text,                                             -- which failures are the same one (model/error_group.py)
    abandoned          boolean NOT NULL DEFAULT false,                   -- a child that outlives the cancel of its parent

    parent_id          text,
    root_id            text NOT NULL,
    depth              integer NOT NULL DEFAULT 0 CHECK (depth >= 0),
    spawn_key          text,
    child_index        integer,
    batch_id           text,
    batch_index        integer,
    forked_from        text,
    forked_seq         integer,
    seed               text,                                             -- of ctx.random; null: the run's own id

    concurrency_key    text,
    priority           integer NOT NULL DEFAULT 0,
    max_attempts       integer NOT NULL CHECK (max_attempts >= 1),
    max_duration       double precision CHECK (max_duration > 0),        -- seconds
    ttl                double precision CHECK (ttl > 0),                 -- seconds in the queue before it expires
    tags               text[] NOT NULL DEFAULT '{}',
    metadata           bytea,                                            -- a JSON document, as it came
    idempotency_key    text,
    trigger_function   text NOT NULL,
    traceparent        text,
    test               boolean NOT NULL DEFAULT false,

    attempt            integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    attempt_open       boolean NOT NULL DEFAULT false,                   -- the next claim continues it
    crashes            integer NOT NULL DEFAULT 0 CHECK (crashes >= 0),  -- in a row, without a checkpoint in between
    crash_length       integer NOT NULL DEFAULT 0,                       -- length of the journal at the last crash
    executed           double precision NOT NULL DEFAULT 0,              -- seconds under leases that have ended
    executed_before    double precision NOT NULL DEFAULT 0,              -- of that, what earlier attempts took

    lease_epoch        integer NOT NULL DEFAULT 0 CHECK (lease_epoch >= 0),
    worker_id          text,                                             -- who holds the lease
    left_by            text CHECK (left_by IN ('suspend', 'finish', 'release', 'rescue', 'cancel')),  -- end of last lease

    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    delayed_until      timestamptz,
    expires_at         timestamptz,
    started_at         timestamptz,
    finished_at        timestamptz,
    reviewed_at        timestamptz,                                      -- a dead letter that somebody dealt with

    CHECK ((parent_id IS NULL) = (depth = 0)),
    CHECK ((cancel_requested_at IS NULL) = (cancel_grace IS NULL)),
    CHECK ((spawn_key IS NULL) = (child_index IS NULL)),
    CHECK (spawn_key IS NULL OR parent_id IS NOT NULL),
    CHECK ((batch_id IS NULL) = (batch_index IS NULL)),
    CHECK ((status IN ('completed', 'failed', 'canceled', 'expired')) = (finished_at IS NOT NULL)),
    CHECK ((status = 'executing') = (worker_id IS NOT NULL)),
    CHECK (status = 'completed' OR output IS NULL),
    CHECK ((status = 'failed') = (failure IS NOT NULL)),
    CHECK (status <> 'executing' OR (attempt >= 1 AND attempt_open AND lease_epoch >= 1 AND started_at IS NOT NULL)),
    CHECK (ended_as IS NULL OR NOT attempt_open)
) WITH (fillfactor = 40);                                                -- room for a run's versions on its page
-- Not compressed: pglz takes longer for one of them than all the rest of a run.
ALTER TABLE run ALTER COLUMN payload SET STORAGE EXTERNAL, ALTER COLUMN output SET STORAGE EXTERNAL;
CREATE INDEX run_newest ON run (environment_id, number);
CREATE INDEX run_of_task ON run (environment_id, task_id, number);
CREATE INDEX run_ended_badly ON run (environment_id, ended_badly_as, number) WHERE ended_badly_as IS NOT NULL;
CREATE INDEX run_dead ON run (environment_id, number)
    WHERE reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}');
CREATE INDEX run_dead_alike ON run (environment_id, error_group, number)
    WHERE reviewed_at IS NULL AND (ended_badly_as = 'failed' OR not_undone <> '{}');
CREATE INDEX run_forks ON run (forked_from, number) WHERE forked_from IS NOT NULL;
CREATE INDEX run_tagged ON run USING gin (tags) WHERE tags <> '{}';
CREATE INDEX run_children ON run (parent_id, spawn_key, child_index) WHERE parent_id IS NOT NULL;
CREATE INDEX run_open_children ON run (open_child_of, spawn_key) WHERE open_child_of IS NOT NULL;
CREATE INDEX run_canceling ON run (cancel_deadline) WHERE cancel_deadline IS NOT NULL;
CREATE INDEX run_of_root ON run (root_id) WHERE depth > 0;
CREATE UNIQUE INDEX run_of_batch ON run (batch_id, batch_index) WHERE batch_id IS NOT NULL;

-- ── hot: what each live run waits for; one row of one of these tables for each run that has not ended ──────────────

-- Runs of one concurrency key, in a queue of which they get a share. A row for each that has runs; emptied ones are
-- removed by claims, under the queue's lock. The lane that was served least, by its weight, is the next.
CREATE TABLE lane (
    environment_id     text NOT NULL,
    queue              text NOT NULL,
    task_id            text NOT NULL,
    resumed            boolean NOT NULL,
    key                text NOT NULL,
    virtual_time       double precision NOT NULL,                        -- how far it has been served; one for each key
    parked_until       timestamptz,                                      -- its key's rate is used up until then
    PRIMARY KEY (environment_id, queue, task_id, resumed, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lane_order ON lane (environment_id, queue, task_id, resumed, virtual_time) WHERE parked_until IS NULL;
CREATE INDEX lane_of_key ON lane (environment_id, queue, key);
CREATE INDEX lane_parked ON lane (environment_id, queue, parked_until) WHERE parked_until IS NOT NULL;

CREATE TABLE ready (                                                     -- status queued
    run_id             text PRIMARY KEY,
    environment_id     text NOT NULL,
    queue              text NOT NULL,
    task_id            text NOT NULL,
    key                text,                                             -- the concurrency key: it stands in a lane
    resumed            boolean NOT NULL,                                 -- ahead of all that are not
    rank               timestamptz NOT NULL,                             -- when it was due, less its head start
    number             bigint NOT NULL,
    expires_at         timestamptz,
    rang               text,                                             -- the timer that woke it: the claim notes it in the journal
    -- Not to prove anything: an emptied lane cannot be removed while a run is on its way into it.
    CONSTRAINT ready_in_lane FOREIGN KEY (environment_id, queue, task_id, resumed, key) REFERENCES lane
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ready_order ON ready (environment_id, queue, task_id, resumed DESC, rank, number) WHERE key IS NULL;
CREATE INDEX ready_of_lane ON ready (environment_id, queue, task_id, resumed, key, rank, number) WHERE key IS NOT NULL;
CREATE INDEX ready_expiry ON ready (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE delayed (                                                   -- status delayed
    run_id             text PRIMARY KEY,
    due_at             timestamptz                                       -- null: admission holds it back, see `held`
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX delayed_due ON delayed (due_at);

CREATE TABLE lease (                                                     -- status executing
    run_id             text PRIMARY KEY,
    environment_id     text NOT NULL,
    queue              text NOT NULL,
    task_id            text NOT NULL,
    key                text,                                             -- the run's concurrency key
    worker_id          text NOT NULL,
    epoch              integer NOT NULL,
    claimed_at         timestamptz NOT NULL,
    expires_at         timestamptz NOT NULL                              -- in no index: renewing stays a HOT update
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lease_of_queue ON lease (environment_id, queue);

-- Where runs of a task would stand in a queue. A run may begin at once where it is open and nothing limits it; claims and
-- triggers ask here. full: a limit is reached, as far as one that holds no lock can tell, and but for limits of tasks.
CREATE VIEW place AS
SELECT environment.id AS environment_id, queue.name AS queue, task.id AS task_id, environment.slug,
       task.updated_at AS declared_at,
       NOT (environment.paused OR queue.paused OR task.paused) AS open,
       environment.concurrency_limit IS NOT NULL OR queue.limited
           OR coalesce(task.concurrency_override, task.concurrency_limit) IS NOT NULL
           OR task.slowed_until IS NOT NULL AS limited,
       coalesce((SELECT count(*) FROM lease WHERE lease.environment_id = environment.id
                                              AND environment.concurrency_limit IS NOT NULL)
                    >= floor(environment.concurrency_limit * environment.burst_factor), false)
           OR coalesce((SELECT count(*) FROM lease WHERE lease.environment_id = environment.id AND lease.queue = queue.name)
                    >= least(environment.concurrency_limit, coalesce(queue.concurrency_override, queue.concurrency_limit)),
                    false) AS full
FROM environment
JOIN queue ON queue.environment_id = environment.id
JOIN task ON task.environment_id = environment.id;

CREATE TABLE wait (                                                      -- status waiting; any one of them wakes
    run_id             text NOT NULL,
    key                text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('timer', 'children', 'retry', 'token', 'permit')),
    due_at             timestamptz,
    spawn_key          text,
    token_id           text,
    PRIMARY KEY (run_id, key),
    CHECK ((kind IN ('timer', 'retry')) = (due_at IS NOT NULL)),
    CHECK ((kind IN ('children', 'permit')) = (spawn_key IS NOT NULL)),
    CHECK ((kind = 'token') = (token_id IS NOT NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX wait_due ON wait (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX wait_children ON wait (run_id) WHERE kind = 'children';
CREATE INDEX wait_token ON wait (token_id) WHERE token_id IS NOT NULL;

CREATE TABLE token (                                                     -- a wait that somebody outside completes
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL,
    number             bigint GENERATED ALWAYS AS IDENTITY,              -- order of creation
    run_id             text,                                             -- null: made from outside
    key                text,                                             -- of the checkpoint that made it
    status             text NOT NULL DEFAULT 'waiting'
                           CHECK (status IN ('waiting', 'completed', 'timed_out', 'canceled')),
    title              text,
    data               bytea,                                            -- a JSON text, as it came
    answer_schema      bytea,                                            -- JSON Schema: what the answer has to fit
    tags               text[] NOT NULL DEFAULT '{}',
    timeout_at         timestamptz,
    idempotency_key    text CHECK (idempotency_key <> ''),
    idempotency_expires_at timestamptz,
    created_by_request text,
    output             bytea,                                            -- the answer: a JSON text
    completed_by       text,
    closed_by_request  text,                                             -- the same request again is no conflict
    awaits             text CHECK (awaits IN ('event', 'signal', 'update')),  -- completed by a message, by nobody else
    message_name       text,
    match              jsonb,                                            -- by dotted path, what an event's data has there
    since              timestamptz,                                      -- events sent before do not count
    message_id         text,                                             -- the one that completed it
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at          timestamptz,
    CHECK ((run_id IS NULL) = (key IS NULL)),
    CHECK ((status = 'waiting') = (closed_at IS NULL)),
    CHECK (status = 'completed' OR output IS NULL),
    CHECK ((idempotency_key IS NULL) = (idempotency_expires_at IS NULL)),
    CHECK ((awaits IS NULL) = (message_name IS NULL)),
    CHECK (awaits IS NULL OR run_id IS NOT NULL),
    CHECK ((awaits IS NOT DISTINCT FROM 'event') = (since IS NOT NULL)),
    CHECK (match IS NULL OR awaits = 'event'),
    CHECK (message_id IS NULL OR awaits IS NOT NULL AND status = 'completed')
) WITH (fillfactor = 80);
CREATE INDEX token_newest ON token (environment_id, number);
CREATE INDEX token_of_run ON token (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX token_open ON token (environment_id, number) WHERE status = 'waiting';
CREATE INDEX token_open_of_run ON token (run_id) WHERE status = 'waiting' AND run_id IS NOT NULL;
CREATE INDEX token_timeout ON token (timeout_at) WHERE status = 'waiting' AND timeout_at IS NOT NULL;
CREATE INDEX token_tagged ON token USING gin (tags) WHERE tags <> '{}';
CREATE UNIQUE INDEX token_idempotency ON token (environment_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX token_request ON token (environment_id, created_by_request) WHERE created_by_request IS NOT NULL;

CREATE INDEX token_for_event ON token (environment_id, message_name) WHERE awaits = 'event' AND status = 'waiting';
CREATE UNIQUE INDEX token_message ON token (run_id, awaits, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX token_of_message ON token (message_id) WHERE message_id IS NOT NULL;

-- Events for all runs that wait, signals and updates for one. An event of this kind is not one of a run's timeline.
CREATE TABLE message (
    environment_id     text NOT NULL REFERENCES environment,
    kind               text NOT NULL CHECK (kind IN ('event', 'signal', 'update')),
    id                 text NOT NULL CHECK (id <> ''),                   -- an event's may be its sender's own
    number             bigint GENERATED ALWAYS AS IDENTITY,              -- order of sending
    name               text NOT NULL CHECK (name <> ''),
    run_id             text,                                             -- to whom
    data               bytea NOT NULL,                                   -- a JSON text, as it came
    fields             jsonb,                                            -- the same, for matching
    started            jsonb,                                            -- runs of tasks that the event triggered
    status             text CHECK (status IN ('pending', 'accepted', 'refused')),
    answer             bytea,                                            -- to an update: a JSON text
    sent_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at        timestamptz,
    canceled           integer NOT NULL DEFAULT 0,                       -- runs that the event canceled
    PRIMARY KEY (environment_id, kind, id),
    CHECK ((kind = 'event') = (run_id IS NULL)),
    CHECK ((kind = 'event') = (fields IS NOT NULL)),
    CHECK (kind = 'event' OR started IS NULL),
    CHECK ((kind = 'update') = (status IS NOT NULL)),
    CHECK ((status IN ('accepted', 'refused')) IS NOT TRUE = (answered_at IS NULL)),
    CHECK (answered_at IS NOT NULL OR answer IS NULL)
);
CREATE INDEX message_named ON message (environment_id, name, sent_at) WHERE run_id IS NULL;
CREATE INDEX message_newest ON message (environment_id, kind, number);
CREATE INDEX message_of_run ON message (run_id, kind, name, number) WHERE run_id IS NOT NULL;
CREATE INDEX message_sent ON message (sent_at) WHERE run_id IS NULL;

-- Locked by whoever sends a message of this name, and shared by those who begin to wait for one: neither misses the
-- other. scope: the environment (events), or the run. Rows are there to be locked, and may be deleted at any time.
CREATE TABLE topic (
    scope              text NOT NULL,
    name               text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, name)
);

CREATE TABLE event_trigger (                                             -- tasks that events start
    environment_id     text NOT NULL,
    task_id            text NOT NULL,
    place              integer NOT NULL,
    name               text NOT NULL,
    match              jsonb,
    PRIMARY KEY (environment_id, task_id, place),
    FOREIGN KEY (environment_id, task_id) REFERENCES task
);
CREATE INDEX event_trigger_named ON event_trigger (environment_id, name);

CREATE TABLE cancel_on (                                                 -- events that cancel a run; until it ends
    run_id             text NOT NULL,
    place              integer NOT NULL,
    environment_id     text NOT NULL,
    name               text NOT NULL,
    match              jsonb NOT NULL,                                   -- with the values of the run's payload in it
    shape              uuid NOT NULL GENERATED ALWAYS AS                 -- which fields it is about
                           (md5(jsonb_path_query_array(match, '$.keyvalue().key')::text)::uuid) STORED,
    digest             bigint NOT NULL GENERATED ALWAYS AS (jsonb_hash_extended(match, 0)) STORED,
    PRIMARY KEY (run_id, place)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX cancel_on_event ON cancel_on (environment_id, name, shape, digest);

-- Who is to be told of a token. Written with the token itself, so that no crash loses it, and no rollback leaves it.
CREATE TABLE notice (
    id                 text PRIMARY KEY,                                 -- also of the message, the same at each try
    environment_id     text NOT NULL REFERENCES environment,
    token_id           text NOT NULL REFERENCES token ON DELETE CASCADE,
    occasion           text NOT NULL CHECK (occasion IN ('created', 'expiring')),
    target             text,                                             -- null: who is told is yet to be decided
    tries              integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    due_at             timestamptz DEFAULT clock_timestamp(),
    outcome            text CHECK (outcome IN ('delivered', 'skipped', 'failed')),
    problem            text,
    ended_at           timestamptz,
    UNIQUE (token_id, occasion, target),
    CHECK ((due_at IS NULL) = (outcome IS NOT NULL)),
    CHECK ((due_at IS NULL) = (ended_at IS NOT NULL)),
    CHECK (target IS NOT NULL OR outcome IS NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX notice_due ON notice (target, due_at) WHERE due_at IS NOT NULL;

-- ── what runs share by name ────────────────────────────────────────────────────────────────────────────────────────

-- A semaphore, a limiter or a breaker. Moments are seconds since the epoch, as in `checkpoint`.
CREATE TABLE guard (
    environment_id     text NOT NULL REFERENCES environment,
    kind               text NOT NULL CHECK (kind IN ('semaphore', 'limiter', 'breaker')),
    name               text NOT NULL CHECK (name <> ''),
    amount             double precision NOT NULL CHECK (amount > 0),
    period             double precision NOT NULL CHECK (period >= 0),
    cool_down          double precision NOT NULL CHECK (cool_down >= 0),
    task_id            text NOT NULL,                                    -- the task that set these
    full_at            double precision NOT NULL DEFAULT 0,              -- limiter: when its bucket is full again
    failures           double precision[] NOT NULL DEFAULT '{}',         -- breaker: when; those that still count
    opened_at          double precision,                                 -- breaker: null is closed
    probing_since      double precision,                                 -- breaker: the one that is let through
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (environment_id, kind, name),
    CHECK (kind = 'breaker' OR opened_at IS NULL),
    CHECK (probing_since IS NULL OR opened_at IS NOT NULL)
) WITH (fillfactor = 50);

-- What a run holds of a guard, or waits for. What is held is counted here, never by a number that could leak.
CREATE TABLE permit (
    run_id             text NOT NULL,
    key                text NOT NULL,                                    -- of the journal entry by which it asked
    environment_id     text NOT NULL,
    kind               text NOT NULL,
    name               text NOT NULL,
    number             bigint GENERATED ALWAYS AS IDENTITY,              -- order of asking, for FIFO
    asked_at           double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
    weight             double precision NOT NULL,
    granted_at         double precision,                                 -- limiter: perhaps in the future
    retry_at           double precision,
    refusal            text,
    probe              boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run_id, key),
    CHECK (granted_at IS NULL OR refusal IS NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX permit_of_guard ON permit (environment_id, kind, name, number);

-- What was used of a queue's rate (key ''), or of the rate of one of its keys. Changed under the lock of its queue.
CREATE TABLE meter (
    environment_id     text NOT NULL,
    queue              text NOT NULL,
    key                text NOT NULL,
    lacking            double precision NOT NULL DEFAULT 0,              -- what its bucket lacked,
    at                 double precision NOT NULL DEFAULT 0,              --   then
    moments            double precision[] NOT NULL DEFAULT '{}',         -- sliding window: the last starts of each slice,
    amounts            double precision[] NOT NULL DEFAULT '{}',         --   and how much was used in it
    idle_at            double precision NOT NULL,                        -- from then on it says nothing
    PRIMARY KEY (environment_id, queue, key),
    CHECK (cardinality(moments) = cardinality(amounts))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX meter_idle ON meter (environment_id, queue, idle_at);

-- ── history: append-only ───────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE checkpoint (
    run_id             text NOT NULL,
    seq                integer NOT NULL CHECK (seq >= 0),
    key                text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('step', 'timer', 'spawn', 'children', 'named', 'order', 'token',
                                                                  'answer', 'permit')),
    outcome            text NOT NULL CHECK (outcome IN ('value', 'error', 'canceled')),
    -- Seconds since the epoch, to the last bit: replay tells the time by them, and timestamptz would round.
    at                 double precision NOT NULL,
    started            double precision NOT NULL,
    body               bytea NOT NULL,
    site               text NOT NULL,
    attempt            integer NOT NULL,                                 -- 0: copied from the run it was forked from
    nested             boolean NOT NULL,
    fingerprint        bytea NOT NULL,
    epoch              integer NOT NULL,                                 -- the lease that wrote it
    checksum           bytea NOT NULL CHECK (length(checksum) = 8),
    PRIMARY KEY (run_id, seq)
);
ALTER TABLE checkpoint ALTER COLUMN body SET STORAGE EXTERNAL;           -- executors compress what is worth it

-- A fork keeps the children that its copied journal speaks of: those under this key are `parent_id`'s.
CREATE TABLE adoption (
    run_id             text NOT NULL,
    spawn_key          text NOT NULL,
    parent_id          text NOT NULL,
    PRIMARY KEY (run_id, spawn_key)
);
CREATE INDEX adoption_of_parent ON adoption (parent_id, spawn_key);

CREATE TABLE attempt (
    run_id             text NOT NULL,
    number             integer NOT NULL CHECK (number >= 1),
    outcome            text NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'completed', 'failed', 'canceled')),
    worker_id          text NOT NULL,                                    -- the last one that worked on it
    started_at         timestamptz NOT NULL,
    ended_at           timestamptz,
    failure            jsonb,
    retry_after        double precision,
    PRIMARY KEY (run_id, number),
    CHECK ((outcome = 'open') = (ended_at IS NULL)),
    CHECK ((outcome = 'failed') = (failure IS NOT NULL))
) WITH (fillfactor = 45);

CREATE TABLE event (
    run_id             text NOT NULL,
    seq                bigint GENERATED ALWAYS AS IDENTITY,
    at                 timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind               text NOT NULL,
    data               jsonb NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE run_log (
    run_id             text NOT NULL,
    seq                bigint GENERATED ALWAYS AS IDENTITY,
    attempt            integer NOT NULL,
    at                 double precision NOT NULL,
    level              text NOT NULL,
    stream             text NOT NULL,
    logger             text NOT NULL,
    step               text NOT NULL,
    message            text NOT NULL,
    attributes         jsonb NOT NULL,
    digest             bytea NOT NULL,                                   -- a line sent again is not a second line
    PRIMARY KEY (run_id, seq),
    UNIQUE (run_id, digest)
);

-- ── one call, one run ──────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE idempotency (
    environment_id     text NOT NULL,
    task_id            text NOT NULL,
    key                text NOT NULL CHECK (key <> ''),
    run_id             text NOT NULL,
    payload_hash       bytea NOT NULL,
    expires_at         timestamptz NOT NULL,
    PRIMARY KEY (environment_id, task_id, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE request_key (
    environment_id     text NOT NULL,
    task_id            text NOT NULL,
    key                text NOT NULL CHECK (key <> ''),
    run_id             text NOT NULL,
    expires_at         timestamptz NOT NULL,
    PRIMARY KEY (environment_id, task_id, key)
);
CREATE INDEX request_key_expiry ON request_key (expires_at);

-- What is known of the keys of admission rules; the moments are seconds since the epoch, as in `checkpoint`.
CREATE TABLE admission (
    environment_id     text NOT NULL,
    task_id            text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('unique', 'debounce', 'singleton', 'throttle', 'batch')),
    key                text NOT NULL,
    run_id             text,                                             -- stands for the key
    since              double precision NOT NULL DEFAULT 0,
    until              double precision NOT NULL DEFAULT 0,
    marks              double precision[] NOT NULL DEFAULT '{}',         -- throttle: when its runs were made
    size               integer NOT NULL DEFAULT 0,                       -- batch: runs that wait to be collected, at most
    waiting            boolean NOT NULL DEFAULT false,                   -- there may be rows of `held`
    look_at            double precision NOT NULL,                        -- when it may have become useless
    PRIMARY KEY (environment_id, task_id, kind, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX admission_waiting ON admission (environment_id, task_id, kind, key) WHERE waiting;
CREATE INDEX admission_useless ON admission (look_at);

-- Runs that are delayed until it is their turn, in this order; those of a batch stay, to tell of their collector.
CREATE TABLE held (
    run_id             text PRIMARY KEY,
    environment_id     text NOT NULL,
    task_id            text NOT NULL,
    kind               text NOT NULL CHECK (kind IN ('singleton', 'batch')),
    key                text NOT NULL,
    number             bigint NOT NULL,
    collector_id       text,                                             -- batch: the run that has its payload
    place              integer,                                          -- in the collector's list, from 0
    over               boolean NOT NULL DEFAULT false,                   -- what came of the collector was given out
    CHECK ((collector_id IS NULL) = (place IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX held_in_order ON held (environment_id, task_id, kind, key, number) WHERE collector_id IS NULL;
CREATE UNIQUE INDEX held_collected ON held (collector_id, place) WHERE collector_id IS NOT NULL;
CREATE INDEX held_open ON held (collector_id) WHERE place = 0 AND NOT over;

-- Items of a batch for which no run was made: refused ones, and those that led to a run which was there.
CREATE TABLE batch_item (
    batch_id           text NOT NULL,
    index              integer NOT NULL CHECK (index >= 0),
    task_id            text NOT NULL,
    run_id             text,
    error_code         text,
    error              text,
    PRIMARY KEY (batch_id, index),
    CHECK ((run_id IS NULL) = (error IS NOT NULL)),
    CHECK ((error IS NULL) = (error_code IS NULL))
);

-- ── schedules ──────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE schedule (
    id                 text PRIMARY KEY,
    environment_id     text NOT NULL REFERENCES environment,
    key                text NOT NULL CHECK (key <> ''),
    task_id            text NOT NULL,
    origin             text NOT NULL CHECK (origin IN ('code', 'api')),
    declaration        jsonb NOT NULL,                                   -- ScheduleDeclaration
    active             boolean NOT NULL DEFAULT true,
    paused_because     text,
    -- Seconds since the epoch, to the last bit: a tick is compared with what the timetable says.
    next_tick          double precision,                                 -- null: none any more
    last_tick          double precision,
    buffered           double precision,                                 -- a tick that waits for the end of last_run_id
    look_at            double precision,                                 -- when there is something to do; null: never
    last_run_id        text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (environment_id, key),
    FOREIGN KEY (environment_id, task_id) REFERENCES task,
    CHECK (active = (paused_because IS NULL)),
    CHECK (active OR look_at IS NULL)
) WITH (fillfactor = 50);
CREATE INDEX schedule_due ON schedule (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX schedule_of_task ON schedule (environment_id, task_id);

CREATE TABLE tick (                                                      -- each tick once, over any number of servers
    schedule_id        text NOT NULL REFERENCES schedule ON DELETE CASCADE,
    at                 double precision NOT NULL,
    outcome            text NOT NULL CHECK (outcome IN ('triggered', 'skipped', 'missed', 'refused')),
    run_id             text,
    reason             text,
    until              double precision,                                 -- the last of several that were missed
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schedule_id, at),
    CHECK ((outcome = 'triggered') = (run_id IS NOT NULL))
);

-- ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

-- A run without its payload and output, which may be large.
CREATE VIEW run_summary AS
SELECT id, environment_id, number, task_id, queue, status, ended_badly_as, failure, cancel_reason, cancel_requested_at,
       not_undone, error_group, parent_id, root_id, depth, spawn_key, child_index, batch_id, batch_index, forked_from,
       forked_seq, concurrency_key, priority, max_attempts, max_duration, ttl, tags, metadata, idempotency_key, trigger_function, traceparent, test, attempt, crashes,
       executed, lease_epoch, created_at, updated_at, delayed_until, expires_at, started_at, finished_at, reviewed_at
FROM run;

-- All items of batches, with the runs that they led to.
CREATE VIEW batched AS
SELECT batch_id, batch_index AS index, task_id, id AS run_id, NULL AS error_code, NULL AS error, status, ended_as,
       output, output_type, failure, finished_at
FROM run WHERE batch_id IS NOT NULL
UNION ALL
SELECT item.batch_id, item.index, item.task_id, item.run_id, item.error_code, item.error, run.status, run.ended_as,
       run.output, run.output_type, run.failure, run.finished_at
FROM batch_item AS item LEFT JOIN run ON run.id = ANY(ARRAY[item.run_id]);

-- What each run that has not ended stands in, by status: how lists of such runs find them.
CREATE VIEW living AS
SELECT run_id, 'queued' AS status FROM ready
UNION ALL SELECT run_id, 'delayed' FROM delayed
UNION ALL SELECT run_id, 'executing' FROM lease
UNION ALL SELECT run_id, 'waiting' FROM wait;

-- ── the promise that no run is stuck ───────────────────────────────────────────────────────────────────────────────

-- Runs without exactly the one wake-up reason that their status calls for. Empty, always; never not empty twice.
CREATE VIEW run_without_wakeup AS
SELECT id, environment_id, status, has
FROM (
    SELECT run.id, run.environment_id, run.status, run.lease_epoch, concat_ws(' ',
               CASE WHEN EXISTS (SELECT FROM ready WHERE run_id = run.id) THEN 'queued' END,
               CASE WHEN EXISTS (SELECT FROM delayed WHERE run_id = run.id) THEN 'delayed' END,
               CASE WHEN EXISTS (SELECT FROM lease WHERE run_id = run.id AND epoch = run.lease_epoch
                                 AND worker_id = run.worker_id) THEN 'executing' END,
               CASE WHEN EXISTS (SELECT FROM wait WHERE run_id = run.id) THEN 'waiting' END) AS has
    FROM run
) AS reason
WHERE has <> CASE WHEN status IN ('completed', 'failed', 'canceled', 'expired') THEN '' ELSE status END;

-- ── for programs that trigger within their own transaction ─────────────────────────────────────────────────────────

-- Triggers a run as part of the caller's transaction: it is there once that commits, and never was if it does not.
-- Returns its id, or that of the run which has the idempotency key. options: queue, concurrency_key, priority, delay, ttl,
-- idempotency_key, idempotency_key_ttl, max_attempts, max_duration, tags, metadata, test; durations are seconds or texts
-- such as "1h30m", delay may also be a moment. environment: its name or id, or the SHA-256 in hex of one of its API keys;
-- null if there is only one. Runs with the rights of its owner; docs/guide/admission.md says how to grant it.
CREATE FUNCTION stepwell_trigger(task text, payload json DEFAULT '{}', options jsonb DEFAULT '{}',
                                 environment text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    task_name    ALIAS FOR $1;
    given        ALIAS FOR $3;
    asked        ALIAS FOR $4;
    at           timestamptz := clock_timestamp();
    environments text[];
    environment  text;
    declared     jsonb;
    queue_name   text;
    digest       bytea := sha256(convert_to(E'application/json\n' || $2::text, 'UTF8'));
    given_key    text := given ->> 'idempotency_key';
    wrong        text;
    words        text[];
    due          timestamptz;
    new_run      text;
    known_run    text;
    known_digest bytea;
    new_number   bigint;
BEGIN
    SELECT array_agg(e.id) INTO environments FROM environment AS e
    WHERE asked IS NULL OR e.slug = asked OR e.id = asked
        OR length(asked) = 64 AND e.id = (SELECT k.environment_id FROM api_key AS k
            WHERE encode(k.hash, 'hex') = asked AND k.revoked_at IS NULL AND coalesce(k.expires_at > at, true));
    IF coalesce(cardinality(environments), 0) <> 1 THEN
        RAISE EXCEPTION 'there is no environment %', coalesce(quote_literal(left(asked, 80)), 'named, and not just one')
            USING ERRCODE = 'SW404', DETAIL = 'environment-not-found', HINT = 'name one of: ' ||
                coalesce((SELECT string_agg(e.slug, ', ' ORDER BY e.slug) FROM environment AS e), 'none is there yet');
    END IF;
    environment := environments[1];

    SELECT t.declaration, t.queue INTO declared, queue_name FROM task AS t
    WHERE t.environment_id = environment AND t.id = task_name;
    IF declared IS NULL THEN
        RAISE EXCEPTION 'there is no task %', quote_literal(left(task_name, 80)) USING ERRCODE = 'SW404',
            DETAIL = 'task-not-found', HINT = 'start a worker whose modules declare it';
    END IF;
    IF nullif(declared -> 'admission', 'null') IS NOT NULL THEN
        RAISE EXCEPTION 'task % has rules of admission, which the server decides', quote_literal(task_name)
            USING ERRCODE = 'SW422', DETAIL = 'invalid-request', HINT = 'trigger it by the API, after the commit';
    END IF;
    IF given ->> 'queue' IS NOT NULL THEN
        queue_name := given ->> 'queue';
        IF NOT EXISTS (SELECT FROM queue AS q WHERE q.environment_id = environment AND q.name = queue_name) THEN
            RAISE EXCEPTION 'there is no queue %', quote_literal(left(queue_name, 80)) USING ERRCODE = 'SW404',
                DETAIL = 'queue-not-found', HINT = 'declare it with queue(...) in a worker''s modules';
        END IF;
    END IF;

    IF (SELECT coalesce(q.max_length_override, q.max_length) <= (SELECT count(*) FROM ready AS r WHERE r.environment_id = environment AND r.queue = queue_name)
        FROM queue AS q WHERE q.environment_id = environment AND q.name = queue_name) THEN
        RAISE EXCEPTION 'the queue % is full', quote_literal(queue_name)
            USING ERRCODE = 'SW429', DETAIL = 'queue-full', HINT = 'trigger it later';
    END IF;

    SELECT string_agg(name, ', ') INTO wrong FROM jsonb_object_keys(given) AS name
    WHERE name NOT IN ('queue', 'concurrency_key', 'priority', 'delay', 'ttl', 'idempotency_key', 'idempotency_key_ttl',
                       'max_attempts', 'max_duration', 'tags', 'metadata', 'test');
    words := array(SELECT jsonb_array_elements_text(coalesce(nullif(given -> 'tags', 'null'), '[]')));
    IF wrong IS NULL THEN
        SELECT name INTO wrong FROM (
            SELECT 'tags' AS name, unnest(words) AS word
            UNION ALL SELECT 'idempotency_key', given_key UNION ALL SELECT 'concurrency_key', given ->> 'concurrency_key'
        ) AS each WHERE word = '' OR length(word) > 512 OR word ~ '[[:cntrl:]]' LIMIT 1;
    END IF;
    IF wrong IS NOT NULL OR cardinality(words) > 50 OR octet_length($2::text) > 10000000
       OR coalesce(jsonb_typeof(nullif(given -> 'metadata', 'null')), 'object') <> 'object' THEN
        RAISE EXCEPTION 'trigger of %: wrong options or sizes: %', task_name, coalesce(wrong, 'tags, metadata or payload')
            USING ERRCODE = 'SW422', DETAIL = 'invalid-request', HINT = 'known options, texts of 1 to 512 characters, '
                '50 tags, a payload of 10 MB at most, metadata that is an object';
    END IF;

    SELECT min(f.source) INTO wrong FROM jsonb_array_elements(declared -> 'cancel_on') AS rule,
        jsonb_each_text(rule -> 'payload') AS f (path, source)
    WHERE $2 #> string_to_array(f.source, '.') IS NULL AND NOT rule -> 'defaults' ? f.path;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the payload does not fit task %: % is missing, and an event cancels the run by it',
            quote_literal(task_name), quote_literal(wrong) USING ERRCODE = 'SW422', DETAIL = 'payload-invalid',
            HINT = 'send it, or have the task match by another field';
    END IF;

    new_run := 'run_' || stepwell_new_id(at);
    IF given_key IS NOT NULL THEN
        FOR round IN 1..3 LOOP
            INSERT INTO idempotency AS i (environment_id, task_id, key, run_id, payload_hash, expires_at)
            VALUES (environment, task_name, given_key, new_run, digest,
                    at + coalesce(stepwell_seconds(given -> 'idempotency_key_ttl'), interval '30 days'))
            ON CONFLICT ON CONSTRAINT idempotency_pkey DO UPDATE
            SET run_id = excluded.run_id, payload_hash = excluded.payload_hash, expires_at = excluded.expires_at
            WHERE i.expires_at <= at;
            SELECT i.run_id, i.payload_hash INTO known_run, known_digest FROM idempotency AS i
            WHERE i.environment_id = environment AND i.task_id = task_name AND i.key = given_key;
            EXIT WHEN known_run IS NOT NULL;
        END LOOP;
        IF known_run IS DISTINCT FROM new_run AND known_digest IS DISTINCT FROM digest THEN
            RAISE EXCEPTION 'idempotency key % of task % belongs to %, which was triggered with another payload',
                quote_literal(given_key), quote_literal(task_name), known_run USING ERRCODE = 'SW409',
                DETAIL = 'idempotency-conflict', HINT = 'use a key that changes with the payload';
        ELSIF known_run IS DISTINCT FROM new_run THEN
            RETURN known_run;
        END IF;
    END IF;

    IF given ->> 'delay' ~ '^\d{4}-\d\d-\d\d' THEN
        due := (given ->> 'delay')::timestamptz;
    ELSE
        due := at + stepwell_seconds(given -> 'delay');
    END IF;
    INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id, concurrency_key, priority,
                     max_attempts, max_duration, ttl, tags, metadata, idempotency_key, trigger_function, test, created_at,
                     updated_at, delayed_until, expires_at)
    SELECT new_run, environment, task_name, queue_name, CASE WHEN due > at THEN 'delayed' ELSE 'queued' END,
           convert_to($2::text, 'UTF8'), 'application/json', new_run, given ->> 'concurrency_key',
           coalesce(given ->> 'priority', declared ->> 'priority', '0')::integer,
           coalesce(given ->> 'max_attempts', declared #>> '{retry,max_attempts}', '3')::integer,
           coalesce(extract(epoch FROM stepwell_seconds(given -> 'max_duration')), (declared ->> 'max_duration')::float8),
           lives, array(SELECT tag FROM unnest(
               array(SELECT jsonb_array_elements_text(declared -> 'tags')) || words) WITH ORDINALITY AS t (tag, place)
               GROUP BY tag ORDER BY min(place)),
           convert_to(nullif(given -> 'metadata', 'null')::text, 'UTF8'), given_key, 'trigger',
           coalesce(given ->> 'test', 'false')::boolean, at, at, due, coalesce(greatest(due, at), at) + lives * interval '1 s'
    FROM (SELECT coalesce(extract(epoch FROM stepwell_seconds(given -> 'ttl')), (declared ->> 'ttl')::float8) AS lives) AS ttl
    RETURNING run.number INTO new_number;
    IF given ->> 'concurrency_key' IS NOT NULL AND NOT coalesce(due > at, false) THEN
        LOOP  -- until its lane is there and stays: an emptied one may be removed at any moment
            INSERT INTO lane (environment_id, queue, task_id, resumed, key, virtual_time)
            SELECT environment, queue_name, task_name, false, given ->> 'concurrency_key', greatest(q.virtual_time, (
                       SELECT max(l.virtual_time) FROM lane AS l
                       WHERE l.environment_id = environment AND l.queue = queue_name
                         AND l.key = given ->> 'concurrency_key'))
            FROM queue AS q WHERE q.environment_id = environment AND q.name = queue_name
            ON CONFLICT DO NOTHING;
            PERFORM FROM lane AS l
            WHERE l.environment_id = environment AND l.queue = queue_name AND l.task_id = task_name AND NOT l.resumed
              AND l.key = given ->> 'concurrency_key' FOR KEY SHARE;
            EXIT WHEN FOUND;
        END LOOP;
    END IF;
    INSERT INTO ready (run_id, environment_id, queue, task_id, key, resumed, rank, number, expires_at)
    SELECT r.id, r.environment_id, r.queue, r.task_id, r.concurrency_key, false,
           coalesce(r.delayed_until, r.created_at) - make_interval(secs => r.priority), r.number, r.expires_at
    FROM run AS r WHERE r.id = new_run AND r.status = 'queued';
    INSERT INTO delayed (run_id, due_at) SELECT r.id, r.delayed_until FROM run AS r WHERE r.id = new_run AND r.status = 'delayed';
    INSERT INTO cancel_on (run_id, place, environment_id, name, match)
    SELECT new_run, r.place - 1, environment, r.rule ->> 'name', (r.rule -> 'match') || coalesce((
               SELECT jsonb_object_agg(f.path, coalesce(($2 #> string_to_array(f.source, '.'))::jsonb,
                                                        r.rule #> ARRAY['defaults', f.path]))
               FROM jsonb_each_text(r.rule -> 'payload') AS f (path, source)), '{}')
    FROM jsonb_array_elements(declared -> 'cancel_on') WITH ORDINALITY AS r (rule, place);
    INSERT INTO event (run_id, kind, data)
    VALUES (new_run, 'triggered', jsonb_strip_nulls(jsonb_build_object('delayed_until', due)));
    PERFORM pg_notify('stepwell_ready', 'sql ' || environment);  -- sent with the caller's commit, dropped with its rollback
    RETURN new_run;
END $$;

-- An id of the time `at` and 80 random bits in Crockford's base 32, as primitives/ids.py makes them.
CREATE FUNCTION stepwell_new_id(at timestamptz) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', substr(bits, place * 5 + 1, 5)::bit(5)::integer + 1, 1),
                      '' ORDER BY place)
    FROM (SELECT '00' || floor(extract(epoch FROM at) * 1000)::bigint::bit(48)::text
                 || ('x' || substr(encode(sha256(uuid_send(gen_random_uuid())), 'hex'), 1, 20))::bit(80)::text AS bits) AS made,
         generate_series(0, 25) AS place
$$;

-- Seconds, or a text such as "1h30m". Null of nothing.
CREATE FUNCTION stepwell_seconds(given jsonb) RETURNS interval LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    found interval := CASE WHEN jsonb_typeof(given) = 'number' THEN (given #>> '{}')::float8 * interval '1 s'
                           ELSE (given #>> '{}')::interval END;
BEGIN
    IF found < interval '0' OR found > interval '100 years' THEN
        RAISE EXCEPTION 'a duration of %', given USING ERRCODE = 'SW422', DETAIL = 'invalid-request',
            HINT = '0 seconds to 100 years';
    END IF;
    RETURN found;
END $$;

-- They see the tables beside which they stand, whatever the caller's search_path. Nobody may call what is not granted.
DO $$
DECLARE each regprocedure;
BEGIN
    FOREACH each IN ARRAY ARRAY['stepwell_trigger(text,json,jsonb,text)', 'stepwell_new_id(timestamptz)',
                                'stepwell_seconds(jsonb)']::regprocedure[] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', each, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', each);
    END LOOP;
END $$;
