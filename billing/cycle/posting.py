"""Drafts become money and numbers: transfers and balances of a shard, numbers of a run, and a voided review undone.

Rules. What is posted is read from the invoices as they stand, whether the cycle wrote them a moment ago or a person
approved them a week later. Subscribers' rows are locked in order of id by the last statements before COMMIT, then
revenue and tax by id (billing.ledger.transfers), so a payment waits for a shard's balances and never for its
computation. Numbers are given when every shard of the run is posted: one short transaction adds up the counts of the
blocks.

Does not know: how invoices came about. Functions take the caller's connection and do not commit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from billing.cycle.short_store import lock_short, mark_short, suspend_unborne
from billing.database.adbc import columns, do, ingest, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from billing.database.link import CycleStoreError
from billing.refusals import Refusal

#: The steps of an invoice and their sums; the other side of each is the system account ``step:CURRENCY``.
_SUMS: Final = {"revenue": "net_minor", "tax": "tax_minor"}

_INVOICES: Final = """
    invoice_blocks b JOIN invoices i ON i.id BETWEEN b.id << 20 AND (b.id << 20) + b.invoices_count - 1
"""

#: Invoices are met in the order of their ids, which in a block is that of the payers' ids, and each looks up its
#: account: so rows are locked in order of id. The planner may not choose another way.
_BY_LOOKUP: Final = ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off")

_POSTED: Final = f"""
    SELECT i.id, i.account_id, i.currency, i.net_minor, i.tax_minor, i.total_minor FROM {_INVOICES}
    WHERE b.run_id = {{run_id}} AND b.shard_no = {{shard_no}}
    ORDER BY i.id
"""

_SYSTEM_ACCOUNTS: Final = "SELECT number, id FROM accounts WHERE number = ANY ($1::text::text[])"

_MOVE_PAYERS: Final = f"""
    WITH moved AS (
        UPDATE accounts a SET balance_minor = a.balance_minor - d.total_minor
        FROM (
            SELECT i.account_id, i.total_minor FROM {_INVOICES}
            WHERE b.run_id = $1::int AND b.shard_no = $2::int AND i.total_minor <> 0
            ORDER BY i.account_id
        ) d
        WHERE a.id = d.account_id
        RETURNING 1
    )
    SELECT count(*) FROM moved
"""

_LOCK_SYSTEM: Final = "SELECT id FROM accounts WHERE id = ANY ($1::text::bigint[]) ORDER BY id FOR NO KEY UPDATE"

_MOVE_SYSTEM: Final = """
    UPDATE accounts a SET balance_minor = a.balance_minor + d.delta
    FROM unnest($1::text::bigint[], $2::text::bigint[]) AS d (id, delta)
    WHERE a.id = d.id
"""

_BLOCKS_POSTED: Final = """
    UPDATE invoice_blocks SET state = 'posted' WHERE run_id = $1::int AND shard_no = $2::int AND state = 'draft'
"""

_SHARD_POSTED: Final = """
    UPDATE bill_shards SET state = 'posted', worker = $3, finished_at = clock_timestamp()
    WHERE run_id = $1::int AND shard_no = $2::int AND state = 'drafted'
"""

#: Prepaid payers whose balance does not bear the draft any more.
_TOO_LOW: Final = f"""
    SELECT a.number, a.balance_minor, i.total_minor, a.floor_minor, i.currency
    FROM {_INVOICES} JOIN accounts a ON a.id = i.account_id
    WHERE b.run_id = $1::int AND b.state = 'draft' AND a.floor_minor IS NOT NULL
      AND a.balance_minor - i.total_minor < a.floor_minor {{shard}}
    ORDER BY i.id
"""
_TOO_LOW_OF_SHARD: Final = _TOO_LOW.format(shard="AND b.shard_no = $2::int")

# ---- numbers

LOCK_RUN: Final = "SELECT state, kind FROM bill_runs WHERE id = $1::int FOR UPDATE"

_SHARD_STATES: Final = "SELECT state, count(*) FROM bill_shards WHERE run_id = $1::int GROUP BY state"

_LOCK_SERIES: Final = """
    SELECT id FROM invoice_series
    WHERE id IN (SELECT series_id FROM invoice_blocks WHERE run_id = $1::int) ORDER BY id FOR UPDATE
