-- Payments, their events and transfers, and attempts, as gateways write them, over the last thirty days with the rush of
-- a day; {payments} and {attempts} of them. Three partners of different size; one payment of twenty is refused, one of
-- a thousand reversed. Only for the bench: balances are left as they are.
CREATE TEMP TABLE planned ON COMMIT DROP AS
SELECT 10000000 + n AS id, w.id AS partner_id, w.clearing_account_id, 8000000000000 + n * 7 AS partner_key,
       1 + (n * 7919::bigint) % {accounts} AS account_index, 100 + (n * 104729::bigint) % 500000 AS amount_minor,
       CASE WHEN n % 20 = 7 THEN 'refused' WHEN n % 1000 = 3 THEN 'reversed' ELSE 'posted' END AS state,
       date_trunc('milliseconds', now() - interval '30 days' * (1 - n::float8 / ({payments} + 1))
                                  + interval '3 hours' * sin(n * 60 * pi() / {payments})) AS at
FROM generate_series(1, {payments}) n
JOIN partners w ON w.code = CASE WHEN n % 100 = 0 THEN 'search-small' WHEN n % 3 = 0 THEN 'search-second'
                                 ELSE 'search-first' END;
UPDATE planned SET at = now() - interval '1 second' WHERE at > now();
INSERT INTO payments (id, partner_id, partner_key, contract_version, service, account_number, account_id, amount_minor,
                      currency, partner_time, extras, state, reason, version, registered_at, created_at, updated_at)
SELECT p.id, p.partner_id, p.partner_key, 1, '', a.number, a.id, p.amount_minor, 'RUB', p.at, NULL, p.state,
       CASE p.state WHEN 'refused' THEN 'account_inactive' ELSE 'ok' END, CASE p.state WHEN 'reversed' THEN 2 ELSE 1 END,
       p.at, p.at, p.at
FROM planned p JOIN accounts a ON a.number = ({first_account} + p.account_index)::text;
INSERT INTO payment_events (payment_id, seq, event, state, reason, actor, remote_ip, request, at)
SELECT p.id, 1, CASE p.state WHEN 'refused' THEN 'refuse' ELSE 'accept' END,
       CASE p.state WHEN 'reversed' THEN 'posted' ELSE p.state END,
       CASE p.state WHEN 'refused' THEN 'account_inactive' ELSE 'ok' END, 'partner:' || w.code, '203.0.113.7',
       'GET /pay/' || w.code || '?command=pay&txn_id=' || p.partner_key || '&txn_date=20261123101530&account='
       || ({first_account} + p.account_index) || '&sum=' || p.amount_minor / 100.0, p.at
FROM planned p JOIN partners w ON w.id = p.partner_id
UNION ALL
SELECT p.id, 2, 'reverse', 'reversed', 'ok', 'user:oleg', '', '', p.at FROM planned p WHERE p.state = 'reversed';
INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency)
SELECT 'payment', p.id, s.step, CASE s.step WHEN 'hold' THEN p.clearing_account_id ELSE t.id END,
       CASE s.step WHEN 'hold' THEN t.id ELSE a.id END, p.amount_minor, 'RUB'
FROM planned p JOIN accounts a ON a.number = ({first_account} + p.account_index)::text
JOIN accounts t ON t.kind = 'transit' AND t.currency = 'RUB'
CROSS JOIN (VALUES ('hold'), ('post')) s (step) WHERE p.state <> 'refused';
INSERT INTO attempts (at, partner_id, kind, op, reason, code, partner_key, account_number, amount_minor, remote_ip, request)
SELECT p.at, p.partner_id, CASE WHEN p.id % 9 = 0 THEN 'refusal' WHEN p.id % 5000 = 0 THEN 'conflict' ELSE 'call' END, 'check',
       CASE WHEN p.id % 9 = 0 THEN 'account_not_found' ELSE 'ok' END, '0', p.partner_key::text,
       ({first_account} + p.account_index)::text, p.amount_minor, '203.0.113.7', 'command=check&account='
FROM planned p WHERE p.id % 10 = 0
