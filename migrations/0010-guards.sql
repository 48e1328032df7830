-- depends: 0009-customers
--
-- What the program's role could do although it must not, and what the database did not hold although the documents say so.
--
-- 1. A function looks for tables in pg_temp first unless its search_path says otherwise, and the program may make
--    temporary tables. So a temporary table of a name that one of our functions reads deceived that function; one that it
--    writes to ran the program's trigger as the owner. Every function of a trigger and every SECURITY DEFINER function
--    therefore names its search_path, pg_temp last. `kopeck verify` looks for those that do not.
-- 2. Invoices, lines and periods are written by the transaction that begins their block, or by a run under way, and by
--    nobody afterwards. Runs and shards go forward only.
-- 3. The time and the number of what is evidence are the database's own.

-- ---- 1. functions

ALTER FUNCTION append_only() SET search_path = public, pg_temp;
ALTER FUNCTION accounts_floor_of_kind() SET search_path = public, pg_temp;
ALTER FUNCTION usage_stays_closed() SET search_path = public, pg_temp;
ALTER FUNCTION issued_stays() SET search_path = public, pg_temp;
ALTER FUNCTION settled_period_stays() SET search_path = public, pg_temp;
ALTER FUNCTION begun_series_stays() SET search_path = public, pg_temp;
-- keep_usage_month only makes triggers, but it runs as the owner.
ALTER FUNCTION keep_usage_month(regclass) SET search_path = public, pg_temp;

CREATE OR REPLACE FUNCTION bump_contracts_revision() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE public.contracts_revision SET revision = revision + 1;
    RETURN NULL;
END
$$;

-- A trigger's function needs no right of the role whose statement fires it.
REVOKE ALL ON FUNCTION append_only(), accounts_floor_of_kind(), bump_contracts_revision(), usage_stays_closed(),
    issued_stays(), issued_block_stays(), settled_period_stays(), ageing_lift(), begun_series_stays(), account_closes(),
    keep_legal_entity(), keep_customer(), keep_account_name() FROM PUBLIC;

-- Since PostgreSQL 15 this is the default. On 14 the schema belongs to the superuser, whom we then ask.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
DO $$
BEGIN
    IF has_schema_privilege('kopeck_app', 'public', 'CREATE') THEN
        RAISE EXCEPTION 'role kopeck_app may create tables and functions in schema public, and must not'
            USING HINT = 'As superuser, in this database: REVOKE CREATE ON SCHEMA public FROM PUBLIC, kopeck_app; '
                         'GRANT CREATE ON SCHEMA public TO the owner (docs/operators.md, Roles).';
    END IF;
END
$$;

-- ---- 2. invoices and the cycle

-- Which transaction wrote the block: a number of transactions begins anew where a database is restored, so the time too.
-- What stood before this migration has neither, and takes nothing more.
ALTER TABLE invoice_blocks ADD COLUMN written_in xid8, ADD COLUMN written_at timestamptz;

CREATE FUNCTION invoice_block_begins() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.written_in := pg_current_xact_id();
    NEW.written_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER invoice_blocks_begin BEFORE INSERT ON invoice_blocks
    FOR EACH ROW EXECUTE FUNCTION invoice_block_begins();

-- Once a statement, however many rows it has: a shard's invoices and lines come by one COPY each.
CREATE FUNCTION invoices_with_their_block() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    other bigint;
BEGIN
    SELECT m.block_id INTO other FROM (SELECT DISTINCT id >> 20 AS block_id FROM made) m
    WHERE NOT EXISTS (SELECT FROM public.invoice_blocks b
                      WHERE b.id = m.block_id AND b.written_in = pg_current_xact_id() AND b.written_at = now())
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invoices are written with their block: block % was not begun by this transaction', other
            USING HINT = 'A correction of an issued invoice is a credit note.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER invoices_with_block AFTER INSERT ON invoices REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_with_their_block();

CREATE FUNCTION lines_with_their_block() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    other bigint;
BEGIN
    SELECT m.block_id INTO other FROM (SELECT DISTINCT invoice_id >> 20 AS block_id FROM made) m
    WHERE NOT EXISTS (SELECT FROM public.invoice_blocks b
                      WHERE b.id = m.block_id AND b.written_in = pg_current_xact_id() AND b.written_at = now())
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'lines are written with their invoice: block % was not begun by this transaction', other
            USING HINT = 'A correction of an issued invoice is a credit note.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER invoice_lines_with_block AFTER INSERT ON invoice_lines REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION lines_with_their_block();