"""

_NUMBER: Final = """
    WITH placed AS (
        SELECT b.id, s.next_number
               + sum(b.invoices_count) OVER (PARTITION BY b.series_id ORDER BY b.shard_no) - b.invoices_count AS first
        FROM invoice_blocks b JOIN invoice_series s ON s.id = b.series_id
        WHERE b.run_id = $1::int AND b.state = 'posted'
    )
    UPDATE invoice_blocks b SET first_number = p.first::bigint, state = 'issued', issued_at = now()
    FROM placed p WHERE b.id = p.id
"""

#: After the numbers were given: the blocks are issued by then.
_ADVANCE_SERIES: Final = """
    UPDATE invoice_series s SET next_number = d.next
    FROM (
        SELECT series_id, max(first_number + invoices_count) AS next FROM invoice_blocks
        WHERE run_id = $1::int AND state = 'issued' GROUP BY series_id
    ) d
    WHERE s.id = d.series_id
"""

_RUN_STATE: Final = """
    UPDATE bill_runs
    SET state = $2, finished_at = CASE WHEN $2 IN ('done', 'void') THEN now() END,
        approved_by = coalesce(nullif($3, ''), approved_by)
    WHERE id = $1::int
"""

# ---- void: everything the drafts claimed becomes due again

#: While a review waits, only its shards settle orders, but for one-time orders that are taken back. Who pays is asked
#: again: what seemed billed did not move with its account.
_UNSETTLE: Final = """
    UPDATE orders o
    SET settled_at = NULL,
        payer_account_id = coalesce(
            (SELECT payer_account_id FROM billing_accounts b WHERE b.account_id = o.account_id), o.payer_account_id)
    FROM bill_runs r, order_terms t
    WHERE r.id = $1::int AND o.settled_at >= r.started_at
      AND (r.state <> 'approving' OR EXISTS (
          SELECT FROM bill_shards s
          WHERE s.run_id = r.id AND s.state = 'drafted'
            AND o.payer_account_id BETWEEN s.first_account_id AND s.last_account_id))
      AND t.id = o.terms_id AND NOT (t.kind = 'one_time' AND coalesce(o.ends_at = o.starts_at, false))
"""

_FREE_MANUAL: Final = """
    UPDATE manual_lines m
    SET invoice_id = NULL,
        payer_account_id = coalesce(
            (SELECT payer_account_id FROM billing_accounts p WHERE p.account_id = m.account_id), m.payer_account_id)
    FROM invoice_blocks b
    WHERE b.run_id = $1::int AND b.state = 'draft'
      AND m.invoice_id BETWEEN b.id << 20 AND (b.id << 20) + b.invoices_count - 1
