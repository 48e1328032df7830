-- depends: 0004-catalogue
--
-- Usage: what subscribers used, read from files by mediation (docs/usage.md).
--
-- A source's key acts once. A unique key cannot live on a table partitioned by month, because uniqueness there would
-- hold within a month only; so usage_keys holds the keys and usage_events the events. Both are append-only: nothing
-- marks an event as billed, the period and the billing shard's record say it.
--
-- Partitions are by counts_at: the event's time, or, for a late event accepted after its period was closed, the first
-- instant of the open period. So the partitions of closed months never change again.

CREATE TABLE usage_sources (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$')
);

-- Events before open_from belong to closed periods; null: nothing is closed. One row. An import holds it FOR SHARE
-- until it commits, so closing waits for imports under way and later ones see it.
CREATE TABLE usage_open (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    open_from timestamptz
);
INSERT INTO usage_open DEFAULT VALUES;

CREATE FUNCTION usage_stays_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.open_from IS NOT NULL AND (NEW.open_from IS NULL OR NEW.open_from < OLD.open_from) THEN
        RAISE EXCEPTION 'usage is closed up to %, and what is closed stays closed', OLD.open_from;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER usage_stays_closed BEFORE UPDATE ON usage_open FOR EACH ROW EXECUTE FUNCTION usage_stays_closed();

CREATE TABLE usage_imports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id integer NOT NULL REFERENCES usage_sources,
    format_name text NOT NULL,
    format_text text NOT NULL,                        -- the format file of that time: rejects are re-fed by it
    file_name text NOT NULL,
    header text,                                      -- the header line, without which rejects could not be re-fed
    file_sha256 text CHECK (file_sha256 ~ '^[0-9a-f]{64}$'),
    refeeds_id bigint REFERENCES usage_imports,       -- the import whose rejects these lines are
    late text NOT NULL CHECK (late IN ('accept', 'reject')),
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    failure text,
    lines_count bigint NOT NULL DEFAULT 0,            -- of events, good or bad: not the header, nor blank lines
    accepted_count bigint NOT NULL DEFAULT 0,
    repeated_count bigint NOT NULL DEFAULT 0,
    rejected_count bigint NOT NULL DEFAULT 0,
    late_count bigint NOT NULL DEFAULT 0,             -- of those accepted
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK (state <> 'done' OR lines_count = accepted_count + repeated_count + rejected_count)
);
CREATE INDEX usage_imports_file ON usage_imports (source_id, file_sha256) WHERE state = 'done';

CREATE SEQUENCE usage_ids AS bigint CACHE 1000;

CREATE TABLE usage_keys (
    source_id integer NOT NULL,
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 512),
    usage_id bigint NOT NULL DEFAULT nextval('usage_ids'),
    counts_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, key)
);

CREATE TABLE usage_events (
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    item text NOT NULL,
    at timestamptz NOT NULL,
    counts_at timestamptz NOT NULL CHECK (counts_at >= at),
    quantity_micro bigint NOT NULL CHECK (quantity_micro >= 0),   -- millionths of the item's unit
    duration_s integer NOT NULL DEFAULT 0 CHECK (duration_s >= 0),
    destination text NOT NULL DEFAULT '',
    import_id bigint NOT NULL,
    line bigint NOT NULL,
    PRIMARY KEY (id, counts_at)
) PARTITION BY RANGE (counts_at);
CREATE INDEX usage_events_account ON usage_events (account_id, counts_at);

CREATE TRIGGER usage_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_events
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER usage_keys_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_keys
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The program's role owns no tables, so it asks for a month by this function. ATTACH, unlike CREATE ... PARTITION OF,
-- lets readers and writers of other months go on.
CREATE FUNCTION usage_month(month_start timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first timestamptz := date_trunc('month', month_start);
    name text := 'usage_events_' || to_char(first, 'YYYYMM');
BEGIN
    IF month_start < '2000-01-01' OR month_start > now() + interval '3 months' THEN
        RAISE EXCEPTION 'no usage is kept for %', month_start;
    END IF;
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- A lock of the table, and not an advisory one, because only taking it makes this session hear of tables that
    -- others made while it waited.
    LOCK TABLE usage_events IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       name, first, first + interval '1 month');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION usage_month(timestamptz) FROM PUBLIC;

-- A rejected line as it came, up to a bound, until a person has it corrected and fed again, or gives it up.
CREATE TABLE usage_rejects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    import_id bigint NOT NULL REFERENCES usage_imports,
    line bigint NOT NULL CHECK (line > 0),
    reason text NOT NULL,
    detail text NOT NULL,
    raw bytea NOT NULL,
    raw_is_cut boolean NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'refed', 'dropped')),
    refed_import_id bigint REFERENCES usage_imports,
    dropped_why text,
    actor text,
    changed_at timestamptz,
    UNIQUE (import_id, line),
    CHECK ((state = 'refed') = (refed_import_id IS NOT NULL)),
    CHECK ((state = 'dropped') = (dropped_why IS NOT NULL))
);
CREATE INDEX usage_rejects_open ON usage_rejects (import_id, line) WHERE state = 'open';
CREATE TRIGGER usage_rejects_are_kept BEFORE DELETE OR TRUNCATE ON usage_rejects
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

GRANT SELECT, INSERT ON usage_sources, usage_keys, usage_events TO kopeck_app;
GRANT SELECT, UPDATE ON usage_open TO kopeck_app;
GRANT USAGE ON SEQUENCE usage_ids TO kopeck_app;
GRANT EXECUTE ON FUNCTION usage_month(timestamptz) TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (header, file_sha256, state, failure, lines_count, accepted_count, repeated_count, rejected_count,
    late_count, finished_at) ON usage_imports TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (state, refed_import_id, dropped_why, actor, changed_at) ON usage_rejects TO kopeck_app;

-- Staging is a temporary table, and docs/operators.md takes that right from PUBLIC.
DO $$
BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO kopeck_app', current_database());
END
$$;
