-- depends: 0008-parties
--
-- Closing an account, and whom a payment lifts out of ageing.

-- A closed account gets no invoice: it closes when its orders are billed to their end, its drafts are posted or void and
-- no charge waits, whoever closes it. `kopeck customer close` says the same in more words (billing/customers.py). An
-- inactive account refuses payments and is billed on. Before, and only for the state: balances pay nothing for it.
CREATE FUNCTION account_closes() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    going text;
BEGIN
    SELECT coalesce(o.number, '#' || o.id) INTO going FROM orders o
    WHERE o.id = (SELECT min(id) FROM (SELECT id FROM orders WHERE account_id = NEW.id AND settled_at IS NULL
                                       UNION ALL
                                       SELECT id FROM orders WHERE payer_account_id = NEW.id AND settled_at IS NULL) n);
    IF FOUND THEN
        RAISE EXCEPTION 'account % stays open: order % is not billed to its end', NEW.number, going
            USING HINT = format('`kopeck order cancel %s --now` ends it, and the next billing run bills the rest.', going);
    END IF;
    IF EXISTS (SELECT FROM invoices i JOIN invoice_blocks k ON k.id = i.id >> 20
               WHERE i.account_id = NEW.id AND k.state = 'draft') THEN
        RAISE EXCEPTION 'account % stays open: an invoice of it is a draft', NEW.number
            USING HINT = '`kopeck bill approve` posts drafts, `kopeck bill void-review` deletes them.';
    END IF;
    IF EXISTS (SELECT FROM manual_lines WHERE payer_account_id = NEW.id AND invoice_id IS NULL) THEN
        RAISE EXCEPTION 'account % stays open: a charge by hand waits for its next invoice', NEW.number;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER accounts_close BEFORE UPDATE OF state ON accounts FOR EACH ROW
    WHEN (NEW.state = 'closed' AND OLD.state <> 'closed') EXECUTE FUNCTION account_closes();

-- As in 0006, but by the accounts that the payer pays for: orders_payer has no settled orders in it, and looking for
-- those of one payer read them all. Who pays for an order that is not settled pays for its account.
CREATE OR REPLACE FUNCTION ageing_lift() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF overdue_minor(NEW.id, NEW.balance_minor) = 0 THEN
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
        VALUES (NEW.id, 0, 'lifted', 0, 'system:payment');
        NEW.ageing_step := 0;
    END IF;
    RETURN NEW;
END
$$;