"""

_VOID_BLOCKS: Final = "UPDATE invoice_blocks SET state = 'void' WHERE run_id = $1::int AND state = 'draft'"

#: Of a run that was approved, the periods of shards that were posted stay.
_DELETE: Final = (
    """
    DELETE FROM order_periods p USING bill_runs r
    WHERE p.run_id = $1::int AND r.id = p.run_id
      AND (r.state = 'void' OR CASE WHEN p.invoice_id IS NULL
           THEN EXISTS (SELECT FROM orders o JOIN bill_shards s
                          ON o.payer_account_id BETWEEN s.first_account_id AND s.last_account_id
                        WHERE o.id = p.order_id AND s.run_id = r.id AND s.state = 'drafted')
           ELSE EXISTS (SELECT FROM invoice_blocks b WHERE b.id = p.invoice_id >> 20 AND b.state = 'void') END)
    """,
    """
    DELETE FROM invoice_lines l USING invoice_blocks b
    WHERE b.run_id = $1::int AND b.state = 'void'
      AND l.invoice_id BETWEEN b.id << 20 AND (b.id << 20) + b.invoices_count - 1
    """,
    """
    DELETE FROM invoices i USING invoice_blocks b
    WHERE b.run_id = $1::int AND b.state = 'void' AND i.id BETWEEN b.id << 20 AND (b.id << 20) + b.invoices_count - 1
    """,
)


class CycleRefused(Refusal):
    """What was asked cannot be done as things stand; nothing was changed. The message is for people."""

    default_code = "run_refused"


@dataclass(frozen=True, slots=True)
class TooLow:
    """A prepaid payer whom his draft would bring below his floor."""

    account: str
    balance_minor: int
    total_minor: int
    floor_minor: int
    currency: str


def post_shard(opened: ColumnConnection, run_id: int, shard_no: int) -> None:
    """Post a shard's invoices to the ledger: to be the last thing before COMMIT.

    Raises:
        CycleStoreError: a system account or a payer's account is missing.
    """
    invoices = columns(opened, _POSTED.format(run_id=run_id, shard_no=shard_no))
    transfers, deltas = _transfers(opened, invoices)
    ingest(opened, "transfers", transfers)
    short = suspend_unborne(opened, run_id, shard_no)
    expected = int(np.count_nonzero(np.asarray(invoices["total_minor"])))
    for statement in _BY_LOOKUP:
        do(opened, statement)
    # From here on payments of these accounts wait.
    lock_short(opened, short, np.asarray(invoices["account_id"]))
    moved = int(rows(opened, _MOVE_PAYERS, (run_id, shard_no))[0][0])
    if moved != expected:
        raise CycleStoreError(f"{expected - moved} of {expected} accounts to be charged do not exist")
    mark_short(opened, short)
    if deltas:
        ids = int_array(sorted(deltas))
        rows(opened, _LOCK_SYSTEM, (ids,))
        do(opened, _MOVE_SYSTEM, (ids, int_array(deltas[one] for one in sorted(deltas))))


def _transfers(opened: ColumnConnection, invoices: pa.Table) -> tuple[pa.Table, dict[int, int]]:
    """The transfers of a shard's invoices, in their order, and what each system account gets of them.

    By COPY, which takes half of what INSERT ... SELECT does for rows with four indexes.

    Raises:
        CycleStoreError: there is no such system account.
    """
    found = invoices["currency"].combine_chunks().dictionary_encode()
    codes, currencies = np.asarray(found.indices), found.dictionary.to_pylist()
    numbers = "{" + ",".join(f"{step}:{currency}" for step in _SUMS for currency in currencies) + "}"
    known = {str(number): int(account_id) for number, account_id in rows(opened, _SYSTEM_ACCOUNTS, (numbers,))}
    amounts = np.stack([np.asarray(invoices[name]) for name in _SUMS.values()], axis=1)
    place, step = np.nonzero(amounts)
    amount, system, deltas = amounts[place, step], np.zeros(len(place), np.int64), {}
    for at, name in enumerate(_SUMS):
        for code, currency in enumerate(currencies):
            mine = (step == at) & (codes[place] == code)
            if not mine.any():
                continue
            if (account_id := known.get(f"{name}:{currency}")) is None:
                raise CycleStoreError(f"there is no account {name}:{currency}; `kopeck bill resume`")
            system[mine], deltas[account_id] = account_id, sum(amount[mine].tolist())  # which may pass int64
    payer = np.asarray(invoices["account_id"])[place]
    columns_of = {
        "source": pa.repeat("invoice", len(place)),
        "source_id": np.asarray(invoices["id"])[place],
        "step": pa.array(tuple(_SUMS)).take(pa.array(step)),
        "debit_account_id": np.where(amount > 0, payer, system),
        "credit_account_id": np.where(amount > 0, system, payer),
        "amount_minor": np.abs(amount),
        "currency": invoices["currency"].take(pa.array(place)),
    }
    return pa.table(columns_of), deltas


def approve_shard(opened: ColumnConnection, run_id: int, shard_no: int, worker: str) -> None:
    """Post the drafts of a shard, precisely as they are.

    Raises:
        CycleStoreError: a prepaid payer's balance fell since the approval and does not bear its draft.
    """
    low = [TooLow(*row) for row in rows(opened, _TOO_LOW_OF_SHARD, (run_id, shard_no))]
    if low:
        raise CycleStoreError(
            f"{_too_low_words(low)}. Bring their balances up; `kopeck bill resume` then posts the shard, or `kopeck "
            f"bill abandon` makes what is not posted due again"
        )
    do(opened, _BLOCKS_POSTED, (run_id, shard_no))
    do(opened, _SHARD_POSTED, (run_id, shard_no, worker))
    post_shard(opened, run_id, shard_no)


def _too_low_words(low: list[TooLow]) -> str:
    named = ", ".join(one.account for one in low[:20]) + (", ..." if len(low) > 20 else "")
    return f"{len(low)} prepaid accounts cannot bear their invoices any more: {named}"


def payers_too_low(opened: ColumnConnection, run_id: int) -> list[TooLow]:
    """Prepaid payers whose balance fell below what their drafts take."""
    return [TooLow(*row) for row in rows(opened, _TOO_LOW.format(shard=""), (run_id,))]


def finish_run(opened: ColumnConnection, run_id: int, *, leave_failed: bool = False) -> str:
    """Bring a run on when its shards are done: number and issue what is posted, or call a review reviewed.

    Args:
        leave_failed: finish although shards failed; what is in them stays due. Approving a review that left some
            leaves them too.

    Returns:
        The run's state; unchanged where shards are left.
    """
    state, kind = rows(opened, LOCK_RUN, (run_id,))[0]
    counts = {str(name): int(count) for name, count in rows(opened, _SHARD_STATES, (run_id,))}
    is_left = leave_failed or state == "approving"
    if state not in ("running", "approving") or counts.get("due") or (counts.get("failed") and not is_left):
        return str(state)
    if kind == "review" and state == "running":
        do(opened, _RUN_STATE, (run_id, "reviewed", ""))
        return "reviewed"
    if counts.get("drafted"):
        return str(state)
    number_run(opened, run_id)
    do(opened, _RUN_STATE, (run_id, "done", ""))
    return "done"


def number_run(opened: ColumnConnection, run_id: int) -> None:
    """Number and issue what is posted of a run."""
    rows(opened, _LOCK_SERIES, (run_id,))
    do(opened, _NUMBER, (run_id,))
    do(opened, _ADVANCE_SERIES, (run_id,))


def begin_approval(opened: ColumnConnection, run_id: int, actor: str) -> None:
    """Mark a review as being approved, if every prepaid payer can bear his draft.

    Raises:
        CycleRefused: the run is no review that waits, or payers cannot bear their drafts.
    """
    state = run_state(opened, run_id)
    if state == "approving":
        return
    if state != "reviewed":
        raise CycleRefused(f"run {run_id} is {state}: only a review that is complete can be approved")
    low = payers_too_low(opened, run_id)
    if low:
        raise CycleRefused(f"{_too_low_words(low)}. Bring their balances up, or void the review and run it again")
    do(opened, _RUN_STATE, (run_id, "approving", actor))


def undo_review(opened: ColumnConnection, run_id: int) -> None:
    """Undo a review: its drafts are deleted, and what they billed is due again.

    Raises:
        CycleRefused: no review, or one of which something is posted.
    """
    found = rows(opened, LOCK_RUN, (run_id,))
    if not found:
        raise CycleRefused(f"there is no run {run_id}")
    state, kind = found[0]
    if kind != "review" or state not in ("running", "reviewed"):
        raise CycleRefused(
            f"run {run_id} is {'a posting run' if kind == 'post' else state}: nothing of it can be voided"
        )
    release_drafts(opened, run_id)
    do(opened, _RUN_STATE, (run_id, "void", ""))
    delete_drafts(opened, run_id)


def release_drafts(opened: ColumnConnection, run_id: int) -> None:
    """Make due again what the drafts of a review claimed; ``delete_drafts`` follows once the run is over."""
    do(opened, _UNSETTLE, (run_id,))
    do(opened, _FREE_MANUAL, (run_id,))


def delete_drafts(opened: ColumnConnection, run_id: int) -> None:
    """Make the drafts of a run that is void, or that was given up, void too, and delete them with their periods."""
    do(opened, _VOID_BLOCKS, (run_id,))
    for statement in _DELETE:
        do(opened, statement, (run_id,))


def run_state(opened: ColumnConnection, run_id: int) -> str:
    """The state of a run, whose row is locked.

    Raises:
        CycleRefused: there is no such run.
    """
    found = rows(opened, LOCK_RUN, (run_id,))
    if not found:
        raise CycleRefused(f"there is no run {run_id}")
    return str(found[0][0])