CREATE FUNCTION periods_of_running_run() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    other bigint;
BEGIN
    SELECT m.run_id INTO other FROM (SELECT DISTINCT run_id FROM made) m
    WHERE NOT EXISTS (SELECT FROM public.bill_runs r WHERE r.id = m.run_id AND r.state = 'running')
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'periods are recorded while their run is running, and run % is not', other;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER order_periods_of_run AFTER INSERT ON order_periods REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION periods_of_running_run();

-- As in 0006, and: a draft becomes posted or void, nothing else; void with its run alone.
CREATE OR REPLACE FUNCTION issued_block_stays() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state IN ('issued', 'void') OR NEW.id <> OLD.id OR NEW.series_id <> OLD.series_id
       OR NEW.invoices_count <> OLD.invoices_count OR (OLD.state = 'posted' AND NEW.state <> 'issued')
       OR (OLD.state = 'draft' AND NEW.state NOT IN ('draft', 'posted', 'void'))
       OR (NEW.run_id, NEW.shard_no, NEW.written_in, NEW.written_at)
          IS DISTINCT FROM (OLD.run_id, OLD.shard_no, OLD.written_in, OLD.written_at) THEN
        RAISE EXCEPTION 'invoice block % is % and stays so', OLD.id, OLD.state;
    END IF;
    IF NEW.state = 'void' AND NOT EXISTS (
        SELECT FROM public.bill_runs r WHERE r.id = NEW.run_id AND r.state = 'void') THEN
        RAISE EXCEPTION 'invoice block % is void only with its run', OLD.id;
    END IF;
    RETURN NEW;
END
$$;

-- The steps of a run. An approved or done run is never void or running again.
CREATE FUNCTION bill_run_steps() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'running' THEN
            RAISE EXCEPTION 'a billing run begins as running, not as %', NEW.state;
        END IF;
    ELSIF OLD.state IN ('done', 'void') THEN
        RAISE EXCEPTION 'billing run % is % and stays so', OLD.id, OLD.state;
    ELSIF (NEW.id, NEW.bill_on, NEW.kind, NEW.only_account_id) IS DISTINCT FROM
          (OLD.id, OLD.bill_on, OLD.kind, OLD.only_account_id) THEN
        RAISE EXCEPTION 'billing run % stays what it was planned to be', OLD.id;
    ELSIF NEW.state <> OLD.state AND (OLD.kind, OLD.state, NEW.state) NOT IN (
        ('post', 'running', 'done'),
        ('review', 'running', 'reviewed'), ('review', 'running', 'void'),
        ('review', 'reviewed', 'approving'), ('review', 'reviewed', 'void'),
        ('review', 'approving', 'done')) THEN
        RAISE EXCEPTION 'billing run % (%) does not go from % to %', OLD.id, OLD.kind, OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER bill_runs_steps BEFORE INSERT OR UPDATE ON bill_runs FOR EACH ROW EXECUTE FUNCTION bill_run_steps();

-- What a shard posted stays; what it drafted is posted as it is.
CREATE FUNCTION bill_shard_steps() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'due' THEN
            RAISE EXCEPTION 'a shard of a billing run begins as due, not as %', NEW.state;
        END IF;
    ELSIF OLD.state = 'posted' OR (OLD.state = 'drafted' AND NEW.state <> 'posted')
          OR (OLD.state = 'failed' AND NEW.state = 'due') THEN
        RAISE EXCEPTION 'shard % of billing run % is % and does not become %', OLD.shard_no, OLD.run_id, OLD.state,
            NEW.state;
    ELSIF (NEW.run_id, NEW.shard_no, NEW.first_account_id, NEW.last_account_id) IS DISTINCT FROM
          (OLD.run_id, OLD.shard_no, OLD.first_account_id, OLD.last_account_id) THEN
        RAISE EXCEPTION 'shard % of billing run % keeps its accounts', OLD.shard_no, OLD.run_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER bill_shards_steps BEFORE INSERT OR UPDATE ON bill_shards FOR EACH ROW EXECUTE FUNCTION bill_shard_steps();

