-- Customers, their accounts, orders and invoices, as importers and billing runs write them: {customers} customers,
-- {invoices} invoices in monthly runs of blocks of 10,000. One customer of ten owes his last invoice, one of a hundred
-- the last three. Only for the bench: of the money there are balances and invoices, no transfers.
INSERT INTO catalogues (name) VALUES ('bench') ON CONFLICT DO NOTHING;
INSERT INTO order_terms (catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day,
                         anchor_month, zone, in_advance, proration)
SELECT c.id, 'home-' || n, '', 'RUB', 'recurring', 'month', 1, 1, 1, 'Europe/Moscow', false, 'day'
FROM catalogues c, generate_series(1, 20) n WHERE c.name = 'bench';

CREATE TEMP TABLE people ON COMMIT DROP AS
SELECT n, 5000000 + n AS id, 'B' || lpad(n::text, 9, '0') AS number,
       (ARRAY['Иванов', 'Петрова', 'Сидоров', 'Кузнецова', 'Ёлкин', 'Константинопольская', 'Ли', 'Анненков', 'ООО Ромашка',
              'Соколова', 'Михайлов', 'Новикова', 'Федоров', 'Морозова', 'Волков', 'Алексеева'])[1 + n * 7919::bigint % 16]
       || ' ' || (ARRAY['Анна', 'Пётр', 'Сергей', 'Мария', 'Александр', 'Ольга', 'Дмитрий', 'Елена'])[1 + n % 8]
       || ' ' || lpad((n * 104729::bigint % 1000000)::text, 6, '0') AS name,
       now() - interval '5 years' * (1 - n::float8 / {customers}) AS created_at
FROM generate_series(1, {customers}) n;
INSERT INTO accounts (id, number, kind, name, created_at)
SELECT id, '7' || (9100000000 + n), 'subscriber', name, created_at FROM people;
INSERT INTO customers (id, number, name, customer_group, contacts, created_at)
SELECT id, number, name, (ARRAY['', 'home', 'business', 'vip'])[1 + n % 4],
       jsonb_build_object('phone', '+7' || (9100000000 + n), 'email', 'person' || n || '@example.ru'), created_at
FROM people;
INSERT INTO billing_accounts (account_id, customer_id, payer_account_id) SELECT id, id, id FROM people;
INSERT INTO orders (account_id, payer_account_id, terms_id, starts_at, ends_at, created_at)
SELECT p.id, p.id, (SELECT min(t.id) FROM order_terms t JOIN catalogues c ON c.id = t.catalogue_id WHERE c.name = 'bench')
                   + (p.n + k) % 20,
       p.created_at, CASE WHEN (p.n + k) % 10 = 0 THEN p.created_at + interval '40 days' END, p.created_at
FROM people p, generate_series(0, 1) k;

CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT m, m * {customers}::bigint AS first_n, (date_trunc('month', now()) - interval '1 month' * ({months} - m))::date AS day
FROM generate_series(0, {months} - 1) m;
DO $$
DECLARE
    p record; run integer; block bigint; start bigint; number bigint := 1;
BEGIN
    FOR p IN SELECT * FROM plan ORDER BY m LOOP
        INSERT INTO bill_runs (bill_on, kind, actor, started_at) VALUES (p.day, 'post', 'bench', p.day) RETURNING id INTO run;
        UPDATE bill_runs SET state = 'done', finished_at = p.day + interval '1 hour' WHERE id = run;
        FOR start IN SELECT generate_series(0, {customers} - 1, 10000) LOOP
            INSERT INTO invoice_blocks (series_id, run_id, shard_no, invoices_count, state, first_number, issued_at)
            VALUES (1, run, start / 10000, least(10000, {customers} - start), 'issued', number, p.day)
            RETURNING id INTO block;
            number := number + least(10000, {customers} - start);
            INSERT INTO invoices (id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor)
            SELECT (block << 20) + n, 5000001 + start + n, 'RUB', p.day, p.day + 14, amount, amount / 5, amount + amount / 5
            FROM (SELECT n, 30000 + (start + n) * 104729 % 200000 AS amount
                  FROM generate_series(0, least(10000, {customers} - start) - 1) n) a;
            INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id, worker)
            VALUES (run, start / 10000, 5000001 + start, 5000000 + start + 10000, '');
            UPDATE bill_shards SET state = 'posted', accounts_count = 10000, orders_count = 20000, invoices_count = 10000
            WHERE run_id = run AND shard_no = start / 10000;
        END LOOP;
    END LOOP;
    UPDATE invoice_series SET next_number = number WHERE id = 1;
END
$$;
UPDATE accounts a SET balance_minor = -d.owed
FROM (SELECT i.account_id, sum(i.total_minor) AS owed FROM invoices i JOIN people p ON p.id = i.account_id
      WHERE i.invoiced_on >= (SELECT max(day) FROM plan) - CASE WHEN p.n % 100 = 0 THEN 70 ELSE 0 END AND p.n % 10 = 0
      GROUP BY i.account_id) d
WHERE a.id = d.account_id;
UPDATE accounts SET balance_minor = 10000 + id % 90000 WHERE id > 5000000 AND id % 10 <> 0;
