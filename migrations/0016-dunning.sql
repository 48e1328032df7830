-- depends: 0009-customers
--
-- Ageing that warns first, costs the same however long the history is, and can be put off; zones that this server does
-- not know; the phase of periods.

-- ---- zones

-- The zone, or UTC for one that this server does not know: its time zone data may be older than the program's. A payment
-- and a list never depend on it. An edge that takes a zone asks whether zone_or_utc(zone) = zone.
CREATE FUNCTION zone_or_utc(zone text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM now() AT TIME ZONE zone;
    RETURN coalesce(zone, 'UTC');
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END
$$;

-- ---- phase of periods

-- Days, weeks or months by which periods of several units begin after the calendar's fixed origin (billing/calendar.py).
-- 0 is where they began before this migration: orders that exist keep their periods.
ALTER TABLE order_terms ADD COLUMN anchor_phase smallint NOT NULL DEFAULT 0 CHECK (anchor_phase BETWEEN 0 AND 999);

DO $$
DECLARE
    old text;
BEGIN
    SELECT conname INTO STRICT old FROM pg_constraint WHERE conrelid = 'order_terms'::regclass AND contype = 'u';
    EXECUTE format('ALTER TABLE order_terms DROP CONSTRAINT %I', old);
END
$$;
ALTER TABLE order_terms ADD CONSTRAINT order_terms_are_one UNIQUE (
    catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month, zone, in_advance,
    proration, anchor_phase);

-- ---- what is unpaid

-- The debt lies on the newest invoices, so they are read from the newest back until it is covered: what an account paid
-- years ago is never looked at.
CREATE INDEX invoices_account_due ON invoices (account_id, due_on, id);
DROP INDEX invoices_account;

-- As in 0006, but each sum is computed once for an invoice (OFFSET 0: PostgreSQL would write it out wherever it is named).
CREATE OR REPLACE VIEW open_invoices AS
    SELECT i.id, i.account_id, i.currency, i.invoiced_on, i.due_on, i.total_minor, b.state AS block_state,
           c.credited_minor, p.allocated_minor,
           greatest(0, i.total_minor + c.credited_minor - p.allocated_minor)::bigint AS open_minor
    FROM invoices i
    JOIN invoice_blocks b ON b.id = i.id >> 20
    CROSS JOIN LATERAL (
        SELECT coalesce((SELECT sum(c.total_minor) FROM invoices c WHERE c.corrects_id = i.id), 0)::bigint
               AS credited_minor
        OFFSET 0) c
    CROSS JOIN LATERAL (
        SELECT coalesce((SELECT sum(p.amount_minor) FROM payment_allocations p
                         JOIN transfers t ON t.id = p.transfer_id
                         WHERE p.invoice_id = i.id AND NOT EXISTS (
                             SELECT FROM transfers r
                             WHERE r.source = t.source AND r.source_id = t.source_id AND r.step = 'reverse')), 0)::bigint
               AS allocated_minor
        OFFSET 0) p
    WHERE b.state IN ('posted', 'issued') AND i.corrects_id IS NULL;

-- Invoices of an account that its debt lies on, the newest first, and how much of it lies on each.
CREATE FUNCTION unpaid_invoices(account bigint, debt bigint)
    RETURNS TABLE (invoice_id bigint, due_on date, unpaid_minor bigint) LANGUAGE plpgsql STABLE ROWS 3 AS $$
#variable_conflict use_variable
DECLARE
    rest bigint := greatest(debt, 0);
    claim record;
BEGIN
    due_on := 'infinity';
    invoice_id := 0;
    WHILE rest > 0 LOOP
        -- One at a time: with a limit the index is read in its order, without one all of an account's may be sorted.
        SELECT i.id, i.due_on INTO claim FROM invoices i
        WHERE i.account_id = account AND i.corrects_id IS NULL AND (i.due_on, i.id) < (due_on, invoice_id)
        ORDER BY i.due_on DESC, i.id DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        invoice_id := claim.id;
        due_on := claim.due_on;
        unpaid_minor := least(rest, coalesce((SELECT o.open_minor FROM open_invoices o WHERE o.id = claim.id), 0));
        CONTINUE WHEN unpaid_minor = 0;
        RETURN NEXT;
        rest := rest - unpaid_minor;
    END LOOP;
END
$$;

-- What is overdue of a debt; one that no invoice tells of is not. By the date in the account's own zone.
CREATE OR REPLACE FUNCTION overdue_minor(account bigint, balance bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(u.unpaid_minor) FILTER (WHERE u.due_on < d.today), 0)::bigint
    FROM (SELECT (now() AT TIME ZONE zone_or_utc(
              (SELECT zone FROM billing_accounts WHERE account_id = account)))::date AS today) d
    LEFT JOIN unpaid_invoices(account, -balance) u ON true
$$;

-- ---- ageing

-- days_between: from a step to the suspension or cancellation after it, at least. So a first run on a base with history
-- reminds and warns, and nobody is suspended who was not warned some days before.
CREATE TABLE ageing_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    days_between smallint NOT NULL DEFAULT 3 CHECK (days_between BETWEEN 0 AND 365)
);
INSERT INTO ageing_settings DEFAULT VALUES;