CREATE FUNCTION series_goes_up() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'series % has given numbers up to %: its next number goes upwards only', OLD.prefix,
        OLD.next_number - 1;
END
$$;
CREATE TRIGGER invoice_series_upwards BEFORE UPDATE OF next_number ON invoice_series FOR EACH ROW
    WHEN (NEW.next_number < OLD.next_number) EXECUTE FUNCTION series_goes_up();

-- A settled order was billed to its end, and comes back only with the review that settled it, before that is void. The
-- condition is false for what the cycle settles, so it costs it one comparison a row.
CREATE FUNCTION order_stays_settled() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.settled_at IS NOT NULL OR NOT EXISTS (
        SELECT FROM public.bill_runs r
        WHERE r.kind = 'review' AND r.state IN ('running', 'reviewed') AND r.started_at <= OLD.settled_at) THEN
        RAISE EXCEPTION 'order % is settled and stays so', coalesce(OLD.number, '#' || OLD.id)
            USING HINT = 'Only `kopeck bill void-review` makes due again what its review settled.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER orders_stay_settled BEFORE UPDATE OF settled_at ON orders FOR EACH ROW
    WHEN (OLD.settled_at IS NOT NULL AND (NEW.settled_at IS NULL OR NEW.settled_at < OLD.settled_at))
    EXECUTE FUNCTION order_stays_settled();

CREATE TRIGGER orders_are_kept BEFORE DELETE OR TRUNCATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER bill_runs_are_kept BEFORE DELETE OR TRUNCATE ON bill_runs
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER bill_shards_are_kept BEFORE DELETE OR TRUNCATE ON bill_shards
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER bill_shard_totals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bill_shard_totals
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER bill_run_catalogues_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bill_run_catalogues
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER invoice_series_are_kept BEFORE DELETE OR TRUNCATE ON invoice_series
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER invoice_blocks_kept BEFORE TRUNCATE ON invoice_blocks
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

REVOKE ALL ON FUNCTION invoice_block_begins(), invoices_with_their_block(), lines_with_their_block(),
    periods_of_running_run(), bill_run_steps(), bill_shard_steps(), series_goes_up(), order_stays_settled() FROM PUBLIC;

-- ---- 3. evidence

-- Numbers and times of these rows come from the database, so the program cannot date them back.
REVOKE INSERT ON audit, transfers, manual_postings, contracts, credit_notes, partner_keys FROM kopeck_app;
GRANT INSERT (actor, action, object_kind, object_id, detail, remote_ip) ON audit TO kopeck_app;
GRANT INSERT (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency, corrects_id)
    ON transfers TO kopeck_app;
GRANT INSERT (key, actor, why) ON manual_postings TO kopeck_app;
GRANT INSERT (partner_id, version, body, created_by) ON contracts TO kopeck_app;
GRANT INSERT (invoice_id, key, actor, why) ON credit_notes TO kopeck_app;
GRANT INSERT (partner_id, purpose, material, valid_from, valid_to, created_by) ON partner_keys TO kopeck_app;

-- A key is retired by its end and stays on record; one that had not begun ends where it would have begun.
ALTER TABLE partner_keys DROP CONSTRAINT partner_keys_check,
    ADD CONSTRAINT partner_keys_end CHECK (valid_to >= valid_from);
REVOKE DELETE ON partner_keys FROM kopeck_app;
CREATE TRIGGER partner_keys_are_kept BEFORE DELETE OR TRUNCATE ON partner_keys
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Attempts are evidence too: what is younger than 30 days stays. In portions, so that no transaction is long.
REVOKE DELETE ON attempts FROM kopeck_app;
CREATE FUNCTION forget_attempts(before timestamptz, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    IF before IS NULL OR before > now() - interval '30 days' THEN
        RAISE EXCEPTION 'attempts are kept for 30 days at least; % is later', coalesce(before::text, 'no time');
    END IF;
    DELETE FROM public.attempts
    WHERE id = ANY (ARRAY(SELECT a.id FROM public.attempts a WHERE a.at < before ORDER BY a.at, a.id LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION forget_attempts(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_attempts(timestamptz, integer) TO kopeck_app;
