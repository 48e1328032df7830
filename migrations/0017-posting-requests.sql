-- depends: 0009-customers
--
-- Money moved by hand: cash, bank, corrections, moves, refunds, payouts (docs/payments-by-hand.md).
--
-- A request says who wants what and why. It is posted at once, or waits for a second person; then it is posted or rejected.
-- Its posting is a row of manual_postings with one transfer whose step is the kind. A move or refund takes money off a
-- receipt: the transfer that credited the account (a payment's, or one by hand); its transfer names that one (corrects_id).

INSERT INTO account_kinds (kind, may_go_negative, is_system, description) VALUES
    ('cash', true, true, 'The cash desk: what it holds (negative)'),
    ('write_off', true, true, 'Debts that were given up (negative)')
ON CONFLICT (kind) DO NOTHING;

-- What of a payment people took off its account again: refunds and moves. Such a payment stays posted and is not cancelled.
ALTER TABLE payments ADD COLUMN returned_minor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT payments_returned CHECK (returned_minor BETWEEN 0 AND amount_minor);
CREATE INDEX payments_returned_some ON payments (id) WHERE returned_minor > 0;
GRANT UPDATE (returned_minor) ON payments TO kopeck_app;

-- Few transfers correct another one; what was taken off a receipt is read by it.
CREATE INDEX transfers_corrects ON transfers (corrects_id) WHERE corrects_id IS NOT NULL;

-- Money that leaves a receipt leaves the invoices it was directed to: a row of less than nothing, under the transfer
-- that took it off.
ALTER TABLE payment_allocations DROP CONSTRAINT payment_allocations_amount_minor_check,
    ADD CONSTRAINT payment_allocations_amount_minor_check CHECK (amount_minor <> 0);

-- What documents call an item's unit, by language; empty where the catalogue gives one word for all.
ALTER TABLE catalogue_items ADD COLUMN unit_names jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(unit_names) = 'object');

CREATE TABLE posting_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
    kind text NOT NULL CHECK (kind IN ('cash', 'bank', 'correction', 'write_off', 'move', 'refund', 'payout')),
    account_id bigint NOT NULL REFERENCES accounts,
    to_account_id bigint REFERENCES accounts CHECK (to_account_id <> account_id),    -- of a move
    receipt_id bigint REFERENCES transfers,           -- of a move or refund: the transfer that brought the money
    way text NOT NULL DEFAULT '' CHECK (way IN ('', 'partner', 'bank', 'cash')),      -- of a refund or payout: to whom
    amount_minor bigint NOT NULL CHECK (amount_minor > 0 OR (kind = 'correction' AND amount_minor <> 0)),
    currency text NOT NULL,
    document text NOT NULL DEFAULT '' CHECK (length(document) <= 200),   -- number of a cash order, a bank order, a letter
    why text NOT NULL CHECK (length(why) BETWEEN 1 AND 500),
    may_owe boolean NOT NULL DEFAULT false,           -- the person said that the account may owe afterwards
    needs_second boolean NOT NULL,                    -- above billing.second_person_above_minor when it was asked for
    requested_by text NOT NULL,
    requested_proof text NOT NULL CHECK (requested_proof IN ('password', 'os')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'posted', 'rejected')),
    decided_by text,
    decided_proof text CHECK (decided_proof IN ('password', 'os')),
    decided_at timestamptz,
    decided_why text NOT NULL DEFAULT '' CHECK (length(decided_why) <= 500),
    posting_id bigint UNIQUE REFERENCES manual_postings,   -- null when posted: the payment was reversed as a whole
    CHECK ((kind IN ('move', 'refund')) = (receipt_id IS NOT NULL)),
    CHECK ((kind = 'move') = (to_account_id IS NOT NULL)),
    CHECK ((kind IN ('refund', 'payout')) = (way <> '')),
    CHECK (num_nonnulls(decided_by, decided_proof, decided_at) = CASE state WHEN 'pending' THEN 0 ELSE 3 END),
    CHECK (state = 'posted' OR posting_id IS NULL),
    CHECK (state <> 'posted' OR posting_id IS NOT NULL OR (kind = 'refund' AND way = 'partner')),
    CONSTRAINT posting_requests_two_people CHECK (
        NOT needs_second OR (requested_proof = 'password'
                             AND (state <> 'posted' OR (decided_by <> requested_by AND decided_proof = 'password'))))
);
CREATE INDEX posting_requests_pending ON posting_requests (id) WHERE state = 'pending';
CREATE INDEX posting_requests_receipt ON posting_requests (receipt_id) WHERE receipt_id IS NOT NULL;

CREATE FUNCTION decided_request_stays() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'pending' OR NEW.state = 'pending' THEN
        RAISE EXCEPTION 'posting request % is % and stays so', OLD.id, OLD.state;
    END IF;
    IF (to_jsonb(OLD) - ARRAY['state', 'decided_by', 'decided_proof', 'decided_at', 'decided_why', 'posting_id'])
       <> (to_jsonb(NEW) - ARRAY['state', 'decided_by', 'decided_proof', 'decided_at', 'decided_why', 'posting_id']) THEN
        RAISE EXCEPTION 'posting request % may only be decided: what was asked for stays', OLD.id;
    END IF;
    NEW.decided_at := now();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION decided_request_stays() FROM PUBLIC;
CREATE TRIGGER posting_requests_stay BEFORE UPDATE ON posting_requests
    FOR EACH ROW EXECUTE FUNCTION decided_request_stays();
CREATE TRIGGER posting_requests_kept BEFORE DELETE OR TRUNCATE ON posting_requests
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- As in 0010: the program chooses neither the number nor the time of a row, and begins with pending ones.
GRANT SELECT, INSERT (key, kind, account_id, to_account_id, receipt_id, way, amount_minor, currency, document, why, may_owe,
    needs_second, requested_by, requested_proof), UPDATE (state, decided_by, decided_proof, decided_why, posting_id)
    ON posting_requests TO kopeck_app;
