-- depends: 0021-review
--
-- Deliveries: what is sent to others, once by id, until they have answered (docs/deliveries.md).
--
-- A recipient's row is the lock of its queue: who takes work from a queue holds it, so order, limits and the probe of a
-- breaker hold over all hosts. SENT is committed before anything is sent; attempts counts as the fence of what is under way.

CREATE TABLE delivery_recipients (
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
    recipient text NOT NULL CHECK (length(recipient) BETWEEN 1 AND 200),
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),   -- transport errors in a row
    breaker_until timestamptz,          -- nothing goes before it; then one probe
    failing_since timestamptz,          -- the first failure after the last success
    paused_until timestamptz,           -- asked for by the recipient itself
    paced_until timestamptz,            -- of the limit per minute: when the next attempt may begin
    is_held boolean NOT NULL DEFAULT false,     -- until a person lets it go
    held_why text NOT NULL DEFAULT '' CHECK (length(held_why) <= 500),
    held_by text NOT NULL DEFAULT '',
    held_at timestamptz,
    PRIMARY KEY (kind, recipient)
);

CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    recipient text NOT NULL,
    address text NOT NULL DEFAULT '' CHECK (length(address) <= 320),
    subject text NOT NULL DEFAULT '' CHECK (length(subject) <= 200),
    order_key text NOT NULL DEFAULT '' CHECK (length(order_key) <= 200),   -- empty: in no order
    headers jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
    payload bytea NOT NULL CHECK (length(payload) <= 1048576),   -- sent byte for byte, however often
    asked_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sending', 'unknown', 'accepted', 'delivered', 'refused', 'manual', 'abandoned')),
    due_at timestamptz,                 -- waiting, unknown: when it is tried; sending: when its lease ends; accepted:
                                        -- until when its receipt is awaited; null: it is done, or a person's
    is_blocked boolean NOT NULL DEFAULT false,  -- behind another one of its order
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    step integer NOT NULL DEFAULT 0 CHECK (step >= 0),           -- attempts of the present ladder
    first_at timestamptz,
    attempt_at timestamptz,
    host text NOT NULL DEFAULT '',      -- which process has it under way
    reason text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    done_at timestamptz,
    UNIQUE (kind, key),
    CHECK ((state IN ('waiting', 'sending', 'unknown', 'accepted')) = (due_at IS NOT NULL)),
    CHECK ((state IN ('delivered', 'refused', 'abandoned')) = (done_at IS NOT NULL))
) WITH (fillfactor = 80);
-- Ready for an attempt.
CREATE INDEX deliveries_ready ON deliveries (kind, recipient, due_at) WHERE state IN ('waiting', 'unknown') AND NOT is_blocked;
-- Leases that end, receipts that do not come.
CREATE INDEX deliveries_overdue ON deliveries (due_at) WHERE state IN ('sending', 'accepted');
CREATE INDEX deliveries_sending ON deliveries (kind, recipient) WHERE state = 'sending';
CREATE INDEX deliveries_order ON deliveries (kind, recipient, order_key, id)
    WHERE order_key <> '' AND state NOT IN ('delivered', 'refused', 'abandoned');
-- One of an order is under way at most.
CREATE UNIQUE INDEX deliveries_order_one ON deliveries (kind, recipient, order_key)
    WHERE order_key <> '' AND state = 'sending';
-- What is not done, for people.
CREATE INDEX deliveries_open ON deliveries (kind, state, created_at) WHERE state NOT IN ('delivered', 'refused', 'abandoned');
CREATE INDEX deliveries_created ON deliveries (created_at, id);
CREATE INDEX deliveries_address ON deliveries (address) WHERE address <> '';

-- Every attempt, from before it began. outcome is empty until it is known.
CREATE TABLE delivery_attempts (
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    no integer NOT NULL CHECK (no > 0),
    action text NOT NULL CHECK (action IN ('send', 'ask')),
    at timestamptz NOT NULL,
    host text NOT NULL,
    outcome text NOT NULL DEFAULT ''
        CHECK (outcome IN ('', 'accepted', 'delivered', 'refused', 'temporary', 'missing', 'silent', 'recalled')),
    is_late boolean NOT NULL DEFAULT false,     -- it came after the attempt was given up
    code text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    request text NOT NULL DEFAULT '',           -- masked and cut
    reply text NOT NULL DEFAULT '',
    duration_ms integer,
    PRIMARY KEY (delivery_id, no)
);

