"""A shard written back: records of periods, invoices with their lines, failures, and the shard's own row.

Rules. Functions take the caller's connection; the shard is one transaction of the caller. Money does not move here.

Does not know: what is due, what it costs, when the transaction ends.
"""

from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from billing.charging.records import (
    KINDS,
    LATE,
    NONE,
    PARTS,
    REASONS,
    ShardBill,
    ShardInput,
)
from billing.cycle.columns import MICROSECONDS, UTC_INSTANT, instants_of, values_at, words_of
from billing.cycle.store import Claim
from billing.database.adbc import do, ingest, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from billing.database.link import CycleStoreError
from ratingcore.arrays import Ints

#: Bits of an invoice's id that are its place in its block (migration 0006).
PLACE_BITS: Final = 20

_SHARD_DONE: Final = """
    UPDATE bill_shards
    SET state = $3, failure = NULL, worker = $4, accounts_count = $5, orders_count = $6, events_count = $7,
        periods_count = $8, invoices_count = $9, lines_count = $10, failures_count = $11,
        duration_ms = extract(epoch FROM clock_timestamp() - now()) * 1000, finished_at = clock_timestamp()
    WHERE run_id = $1::int AND shard_no = $2::int
"""

_NEW_BLOCK: Final = """
    INSERT INTO invoice_blocks (series_id, run_id, shard_no, invoices_count, state)
    SELECT id, $2::int, $3::int, $4::int, $5 FROM invoice_series WHERE legal_entity_id = $1::int AND kind = 'invoice'
    RETURNING id
"""

_SETTLE: Final = "UPDATE orders SET settled_at = now() WHERE id = ANY ($1::text::bigint[])"

_MANUAL_BILLED: Final = """
    WITH billed AS (
        UPDATE manual_lines m SET invoice_id = w.invoice_id
        FROM unnest($1::text::bigint[], $2::text::bigint[]) AS w (id, invoice_id)
        WHERE m.id = w.id AND m.invoice_id IS NULL
        RETURNING 1
    )
    SELECT count(*) FROM billed
"""

_TOTALS: Final = """
    INSERT INTO bill_shard_totals (run_id, shard_no, currency, net_minor, tax_minor, total_minor)
    SELECT $1::int, $2::int, i.currency, sum(i.net_minor)::bigint, sum(i.tax_minor)::bigint, sum(i.total_minor)::bigint
    FROM invoice_blocks b JOIN invoices i ON i.id BETWEEN b.id << 20 AND (b.id << 20) + b.invoices_count - 1
    WHERE b.run_id = $1::int AND b.shard_no = $2::int
    GROUP BY i.currency
"""


def write_shard(opened: ColumnConnection, claim: Claim, shard: ShardInput, bill: ShardBill, worker: str) -> None:
    """Write what a shard came to: records, invoices, lines, failures, and the shard's own row. Money does not move."""
    state = "posted" if claim.kind == "post" else "drafted"
    invoice_ids = _new_invoices(opened, claim, shard, bill, "posted" if state == "posted" else "draft")
    ingest(opened, "order_periods", _period_rows(claim, bill, invoice_ids))
    ingest(opened, "invoice_lines", _line_rows(bill, invoice_ids))
    ingest(opened, "bill_failures", _failure_rows(claim, bill))
    if len(bill.settled_order_ids):
        do(opened, _SETTLE, (int_array(bill.settled_order_ids.tolist()),))
    if len(bill.manual.manual_line_id):
        _bill_manual(opened, bill.manual.manual_line_id, invoice_ids[bill.manual.invoice])
    do(opened, _TOTALS, (claim.run_id, claim.shard_no))
    of, failed = bill.counts, len(bill.failures)
    counts = (of.payers, of.orders, of.events, of.periods, of.invoices, of.lines, failed)
    do(opened, _SHARD_DONE, (claim.run_id, claim.shard_no, state, worker, *counts))


def _bill_manual(opened: ColumnConnection, lines: Ints, invoice_ids: Ints) -> None:
    """Claim manual lines for their invoices. One that moved to another payer meanwhile may be on his invoice already:
    then the shard is read again."""
    claimed = rows(opened, _MANUAL_BILLED, (int_array(lines.tolist()), int_array(invoice_ids.tolist())))
    if int(claimed[0][0]) != len(lines):
        raise CycleStoreError(f"{len(lines) - int(claimed[0][0])} manual lines were billed by another shard meanwhile")