-- The least overdue debt that ageing minds; in the database, because a payment lifts by it in its own transaction.
CREATE TABLE ageing_minimums (
    currency text PRIMARY KEY CHECK (currency ~ '^[A-Z]{3}$'),
    minimum_minor bigint NOT NULL CHECK (minimum_minor > 0)
);

-- Put off: no step comes to an account through this date. The newest row counts; until_on NULL: as if there were none.
CREATE TABLE ageing_delays (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts,
    until_on date,
    reason text NOT NULL CHECK (reason <> ''),
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ageing_delays_account ON ageing_delays (account_id, id);
CREATE TRIGGER ageing_delays_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ageing_delays
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- delayed: a promise or the end of one; what ageing suspended goes on. note: the reason, for people.
ALTER TABLE ageing_events DROP CONSTRAINT ageing_events_action_check;
ALTER TABLE ageing_events ADD CONSTRAINT ageing_events_action_check
    CHECK (action IN ('reminder', 'warning', 'suspension', 'cancellation', 'lifted', 'delayed'));
ALTER TABLE ageing_events ADD COLUMN note text NOT NULL DEFAULT '';

CREATE FUNCTION ageing_minimum(of_currency text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT minimum_minor FROM ageing_minimums WHERE currency = of_currency), 1)
$$;

-- As in 0009, but a rest below the least debt does not hold a customer.
CREATE OR REPLACE FUNCTION ageing_lift() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF overdue_minor(NEW.id, NEW.balance_minor) < ageing_minimum(NEW.currency) THEN
        WITH lifted AS (
            UPDATE order_suspensions s
            SET until_at = greatest(date_trunc('second', now()), s.from_at + interval '1 second')
            WHERE s.until_at IS NULL AND s.reason = 'ageing' AND s.order_id = ANY (ARRAY(
                SELECT o.id FROM billing_accounts b JOIN orders o ON o.account_id = b.account_id
                WHERE b.payer_account_id = NEW.id AND o.payer_account_id = NEW.id))
            RETURNING s.order_id
        )
        INSERT INTO order_events (order_id, event, details, actor)
        SELECT order_id, 'resumed', '{"reason": "ageing"}', 'system:payment' FROM lifted ORDER BY order_id;
        INSERT INTO ageing_events (account_id, step, action, overdue_minor, actor)
        VALUES (NEW.id, 0, 'lifted', overdue_minor(NEW.id, NEW.balance_minor), 'system:payment');
        NEW.ageing_step := 0;
    END IF;
    RETURN NEW;
END
$$;

-- Suspensions in force, of those that have an end too.
CREATE INDEX order_suspensions_until ON order_suspensions (until_at);

-- ---- who may what

GRANT SELECT, UPDATE (days_between) ON ageing_settings TO kopeck_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ageing_minimums TO kopeck_app;
GRANT SELECT, INSERT (account_id, until_on, reason, actor) ON ageing_delays TO kopeck_app;
