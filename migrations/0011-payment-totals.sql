-- depends: 0009-customers
--
-- Payments counted by hour, partner, currency and state, so that the search page counts no documents.

-- A statement that changes payments adds here what it changed, in its own transaction: whatever happens to the relay,
-- a change is counted once. The relay folds these rows into payment_totals; both together are always the payments.
CREATE TABLE payment_total_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    minute timestamptz NOT NULL,       -- of the payments' created_at
    partner_id integer NOT NULL,
    currency text NOT NULL,
    state text NOT NULL,
    payments bigint NOT NULL,          -- negative: payments that left this state
    amount_minor bigint NOT NULL
);

CREATE TABLE payment_totals (
    hour timestamptz NOT NULL,         -- of UTC
    partner_id integer NOT NULL,
    currency text NOT NULL,
    state text NOT NULL,
    payments bigint NOT NULL,
    amount_minor bigint NOT NULL,
    PRIMARY KEY (hour, partner_id, currency, state)
) WITH (fillfactor = 70);              -- the present hour's rows change every second

-- How many payments each minute has: a page chooses by it how far to read at once.
CREATE TABLE payment_minutes (
    minute timestamptz PRIMARY KEY,
    payments bigint NOT NULL
) WITH (fillfactor = 70);

CREATE FUNCTION count_new_payments() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO payment_total_changes (minute, partner_id, currency, state, payments, amount_minor)
    SELECT date_trunc('minute', created_at), partner_id, currency, state, count(*), sum(amount_minor)
    FROM new_rows GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END
$$;

CREATE FUNCTION count_changed_payments() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO payment_total_changes (minute, partner_id, currency, state, payments, amount_minor)
    SELECT date_trunc('minute', created_at), partner_id, currency, state, sum(n), sum(n * amount_minor)
    FROM (SELECT created_at, partner_id, currency, state, amount_minor, -1 AS n FROM old_rows
          UNION ALL
          SELECT created_at, partner_id, currency, state, amount_minor, 1 FROM new_rows) c
    GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0 OR sum(n * amount_minor) <> 0;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION count_new_payments(), count_changed_payments() FROM PUBLIC;
CREATE TRIGGER payments_counted AFTER INSERT ON payments REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_payments();
CREATE TRIGGER payments_counted_again AFTER UPDATE ON payments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_payments();

-- The triggers' lock keeps payments as they are until this commits, so none is counted twice or not at all.
INSERT INTO payment_totals
SELECT date_trunc('hour', created_at, 'UTC'), partner_id, currency, state, count(*), sum(amount_minor)
FROM payments GROUP BY 1, 2, 3, 4;
INSERT INTO payment_minutes SELECT date_trunc('minute', created_at), count(*) FROM payments GROUP BY 1;

-- Of zones whose day does not begin with an hour of UTC, the first and last part of an hour are counted from payments.
CREATE INDEX payments_created ON payments USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);

GRANT SELECT, INSERT, UPDATE, DELETE ON payment_totals, payment_minutes, payment_total_changes TO kopeck_app;