-- The recipient's ids of what it accepted, one for each part; a receipt names one.
CREATE TABLE delivery_references (
    kind text NOT NULL,
    recipient text NOT NULL,
    reference text NOT NULL CHECK (length(reference) BETWEEN 1 AND 200),
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    attempt integer NOT NULL,
    outcome text NOT NULL DEFAULT '' CHECK (outcome IN ('', 'delivered', 'refused')),
    PRIMARY KEY (kind, recipient, reference, delivery_id)
);
CREATE INDEX delivery_references_of ON delivery_references (delivery_id);

-- Receipts as they came. One that comes before its delivery's acceptance is known waits here for it.
CREATE TABLE delivery_receipts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    recipient text NOT NULL,
    reference text NOT NULL CHECK (length(reference) BETWEEN 1 AND 200),
    outcome text NOT NULL CHECK (outcome IN ('accepted', 'delivered', 'refused', 'temporary', 'missing', 'silent')),
    code text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    raw text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT now(),
    delivery_id bigint REFERENCES deliveries ON DELETE CASCADE
);
CREATE INDEX delivery_receipts_unmatched ON delivery_receipts (kind, recipient, reference) WHERE delivery_id IS NULL;
CREATE INDEX delivery_receipts_of ON delivery_receipts (delivery_id) WHERE delivery_id IS NOT NULL;

-- What people did to deliveries and queues.
CREATE TABLE delivery_notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    event text NOT NULL CHECK (event IN ('push', 'resend', 'settle', 'give_up')),
    actor text NOT NULL,
    why text NOT NULL DEFAULT '' CHECK (length(why) <= 500),
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX delivery_notes_of ON delivery_notes (delivery_id, id);

-- Policies that differ from a kind's own: of the kind (recipient is empty) or of one recipient. body: some fields.
CREATE TABLE delivery_policies (
    kind text NOT NULL,
    recipient text NOT NULL DEFAULT '',
    body jsonb NOT NULL CHECK (jsonb_typeof(body) = 'object'),
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, recipient)
);

-- ---- webhooks

-- types: patterns of event types, such as kopeck.payment.* ; expects: what a 2xx answer must be to count.
CREATE TABLE webhook_endpoints (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    url text NOT NULL CHECK (length(url) <= 2000),
    types text[] NOT NULL CHECK (cardinality(types) BETWEEN 1 AND 50),
    expects text NOT NULL DEFAULT 'no_page' CHECK (expects IN ('any', 'no_page')),
    expected_type text NOT NULL DEFAULT '' CHECK (length(expected_type) <= 100),
    expected_text text NOT NULL DEFAULT '' CHECK (length(expected_text) <= 200),
    is_enabled boolean NOT NULL DEFAULT true,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Signing secrets, whsec_..., sealed with gateway.key_passphrase where that is set. Two are valid while one replaces
-- the other.
CREATE TABLE webhook_secrets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id integer NOT NULL REFERENCES webhook_endpoints,
    material text NOT NULL,
    valid_to timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_secrets_of ON webhook_secrets (endpoint_id);

-- ---- events

-- What happened and was not told yet, written in the transaction in which it happened. after: of an event that stands
-- for many objects (the invoices of a block), how far it was told.
CREATE TABLE event_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL CHECK (topic IN ('payment', 'invoices', 'bill_run')),
    ref bigint NOT NULL,
    seq integer NOT NULL DEFAULT 0,
    after bigint NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now()
);

-- Which topics any enabled endpoint wants: nothing is written to the outbox of those that none wants.
CREATE TABLE event_topics (topic text PRIMARY KEY, is_wanted boolean NOT NULL DEFAULT false);
INSERT INTO event_topics (topic) VALUES ('payment'), ('invoices'), ('bill_run');