def _new_invoices(opened: ColumnConnection, claim: Claim, shard: ShardInput, bill: ShardBill, state: str) -> Ints:
    """Make the blocks and the invoices in them; returns the id of each invoice of the shard."""
    invoices = bill.invoices
    entity = shard.payers.legal_entity_id[invoices.payer]
    ids = np.zeros(len(invoices.payer), np.int64)
    for entity_id in np.unique(entity).tolist():
        places = np.flatnonzero(entity == entity_id)
        made = rows(opened, _NEW_BLOCK, (entity_id, claim.run_id, claim.shard_no, len(places), state))
        if not made:
            raise CycleStoreError(f"legal entity {entity_id} has no series of invoices")
        ids[places] = (int(made[0][0]) << PLACE_BITS) + np.arange(len(places))
    days = (claim.bill_on - date(1970, 1, 1)) // timedelta(days=1)
    due = days + shard.payers.due_days[invoices.payer]
    currencies = pa.array(shard.currencies, pa.string()).take(pa.array(shard.payers.currency[invoices.payer]))
    ingest(
        opened,
        "invoices",
        pa.table(
            {
                "id": ids,
                "account_id": invoices.account_id,
                "currency": currencies,
                "invoiced_on": pa.array(np.full(len(ids), days, np.int32)).cast(pa.date32()),
                "due_on": pa.array(due.astype(np.int32)).cast(pa.date32()),
                "net_minor": invoices.net_minor,
                "tax_minor": invoices.tax_minor,
                "total_minor": invoices.total_minor,
            }
        ),
    )
    return ids


def _period_rows(claim: Claim, bill: ShardBill, invoice_ids: Ints) -> pa.Table:
    periods = bill.periods
    outcomes = np.where(periods.reason == 0, 0, 1).astype(np.uint8)
    return pa.table(
        {
            "order_id": periods.order_id,
            "part": words_of(PARTS, periods.part),
            "period_start": instants_of(periods.start_s),
            "period_end": instants_of(periods.end_s),
            "outcome": words_of(("billed", "waived"), outcomes),
            "reason": words_of(REASONS, periods.reason),
            "active_num": periods.num,
            "active_den": periods.den,
            "amount_minor": periods.amount_minor,
            "invoice_id": values_at(invoice_ids, periods.invoice),
            "run_id": np.full(len(periods.order_id), claim.run_id, np.int32),
            "supplement": np.where(periods.part == LATE, claim.run_id, 0).astype(np.int32),
        }
    )


def _line_rows(bill: ShardBill, invoice_ids: Ints) -> pa.Table:
    lines = bill.lines
    return pa.table(
        {
            "invoice_id": invoice_ids[lines.invoice],
            "line": lines.line.astype(np.int32, copy=False),
            "kind": words_of(KINDS, lines.kind),
            "order_id": pa.array(lines.order_id, mask=lines.order_id == NONE),
            "manual_line_id": pa.array(lines.manual_line_id, mask=lines.manual_line_id == NONE),
            "item": words_of(bill.items, lines.item),
            "period_start": instants_of(lines.start_s),
            "period_end": instants_of(lines.end_s),
            "quantity": lines.quantity,
            "discount_minor": lines.discount_minor,
            "amount_minor": lines.amount_minor,
            "tax_ppm": lines.tax_ppm.astype(np.int32, copy=False),
            "tax_inside": lines.inside.astype(bool),
            "net_minor": lines.net_minor,
            "tax_minor": lines.tax_minor,
        }
    )


def _failure_rows(claim: Claim, bill: ShardBill) -> pa.Table:
    failures = bill.failures
    starts = [None if one.start_s == NONE else one.start_s * MICROSECONDS for one in failures]
    return pa.table(
        {
            "run_id": pa.array([claim.run_id] * len(failures), pa.int32()),
            "payer_account_id": pa.array([one.payer_account_id for one in failures], pa.int64()),
            "order_id": pa.array([None if one.order_id == NONE else one.order_id for one in failures], pa.int64()),
            "period_start": pa.array(starts, pa.int64()).cast(UTC_INSTANT),
            "part": pa.array([one.part or None for one in failures], pa.string()),
            "reason": pa.array([one.reason for one in failures], pa.string()),
            "detail": pa.array([one.detail.replace("\0", "?")[:1_000] for one in failures], pa.string()),
            "amount_minor": pa.array([one.amount_minor for one in failures], pa.int64()),
            "usage_id": pa.array([one.usage_id for one in failures], pa.int64()),
        }
    )
