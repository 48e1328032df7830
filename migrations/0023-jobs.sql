-- depends: 0020-views 0021-review
--
-- Background jobs: exports, imports, mass actions, runs (billing/work/jobs). A job is queued in the transaction of its cause and
-- done by some process of the role `jobs`.

-- attempt: how often a process began it; with it a process proves that the job is still its own (a fence): one whose job
-- was taken over writes nothing more. beat: raised by the process that is at it; a beat that stands still for lease_s, by
-- the clock of the process that watches, means that nobody is at it. claim: the process's name for its attempt.
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind ~ '^[a-z_]+(\.[a-z_]+)*$' AND length(kind) <= 60),
    key text UNIQUE CHECK (length(key) BETWEEN 1 AND 200),        -- acts once while the row is kept
    arguments jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(arguments) = 'object'),
    queue text NOT NULL DEFAULT 'main' CHECK (queue ~ '^[a-z_]{1,30}$'),
    priority smallint NOT NULL DEFAULT 0,                          -- higher ones first
    asked_by text NOT NULL CHECK (length(asked_by) BETWEEN 1 AND 200),
    asked_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempt integer NOT NULL DEFAULT 0,
    errors smallint NOT NULL DEFAULT 0,                            -- of attempts since a person last asked for it
    interruptions smallint NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    claim text NOT NULL DEFAULT '',
    lease_s integer NOT NULL DEFAULT 0,
    beat bigint NOT NULL DEFAULT 0,
    beat_at timestamptz,
    started_at timestamptz,                                        -- of the last attempt
    finished_at timestamptz,
    cancel_by text NOT NULL DEFAULT '',
    cancel_at timestamptz,
    done bigint NOT NULL DEFAULT 0 CHECK (done >= 0),
    total bigint CHECK (total >= 0),
    doing text NOT NULL DEFAULT '' CHECK (length(doing) <= 200),
    failure text NOT NULL DEFAULT '' CHECK (failure IN ('', 'refused', 'error', 'silent', 'interrupted')),
    message text NOT NULL DEFAULT '' CHECK (length(message) <= 2000),
    saved jsonb,                                                   -- where the next attempt goes on
    result jsonb,
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'running' OR (attempt > 0 AND beat_at IS NOT NULL AND started_at IS NOT NULL AND claim <> '')),
    CHECK ((state = 'failed') <= (failure <> '')),
    CHECK ((cancel_at IS NULL) = (cancel_by = ''))
) WITH (fillfactor = 70);
CREATE INDEX jobs_queued ON jobs (priority DESC, due_at, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_asked_by ON jobs (asked_by, id);
CREATE INDEX jobs_kind ON jobs (kind, id);
CREATE INDEX jobs_claim ON jobs (claim) WHERE state = 'running';

-- What happened to a job, and what its work says; the newest lines are kept. event: what the machinery did, empty for a
-- line of the work.
CREATE TABLE job_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt integer NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event text NOT NULL DEFAULT '' CHECK (length(event) <= 30),
    line text NOT NULL CHECK (length(line) <= 1000)
);
CREATE INDEX job_log_job ON job_log (job_id, id);

-- What a mass action did to each of its objects. ref: the object, as its job's kind names it; written again, it is replaced.
CREATE TABLE job_rows (
    job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ref text NOT NULL CHECK (length(ref) BETWEEN 1 AND 200),
    no bigint GENERATED ALWAYS AS IDENTITY,
    label text NOT NULL DEFAULT '' CHECK (length(label) <= 300),   -- for people: a number, a name
    outcome text NOT NULL CHECK (outcome IN ('done', 'skipped', 'refused', 'failed')),
    detail text NOT NULL DEFAULT '' CHECK (length(detail) <= 1000),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_id, ref)
);
CREATE INDEX job_rows_order ON job_rows (job_id, no);
CREATE INDEX job_rows_outcome ON job_rows (job_id, outcome, no);

-- Files that a job was given and that it made, in parts, so that any host serves what any other one made. Those of an
-- attempt that did not end well are deleted. dropped_at: its content was deleted, by age.
CREATE TABLE job_files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    purpose text NOT NULL CHECK (purpose IN ('input', 'result')),
    attempt integer NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    media_type text NOT NULL CHECK (length(media_type) BETWEEN 3 AND 100),
    size_bytes bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    is_complete boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    dropped_at timestamptz
);
CREATE INDEX job_files_job ON job_files (job_id, id);
CREATE INDEX job_files_expiry ON job_files (expires_at) WHERE dropped_at IS NULL;

CREATE TABLE job_file_parts (
    file_id bigint NOT NULL REFERENCES job_files ON DELETE CASCADE,
    no integer NOT NULL CHECK (no >= 0),
    content bytea NOT NULL,
    PRIMARY KEY (file_id, no)
);

GRANT SELECT, DELETE, INSERT (kind, key, arguments, queue, priority, asked_by, due_at),
    UPDATE (due_at, state, attempt, errors, interruptions, worker, claim, lease_s, beat, beat_at, started_at, finished_at,
            cancel_by, cancel_at, done, total, doing, failure, message, saved, result) ON jobs TO kopeck_app;
GRANT SELECT, DELETE, INSERT (job_id, attempt, event, line) ON job_log TO kopeck_app;
GRANT SELECT, DELETE, INSERT (job_id, ref, label, outcome, detail), UPDATE (label, outcome, detail, at) ON job_rows
    TO kopeck_app;
GRANT SELECT, DELETE, INSERT (job_id, purpose, attempt, name, media_type, is_complete),
    UPDATE (size_bytes, is_complete, expires_at, dropped_at) ON job_files TO kopeck_app;
GRANT SELECT, DELETE, INSERT ON job_file_parts TO kopeck_app;
