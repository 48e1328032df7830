-- depends: 0010-guards
--
-- Whose usage is closed by which run, and usage that comes after its period was billed (docs/billing.md, "Late usage").
--
-- Usage is closed for everybody by a run that posts for everybody, and by the approval of a review of everybody. A run or
-- a review of one payer closes it for the accounts it bills (usage_open_accounts), a review of everybody only while it
-- waits. What is closed only says which events are marked as late: whose an event is, at which price and pool, goes by
-- the time it happened.

-- usage_until: a run sees the events that count before it.
ALTER TABLE bill_runs ADD COLUMN usage_until timestamptz;
ALTER TABLE bill_runs DISABLE TRIGGER USER;
UPDATE bill_runs r SET usage_until = (SELECT max(r.bill_on::timestamp AT TIME ZONE z.zone)
                                      FROM (SELECT DISTINCT zone FROM order_terms) z);
ALTER TABLE bill_runs ENABLE TRIGGER USER;

-- late_since: late events that count before it were billed by the rules of before this migration, where they counted.
ALTER TABLE usage_open ADD COLUMN late_since timestamptz;
ALTER TABLE usage_open DISABLE TRIGGER usage_stays_closed;
UPDATE usage_open SET late_since = open_from;
ALTER TABLE usage_open ENABLE TRIGGER usage_stays_closed;

-- Accounts whose usage is closed further than everybody's, by a run or a review of their payer.
CREATE TABLE usage_open_accounts (
    run_id integer NOT NULL REFERENCES bill_runs,
    account_id bigint NOT NULL,
    open_from timestamptz NOT NULL,
    PRIMARY KEY (run_id, account_id)
);
INSERT INTO usage_open_accounts (run_id, account_id, open_from)
SELECT r.id, b.account_id, r.usage_until
FROM bill_runs r JOIN billing_accounts b ON b.payer_account_id = r.only_account_id
WHERE r.state <> 'void' AND r.usage_until > now();

-- What a run over all payers billed stays closed; a boundary that went further may be moved back to there.
CREATE OR REPLACE FUNCTION usage_stays_closed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    billed_until timestamptz;
BEGIN
    IF NEW.late_since IS DISTINCT FROM OLD.late_since THEN
        RAISE EXCEPTION 'late_since stays what it is';
    END IF;
    IF OLD.open_from IS NULL OR NEW.open_from >= OLD.open_from THEN
        RETURN NEW;
    END IF;
    SELECT max(usage_until) INTO billed_until FROM bill_runs
    WHERE only_account_id IS NULL AND (state IN ('done', 'approving') OR (kind = 'post' AND state <> 'void'));
    IF NEW.open_from IS NULL AND billed_until IS NULL THEN
        RETURN NEW;
    END IF;
    IF NEW.open_from IS NULL OR NEW.open_from < billed_until THEN
        RAISE EXCEPTION 'usage is billed up to %, and what is billed stays closed', billed_until;
    END IF;
    RETURN NEW;
END
$$;

-- Found by what they are: there are few.
CREATE INDEX usage_events_late ON usage_events (account_id, counts_at) WHERE counts_at > at;

-- part late: what usage that came later made of a billed period. supplement: the run, for there may be several.
ALTER TABLE order_periods DROP CONSTRAINT order_periods_part_check;
ALTER TABLE order_periods ADD COLUMN supplement integer NOT NULL DEFAULT 0;
ALTER TABLE order_periods
    ADD CONSTRAINT order_periods_part_check CHECK (part IN ('advance', 'arrears', 'once', 'trueup', 'late')),
    ADD CONSTRAINT order_periods_supplement_check CHECK (supplement = CASE part WHEN 'late' THEN run_id ELSE 0 END),
    DROP CONSTRAINT order_periods_pkey,
    ADD PRIMARY KEY (order_id, part, period_start, supplement);

GRANT SELECT, INSERT, DELETE ON usage_open_accounts TO kopeck_app;
