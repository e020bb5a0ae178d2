-- name: lock_schema
SELECT pg_advisory_xact_lock(hashtextextended('homeroom.bus', 0));

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS bus;

CREATE TABLE IF NOT EXISTS bus.topics (
    name              text COLLATE "C" PRIMARY KEY,
    partitions        integer NOT NULL,
    retention_seconds bigint  NOT NULL,
    compacted         boolean NOT NULL
);

-- A shard is one partition of one topic. Whoever publishes holds its row until the commit, so the order of commits
-- is the order of offsets and a reader that has seen offset n has seen all below n.
CREATE TABLE IF NOT EXISTS bus.shards (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic        text COLLATE "C" NOT NULL REFERENCES bus.topics,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL DEFAULT 0,
    next_offset  bigint NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS bus.messages (
    shard    integer NOT NULL,
    "offset" bigint NOT NULL,
    key      text COLLATE "C" NOT NULL,
    value    bytea STORAGE EXTERNAL NOT NULL,
    headers  text NOT NULL,
    sent_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, "offset")
);
CREATE TABLE IF NOT EXISTS bus.groups (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS bus.progress (
    group_id    integer NOT NULL REFERENCES bus.groups,
    shard       integer NOT NULL REFERENCES bus.shards,
    next_offset bigint NOT NULL,
    PRIMARY KEY (group_id, shard)
) WITH (fillfactor = 50);

-- A member is the connection that holds its locks: process id and start of its server process.
CREATE TABLE IF NOT EXISTS bus.members (
    id            uuid PRIMARY KEY,
    group_id      integer NOT NULL REFERENCES bus.groups,
    topics        text[] NOT NULL,
    pid           integer NOT NULL,
    backend_start timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL
) WITH (fillfactor = 50);

-- name: add_topic
WITH added AS (
    INSERT INTO bus.topics (name, partitions, retention_seconds, compacted)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO NOTHING
    RETURNING name, partitions
)
INSERT INTO bus.shards (topic, partition)
SELECT name, generate_series(0, partitions - 1) FROM added;

-- name: shards_of
SELECT id, topic, partition, next_offset FROM bus.shards WHERE topic = ANY ($1) ORDER BY topic, partition;

-- name: positions_of
SELECT id, topic, partition, first_offset, next_offset FROM bus.shards WHERE topic = ANY ($1) ORDER BY topic, partition;

-- name: reserve
WITH wanted AS (
    SELECT id, amount FROM unnest($1::integer[], $2::bigint[]) AS wanted (id, amount)
), held AS MATERIALIZED (
    SELECT id FROM bus.shards WHERE id = ANY ($1) ORDER BY id FOR UPDATE
), moved AS (
    UPDATE bus.shards SET next_offset = next_offset + amount
    FROM wanted JOIN held USING (id)
    WHERE shards.id = wanted.id
    RETURNING shards.id, next_offset, next_offset - amount AS first_new
)
SELECT id, first_new, pg_notify($3, id || ' ' || next_offset) AS told, pg_current_xact_id()::text AS transaction_id
FROM moved;

-- name: outcome_of
SELECT pg_xact_status($1::text::xid8);

-- name: page
SELECT "offset", key, value, headers, sent_at
FROM (
    SELECT *, sum(octet_length(value)) OVER (ORDER BY "offset") - octet_length(value) AS bytes_before
    FROM (
        SELECT * FROM bus.messages WHERE shard = $1 AND "offset" >= $2 ORDER BY "offset" LIMIT $3
    ) AS next_ones
) AS measured
WHERE bytes_before < $4
ORDER BY "offset";

-- name: name_group
INSERT INTO bus.groups (name) VALUES ($1) ON CONFLICT (name) DO NOTHING;

-- name: group_id
SELECT id FROM bus.groups WHERE name = $1;

-- name: join
INSERT INTO bus.members (id, group_id, topics, pid, backend_start, seen_at)
SELECT $1, $2, $3, pid, backend_start, clock_timestamp() FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- name: leave
DELETE FROM bus.members WHERE id = $1;

-- name: beat
UPDATE bus.members SET seen_at = clock_timestamp() WHERE id = $1 RETURNING id;

-- name: stir
SELECT pg_notify($1, 'moved');

-- name: end_silent_members
-- A member that stopped saying that it is there is ended with its connection and with that its locks are free.
WITH silent AS (
    DELETE FROM bus.members
    WHERE group_id = $1 AND seen_at < clock_timestamp() - make_interval(secs => $2)
    RETURNING pid, backend_start
)
SELECT pg_terminate_backend(pid) FROM silent JOIN pg_stat_activity USING (pid, backend_start);

-- name: live_members
SELECT id, topics FROM bus.members JOIN pg_stat_activity USING (pid, backend_start) WHERE group_id = $1 ORDER BY id;

-- name: try_lock
SELECT pg_try_advisory_lock($1, $2);

-- name: unlock
SELECT pg_advisory_unlock($1, $2), pg_notify($3, 'moved');

-- name: begin_at
INSERT INTO bus.progress (group_id, shard, next_offset)
SELECT $1, id, CASE WHEN $3 THEN next_offset ELSE first_offset END FROM bus.shards WHERE id = $2
ON CONFLICT DO NOTHING;

-- name: progress
SELECT next_offset FROM bus.progress WHERE group_id = $1 AND shard = $2;

-- name: commit
UPDATE bus.progress SET next_offset = $3 WHERE group_id = $1 AND shard = $2;

-- name: lag
SELECT coalesce(sum(shards.next_offset - greatest(progress.next_offset, shards.first_offset)), 0)::bigint
FROM bus.shards
LEFT JOIN bus.progress
    ON progress.shard = shards.id AND progress.group_id = (SELECT id FROM bus.groups WHERE name = $1)
WHERE topic = ANY ($2);

-- name: try_to_keep
SELECT pg_try_advisory_lock(hashtextextended('homeroom.bus.keeper', 0));

-- name: kept
SELECT pg_advisory_unlock(hashtextextended('homeroom.bus.keeper', 0));

-- name: kept_shards
SELECT shards.id, topics.compacted FROM bus.shards JOIN bus.topics ON topics.name = shards.topic ORDER BY shards.id;

-- name: forget_old
-- Looks at the oldest messages only. Past the retention goes what every group has taken, past twice the retention all.
WITH kept AS (
    SELECT shards.id, retention_seconds,
           coalesce((SELECT min(progress.next_offset) FROM bus.progress WHERE shard = shards.id), next_offset) AS taken
    FROM bus.shards JOIN bus.topics ON topics.name = shards.topic
    WHERE shards.id = $1
), oldest AS (
    SELECT shard, "offset", sent_at FROM bus.messages WHERE shard = $1 ORDER BY "offset" LIMIT $2
), gone AS (
    DELETE FROM bus.messages USING oldest, kept
    WHERE messages.shard = oldest.shard AND messages."offset" = oldest."offset"
      AND (oldest.sent_at < now() - make_interval(secs => retention_seconds) AND oldest."offset" < taken
           OR oldest.sent_at < now() - make_interval(secs => 2 * retention_seconds))
    RETURNING messages."offset"
), moved AS (
    UPDATE bus.shards SET first_offset = (SELECT max("offset") + 1 FROM gone)
    WHERE id = $1 AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone;

-- name: compact
-- Keeps the newest message of each key, and drops an empty one (the key was deleted) when it is a day old.
DELETE FROM bus.messages
USING (
    SELECT key, max("offset") AS newest FROM bus.messages WHERE shard = $1 GROUP BY key
) AS last
WHERE shard = $1 AND messages.key = last.key
  AND (messages."offset" < newest AND sent_at < now() - make_interval(secs => $2)
       OR messages."offset" = newest AND value = '' AND sent_at < now() - interval '1 day');
