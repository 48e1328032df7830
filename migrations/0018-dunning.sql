-- depends: 0010-guards 0011-payment-totals 0012-key-fences 0013-strangers 0014-usage-boundaries 0015-faults 0016-dunning 0017-posting-requests
--
-- The field's words: dunning for what happens to debtors (ageing is the report of receivables by age), adjustment for
-- what an advance charge turned out too much or too little.

-- ---- dunning

ALTER TABLE ageing_steps RENAME TO dunning_steps;
ALTER TABLE ageing_settings RENAME TO dunning_settings;
ALTER TABLE ageing_minimums RENAME TO dunning_minimums;
ALTER TABLE ageing_delays RENAME TO dunning_delays;
ALTER INDEX ageing_delays_account RENAME TO dunning_delays_account;
ALTER TRIGGER ageing_delays_append_only ON dunning_delays RENAME TO dunning_delays_append_only;
ALTER TABLE ageing_events RENAME TO dunning_events;
ALTER INDEX ageing_events_account RENAME TO dunning_events_account;
ALTER TRIGGER ageing_events_append_only ON dunning_events RENAME TO dunning_events_append_only;
ALTER TABLE accounts RENAME COLUMN ageing_step TO dunning_step;

ALTER TABLE order_suspensions DROP CONSTRAINT order_suspensions_reason_check;
UPDATE order_suspensions SET reason = 'dunning' WHERE reason = 'ageing';
ALTER TABLE order_suspensions ADD CONSTRAINT order_suspensions_reason_check
    CHECK (reason IN ('asked', 'dunning', 'balance'));

DROP TRIGGER accounts_ageing_lift ON accounts;
DROP FUNCTION ageing_lift();
DROP FUNCTION ageing_minimum(text);

CREATE FUNCTION dunning_minimum(of_currency text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT minimum_minor FROM dunning_minimums WHERE currency = of_currency), 1)
$$;

-- As in 0016, under the new names.
CREATE FUNCTION dunning_lift() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF overdue_minor(NEW.id, NEW.balance_minor) < dunning_minimum(NEW.currency) THEN
        WITH lifted AS (
            UPDATE order_suspensions s
            SET until_at = greatest(date_trunc('second', now()), s.from_at + interval '1 second')
            WHERE s.until_at IS NULL AND s.reason = 'dunning' AND s.order_id = ANY (ARRAY(
                SELECT o.id FROM billing_accounts b JOIN orders o ON o.account_id = b.account_id
                WHERE b.payer_account_id = NEW.id AND o.payer_account_id = NEW.id))
            RETURNING s.order_id
        )
        INSERT INTO order_events (order_id, event, details, actor)
        SELECT order_id, 'resumed', '{"reason": "dunning"}', 'system:payment' FROM lifted ORDER BY order_id;
        INSERT INTO dunning_events (account_id, step, action, overdue_minor, actor)
        VALUES (NEW.id, 0, 'lifted', overdue_minor(NEW.id, NEW.balance_minor), 'system:payment');
        NEW.dunning_step := 0;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION dunning_lift() FROM PUBLIC;
CREATE TRIGGER accounts_dunning_lift BEFORE UPDATE OF balance_minor ON accounts FOR EACH ROW
    WHEN (OLD.dunning_step > 0 AND NEW.balance_minor > OLD.balance_minor) EXECUTE FUNCTION dunning_lift();

-- ---- adjustments

ALTER TABLE order_periods DROP CONSTRAINT order_periods_part_check;
ALTER TABLE order_periods DISABLE TRIGGER USER;
UPDATE order_periods SET part = 'adjustment' WHERE part = 'trueup';
ALTER TABLE order_periods ENABLE TRIGGER USER;
ALTER TABLE order_periods ADD CONSTRAINT order_periods_part_check
    CHECK (part IN ('advance', 'arrears', 'once', 'adjustment', 'late'));