CREATE FUNCTION event_of_payment() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT is_wanted FROM public.event_topics WHERE topic = 'payment') THEN
        INSERT INTO public.event_outbox (topic, ref, seq)
        SELECT 'payment', payment_id, seq FROM made WHERE event IN ('accept', 'post') AND state = 'posted'
        ORDER BY payment_id, seq;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER payment_events_told AFTER INSERT ON payment_events REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION event_of_payment();

CREATE FUNCTION event_of_invoices() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT is_wanted FROM public.event_topics WHERE topic = 'invoices') THEN
        INSERT INTO public.event_outbox (topic, ref) VALUES ('invoices', NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER invoice_blocks_told AFTER UPDATE ON invoice_blocks FOR EACH ROW
    WHEN (NEW.state = 'issued' AND OLD.state <> 'issued') EXECUTE FUNCTION event_of_invoices();

CREATE FUNCTION event_of_bill_run() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT is_wanted FROM public.event_topics WHERE topic = 'bill_run') THEN
        INSERT INTO public.event_outbox (topic, ref) VALUES ('bill_run', NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER bill_runs_told AFTER UPDATE ON bill_runs FOR EACH ROW
    WHEN (NEW.state = 'done' AND OLD.state <> 'done') EXECUTE FUNCTION event_of_bill_run();

REVOKE ALL ON FUNCTION event_of_payment(), event_of_invoices(), event_of_bill_run() FROM PUBLIC;

-- ---- who may what

-- Deliveries that are done are deleted by age alone, attempts with them.
CREATE FUNCTION forget_deliveries(before timestamptz, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    IF before IS NULL OR before > now() - interval '30 days' THEN
        RAISE EXCEPTION 'deliveries are kept for 30 days at least; % is later', coalesce(before::text, 'no time');
    END IF;
    DELETE FROM public.deliveries WHERE id = ANY (ARRAY(
        SELECT d.id FROM public.deliveries d
        WHERE d.created_at < before AND d.done_at < before ORDER BY d.created_at, d.id LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM public.delivery_receipts WHERE delivery_id IS NULL AND at < before;
    RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION forget_deliveries(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_deliveries(timestamptz, integer) TO kopeck_app;

GRANT SELECT, INSERT (kind, recipient), UPDATE (failures, breaker_until, failing_since, paused_until, paced_until, is_held,
    held_why, held_by, held_at) ON delivery_recipients TO kopeck_app;
GRANT SELECT, INSERT (kind, key, recipient, address, subject, order_key, headers, payload, asked_by, due_at, is_blocked),
    UPDATE (state, due_at, is_blocked, attempts, step, first_at, attempt_at, host, reason, detail, done_at)
    ON deliveries TO kopeck_app;
GRANT SELECT, INSERT (delivery_id, no, action, at, host),
    UPDATE (outcome, is_late, code, detail, request, reply, duration_ms) ON delivery_attempts TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (outcome) ON delivery_references TO kopeck_app;
GRANT SELECT, INSERT (kind, recipient, reference, outcome, code, detail, raw), UPDATE (delivery_id)
    ON delivery_receipts TO kopeck_app;
GRANT SELECT, INSERT (delivery_id, event, actor, why) ON delivery_notes TO kopeck_app;
GRANT SELECT, INSERT, DELETE, UPDATE (body, changed_by, changed_at) ON delivery_policies TO kopeck_app;
GRANT SELECT, INSERT (name, url, types, expects, expected_type, expected_text, created_by),
    UPDATE (url, types, expects, expected_type, expected_text, is_enabled) ON webhook_endpoints TO kopeck_app;
GRANT SELECT, INSERT (endpoint_id, material, created_by), UPDATE (valid_to) ON webhook_secrets TO kopeck_app;
GRANT SELECT, INSERT (topic, ref, seq), UPDATE (after), DELETE ON event_outbox TO kopeck_app;
GRANT SELECT, UPDATE (is_wanted) ON event_topics TO kopeck_app;
