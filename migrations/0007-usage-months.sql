-- depends: 0006-billing
--
-- Statement triggers of a partitioned table do not reach who writes to a partition by its own name, so every month of
-- usage gets its own: those that stand, and those that are made from now on.

CREATE FUNCTION keep_usage_month(name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER usage_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
                    FOR EACH STATEMENT EXECUTE FUNCTION append_only()', name);
END
$$;
REVOKE ALL ON FUNCTION keep_usage_month(regclass) FROM PUBLIC;

SELECT keep_usage_month(inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'usage_events'::regclass;

CREATE OR REPLACE FUNCTION usage_month(month_start timestamptz) RETURNS void
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
        PERFORM keep_usage_month(name::regclass);
    END IF;
END
$$;
