-- The SQL of one payment in one transaction, for comparison with the gateway's batches: the same locks, rows and
-- balances in the same order, one COMMIT. Run by `make bench` through pgbench, prepared, on the same durable server.
\set account random(1, :accounts)
\set amount random(100, 1500000)
BEGIN;
SELECT id, number, state, name, balance_minor, currency FROM accounts WHERE number = (79160000000 + :account)::text
    FOR NO KEY UPDATE \gset payee_
SELECT nextval('payment_ids') AS id \gset payment_
SELECT id FROM payments WHERE partner_id = :partner AND partner_key = 'pgbench-' || :payment_id;
INSERT INTO payments (id, partner_id, partner_key, contract_version, service, account_number, account_id, amount_minor,
                      currency, partner_time, state, reason, version, registered_at, created_at, updated_at)
    VALUES (:payment_id, :partner, 'pgbench-' || :payment_id, 1, '', (79160000000 + :account)::text, :payee_id,
            :amount, 'RUB', now(), 'posted', 'ok', 1, now(), now(), now());
INSERT INTO payment_events (payment_id, seq, event, state, reason, actor, request, at)
    VALUES (:payment_id, 1, 'accept', 'posted', 'ok', 'system-pgbench', repeat('x', 150), now());
INSERT INTO outbox (topic, ref) VALUES ('payment', :payment_id);
INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency)
    VALUES ('payment', :payment_id, 'hold', :clearing, :transit, :amount, 'RUB'),
           ('payment', :payment_id, 'post', :transit, :payee_id, :amount, 'RUB');
UPDATE accounts SET balance_minor = balance_minor + :amount WHERE id = :payee_id;
UPDATE accounts SET balance_minor = balance_minor - :amount WHERE id = :clearing;
COMMIT;
