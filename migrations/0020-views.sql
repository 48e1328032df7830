-- depends: 0019-sign-in
--
-- What the ledger and the billing cycle store, for everyone else to read: the tables are theirs to lay out. Outside
-- billing/cycle, billing/charging, billing/ledger and the proofs of `kopeck verify` statements read these views
-- (tests/house_rules.py). Each is its table, column by column, so the planner sees through it and a plan costs nothing.

-- Lines of invoices, drafts and credit notes.
CREATE VIEW billed_lines AS
SELECT invoice_id, line, kind, order_id, manual_line_id, item, period_start, period_end, quantity, discount_minor,
       amount_minor, tax_ppm, tax_inside, net_minor, tax_minor
FROM invoice_lines;

-- Movements of money, as they were posted.
CREATE VIEW posted_transfers AS
SELECT id, source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency, corrects_id, created_at
FROM transfers;

-- Periods of orders that runs have done with: billed, or waived with a reason.
CREATE VIEW recorded_periods AS
SELECT order_id, part, period_start, period_end, outcome, reason, active_num, active_den, amount_minor, invoice_id,
       run_id, supplement
FROM order_periods;

GRANT SELECT ON billed_lines, posted_transfers, recorded_periods TO kopeck_app;
