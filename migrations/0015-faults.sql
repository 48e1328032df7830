-- depends: 0009-customers
--
-- Faults stay where they are: usage that was void, orders that a prepaid balance does not bear, runs that were given up.

-- An event of usage that does not count: it happened to nobody, or was recorded wrongly and stands corrected by another
-- event. Appended, as usage is: the event stays where it is, and nothing bills it any more. account_id: the event's, so
-- that a shard finds the voids of its accounts. replaced_by: the event that says what was meant, which was stored with
-- the void in one transaction. key: of what a person asked for, so that a repeat changes nothing.
CREATE TABLE usage_voids (
    usage_id bigint PRIMARY KEY,
    account_id bigint NOT NULL,
    replaced_by bigint UNIQUE,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    why text NOT NULL CHECK (why <> ''),
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),   -- after waiting for the shard that may bill it
    CHECK (replaced_by <> usage_id)
);
CREATE INDEX usage_voids_account ON usage_voids (account_id);
CREATE INDEX usage_voids_key ON usage_voids (key);
CREATE TRIGGER usage_voids_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_voids
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
GRANT SELECT ON usage_voids TO kopeck_app;
GRANT INSERT (usage_id, account_id, replaced_by, key, why, actor) ON usage_voids TO kopeck_app;

-- amount_minor: what the balance of a prepaid payer did not bear, with tax, so that a payment can tell whether it does
-- now. usage_id: the first event of usage that is at fault.
ALTER TABLE bill_failures ADD COLUMN amount_minor bigint;
ALTER TABLE bill_failures ADD COLUMN usage_id bigint;

-- Suspended for its payer's balance: need_minor is what must be there for the order to go on.
ALTER TABLE order_suspensions DROP CONSTRAINT order_suspensions_reason_check;
ALTER TABLE order_suspensions ADD CONSTRAINT order_suspensions_reason_check
    CHECK (reason IN ('asked', 'ageing', 'balance'));
ALTER TABLE order_suspensions ADD COLUMN need_minor bigint CHECK (need_minor >= 0);
ALTER TABLE order_suspensions ADD CONSTRAINT order_suspensions_need CHECK ((reason = 'balance') = (need_minor IS NOT NULL));

-- On accounts, as ageing_step is, so that a payment to an account that is not short pays one comparison for it.
ALTER TABLE accounts ADD COLUMN balance_short boolean NOT NULL DEFAULT false;
CREATE INDEX accounts_short ON accounts (id) WHERE balance_short;
GRANT UPDATE (balance_short) ON accounts TO kopeck_app;
GRANT UPDATE (need_minor) ON order_suspensions TO kopeck_app;

-- Resume what the balance bears again, oldest first (one that has not begun yet is taken back); what it does not bear stays suspended, and what comes behind it may
-- go on all the same: orders do not depend on one another. Returns whether anything stays suspended.
CREATE FUNCTION resume_borne(payer bigint, balance bigint, floor bigint, who text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    rest numeric := balance::numeric - floor;
    one record;
    is_short boolean := false;
BEGIN
    FOR one IN
        SELECT s.id, s.order_id, s.from_at, s.need_minor
        FROM orders o JOIN order_suspensions s ON s.order_id = o.id AND s.until_at IS NULL AND s.reason = 'balance'
        WHERE o.payer_account_id = payer AND o.settled_at IS NULL
        ORDER BY s.from_at, s.order_id
    LOOP
        IF floor IS NULL OR one.need_minor <= rest THEN
            rest := rest - one.need_minor;
            UPDATE order_suspensions
            SET until_at = greatest(date_trunc('second', now()), one.from_at + interval '1 microsecond')
            WHERE id = one.id;
            INSERT INTO order_events (order_id, event, details, actor)
            VALUES (one.order_id, 'resumed', '{"reason": "balance"}', who);
        ELSE
            is_short := true;
        END IF;
    END LOOP;
    RETURN is_short;
END
$$;
REVOKE ALL ON FUNCTION resume_borne(bigint, bigint, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION resume_borne(bigint, bigint, bigint, text) TO kopeck_app;

-- A payment, or a floor that a person lowers, resumes at once, in its own transaction.
CREATE FUNCTION balance_bears() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    NEW.balance_short := resume_borne(NEW.id, NEW.balance_minor, NEW.floor_minor, 'system:payment');
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION balance_bears() FROM PUBLIC;
CREATE TRIGGER accounts_balance_bears BEFORE UPDATE OF balance_minor, floor_minor ON accounts FOR EACH ROW
    WHEN (OLD.balance_short
          AND (NEW.balance_minor > OLD.balance_minor OR NEW.floor_minor IS DISTINCT FROM OLD.floor_minor))
    EXECUTE FUNCTION balance_bears();

-- Another payer's balance may bear it. The cycle never moves an order, so this costs it nothing.
CREATE FUNCTION order_moves_short() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM order_suspensions s
               WHERE s.order_id = NEW.id AND s.until_at IS NULL AND s.reason = 'balance') THEN
        UPDATE accounts SET balance_short = resume_borne(id, balance_minor, floor_minor, 'system:payment')
        WHERE id = NEW.payer_account_id;
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION order_moves_short() FROM PUBLIC;
CREATE TRIGGER orders_move_short AFTER UPDATE OF payer_account_id ON orders FOR EACH ROW
    WHEN (OLD.payer_account_id <> NEW.payer_account_id) EXECUTE FUNCTION order_moves_short();

-- A run that was given up is done, but for the shards that were left: who gave it up, and why.
ALTER TABLE bill_runs ADD COLUMN abandoned_by text;
ALTER TABLE bill_runs ADD COLUMN abandoned_why text CHECK (abandoned_why <> '');
ALTER TABLE bill_runs ADD CONSTRAINT bill_runs_abandoned CHECK (
    (abandoned_by IS NULL) = (abandoned_why IS NULL) AND (abandoned_by IS NULL OR state = 'done'));
GRANT UPDATE (abandoned_by, abandoned_why) ON bill_runs TO kopeck_app;
