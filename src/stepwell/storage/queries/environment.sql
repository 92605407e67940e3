-- name: ensure
-- Makes the environment unless there is one of this slug. $1 id, $2 slug, $3 signing secret.
INSERT INTO environment (id, slug, signing_secret) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING

-- name: by_slug
-- The environment with this slug.
SELECT * FROM environment WHERE slug = $1

-- name: by_id
-- The environment with this id.
SELECT * FROM environment WHERE id = $1

-- name: all
-- All environments, oldest first.
SELECT * FROM environment ORDER BY created_at, id

-- name: set_limit
-- Sets how many runs of the environment may execute at once. $2 null: no limit. $3 the burst factor, null: as it is.
UPDATE environment SET concurrency_limit = $2, burst_factor = coalesce($3, burst_factor) WHERE id = $1

-- name: set_paused
-- Stops or resumes claiming in the environment.
UPDATE environment SET paused = $2 WHERE id = $1

-- name: insert_key
-- Stores a new key's hash. $1 id, $2 environment, $3 name, $4 hash, $5 hint, $6 expires_at.
INSERT INTO api_key (id, environment_id, name, hash, hint, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING *

-- name: by_key_hash
-- The environment of a valid key, with the hash to compare again in constant time.
SELECT api_key.hash, environment.*
FROM api_key JOIN environment ON environment.id = api_key.environment_id
WHERE api_key.hash = $1 AND api_key.revoked_at IS NULL
  AND (api_key.expires_at IS NULL OR api_key.expires_at > clock_timestamp())

-- name: key_used
-- Notes that a key was used, at most once a minute.
UPDATE api_key SET last_used_at = clock_timestamp()
WHERE hash = $1 AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')

-- name: keys_of
-- The keys of an environment, newest first, as they may be shown.
SELECT * FROM api_key WHERE environment_id = $1 ORDER BY created_at DESC, id

-- name: revoke_key
-- Ends a key at once.
UPDATE api_key SET revoked_at = clock_timestamp() WHERE environment_id = $1 AND id = $2 AND revoked_at IS NULL
