-- depends: 0023-jobs
--
-- Schedules: who starts the daily bill run, dunning, retention (billing/work/schedules). A planned instant of a schedule is
-- decided once, by one row, in the transaction that queues its job: over any number of hosts.

-- rule: a line of words (billing/work/schedules/rules.py) in a zone. missed: what becomes of instants at which nobody was
-- there to decide: none of them runs, one run stands for all, or the newest missed_max run one after another.
-- late_after_s: an instant decided later than that was missed. overlap: what becomes of an instant while an earlier run is
-- not over. decided_until: every planned instant through this one is decided. next_at: the one after it, NULL where there
-- is none or the schedule has a problem. version: raised by each change, so that a stale form is refused.
CREATE TABLE schedules (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,47}$'),
    kind text NOT NULL CHECK (kind ~ '^[a-z_]+(\.[a-z_]+)*$' AND length(kind) <= 60),
    arguments jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(arguments) = 'object'),
    rule text NOT NULL CHECK (length(rule) BETWEEN 1 AND 500),
    zone text NOT NULL CHECK (length(zone) BETWEEN 1 AND 64),
    clock_change text NOT NULL DEFAULT 'once' CHECK (clock_change IN ('once', 'as_shown')),
    missed text NOT NULL DEFAULT 'once' CHECK (missed IN ('skip', 'once', 'each')),
    missed_max smallint NOT NULL DEFAULT 7 CHECK (missed_max BETWEEN 1 AND 100),
    late_after_s integer NOT NULL DEFAULT 600 CHECK (late_after_s BETWEEN 60 AND 86400),
    overlap text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'queue')),
    stops_after timestamptz,
    state text NOT NULL DEFAULT 'on' CHECK (state IN ('on', 'paused', 'removed')),
    decided_until timestamptz NOT NULL,
    next_at timestamptz,
    problem text NOT NULL DEFAULT '' CHECK (length(problem) <= 500),
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    state_reason text NOT NULL DEFAULT '' CHECK (length(state_reason) <= 500),
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL CHECK (changed_by <> '')
);
-- A removed schedule keeps its runs and gives its name free.
CREATE UNIQUE INDEX schedules_name ON schedules (name) WHERE state <> 'removed';
CREATE INDEX schedules_next ON schedules (next_at) WHERE state = 'on';

-- A decision about a planned instant, or a run that a person asked for. origin: 'plan' or 'person'. decision: 'run' (job_id
-- is its job), 'queued' (it waits for the run before it), 'skipped'. reason: why, a word of billing/work/schedules/records.py.
-- stands_for: planned instants that this row decides; of several it is at the first. result: how the job ended, copied from
-- it, because finished jobs are deleted by age.
CREATE TABLE schedule_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id integer NOT NULL REFERENCES schedules,
    planned_at timestamptz NOT NULL,
    origin text NOT NULL DEFAULT 'plan' CHECK (origin IN ('plan', 'person')),
    decision text NOT NULL CHECK (decision IN ('run', 'queued', 'skipped')),
    reason text NOT NULL CHECK (reason ~ '^[a-z_]{1,30}$'),
    stands_for integer NOT NULL DEFAULT 1 CHECK (stands_for >= 1),
    request_key text CHECK (length(request_key) BETWEEN 1 AND 100),
    job_id bigint,
    decided_at timestamptz NOT NULL,
    decided_by text NOT NULL CHECK (decided_by <> ''),
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    result text CHECK (result IN ('done', 'failed', 'cancelled', 'lost')),
    started_at timestamptz,
    finished_at timestamptz,
    message text NOT NULL DEFAULT '' CHECK (length(message) <= 2000),
    CHECK ((decision = 'run') = (job_id IS NOT NULL)),
    CHECK (result IS NULL OR decision = 'run'),
    UNIQUE (schedule_id, request_key)
);
-- Once per planned instant. A person may ask at any instant, also at a planned one.
CREATE UNIQUE INDEX schedule_runs_once ON schedule_runs (schedule_id, planned_at) WHERE origin = 'plan';
CREATE INDEX schedule_runs_schedule ON schedule_runs (schedule_id, planned_at, id);
CREATE INDEX schedule_runs_open ON schedule_runs (schedule_id, planned_at)
    WHERE decision = 'queued' OR (decision = 'run' AND result IS NULL);
CREATE INDEX schedule_runs_job ON schedule_runs (job_id) WHERE job_id IS NOT NULL;

-- Schedules that came with the program and were offered once: one that was removed does not come back.
CREATE TABLE schedule_defaults (
    name text PRIMARY KEY,
    offered_at timestamptz NOT NULL DEFAULT now()
);

-- The calendar of working days: years that are loaded, and their days that are not what their day of the week says.
CREATE TABLE working_years (
    year smallint PRIMARY KEY CHECK (year BETWEEN 1990 AND 2100),
    file_name text NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    loaded_by text NOT NULL
);
CREATE TABLE special_days (
    day date PRIMARY KEY,
    year smallint NOT NULL REFERENCES working_years CHECK (year = extract(year FROM day)),
    is_working boolean NOT NULL,
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 200)
);
CREATE INDEX special_days_year ON special_days (year);

GRANT SELECT, INSERT, UPDATE ON schedules TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (decision, reason, stands_for, job_id, result, started_at, finished_at, message), DELETE
    ON schedule_runs TO kopeck_app;
GRANT SELECT, INSERT ON schedule_defaults TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (file_name, loaded_at, loaded_by) ON working_years TO kopeck_app;
GRANT SELECT, INSERT, DELETE ON special_days TO kopeck_app;
