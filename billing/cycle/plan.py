"""The plan of a billing run: which ranges of paying accounts, by which catalogues, with usage closed.

Rules. One transaction: a run is there with its shards, its catalogue versions and closed usage, or not at all. Usage is
closed as usage_boundary says. The same
accounts give the same shards. A payer is in one shard; one whose orders alone would fill a shard has it to himself. A
run is refused while another one is under way.

Does not know: what is due. Functions take the caller's connection and do not commit.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from billing.calendar import local_midnight
from billing.cycle import boundary_store as usage_boundary
from billing.cycle.late_store import late_payers
from billing.cycle.posting import CycleRefused
from billing.database.adbc import columns, do, rows
from billing.database.cursors import ColumnConnection
from billing.database.locks import hold_bill_runs, hold_order_changes
from ratingcore.arrays import Ints

#: Paying accounts of a shard, unless settings say otherwise: their balances are locked for a fraction of a second.
SHARD_PAYERS: Final = 20_000
#: Payers with more orders than this count for more than one payer.
_ORDERS_PER_PAYER: Final = 5


_ZONES: Final = "SELECT DISTINCT zone FROM order_terms"

_UNDER_WAY: Final = """
    SELECT id, bill_on, kind, state FROM bill_runs WHERE state IN ('running', 'reviewed', 'approving')
"""

_NEW_RUN: Final = """
    INSERT INTO bill_runs (bill_on, kind, only_account_id, actor, usage_until)
    VALUES ($1, $2, nullif($3, 0), $4, to_timestamp($5::bigint)) RETURNING id
"""

_FREEZE: Final = """
    INSERT INTO bill_run_catalogues (run_id, catalogue_id, version_id)
    SELECT DISTINCT ON (catalogue_id) $1::int, catalogue_id, id FROM catalogue_versions
    ORDER BY catalogue_id, version DESC
"""

_PAYERS: Final = """
    SELECT payer_account_id, sum(orders_count)::bigint AS orders_count
    FROM (
        SELECT payer_account_id, count(*) AS orders_count FROM orders WHERE settled_at IS NULL {only}
        GROUP BY payer_account_id
        UNION ALL
        SELECT payer_account_id, count(*) FROM manual_lines
        WHERE invoice_id IS NULL AND bill_on <= DATE '{bill_on}' {only}
        GROUP BY payer_account_id
    ) d
    GROUP BY payer_account_id ORDER BY payer_account_id
"""

_NEW_SHARDS: Final = """
    INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id)
    SELECT $1::int, ordinality - 1, first, last
    FROM unnest($2::text::bigint[], $3::text::bigint[]) WITH ORDINALITY AS s (first, last)
"""

#: In this order, so that revenue has the lower id, where neither is there yet.
_SYSTEM_ACCOUNTS: Final = """
    INSERT INTO accounts (number, kind, currency)
    SELECT k.kind || ':' || c.currency, k.kind, c.currency
    FROM (SELECT currency FROM order_terms
          UNION SELECT a.currency FROM manual_lines m JOIN accounts a ON a.id = m.payer_account_id
                WHERE m.invoice_id IS NULL) c
    CROSS JOIN (VALUES (1, 'revenue'), (2, 'tax')) AS k (place, kind)
    WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.number = k.kind || ':' || c.currency)
    ORDER BY c.currency, k.place
    ON CONFLICT (number) DO NOTHING
"""

_NO_SERIES: Final = """
    SELECT e.number FROM legal_entities e
    WHERE NOT EXISTS (SELECT FROM invoice_series s WHERE s.legal_entity_id = e.id AND s.kind = 'invoice')
      AND EXISTS (SELECT FROM billing_accounts b WHERE b.legal_entity_id = e.id)
    ORDER BY e.number
"""

_PAYER: Final = """
    SELECT a.id, p.id, p.number
    FROM accounts a JOIN account_kinds k ON k.kind = a.kind AND NOT k.is_system
    LEFT JOIN billing_accounts b ON b.account_id = a.id LEFT JOIN accounts p ON p.id = b.payer_account_id
    WHERE a.number = $1
"""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to plan. kind: 'post' or 'review'; account: number of the one payer to bill, or '' for everybody."""

    bill_on: date
    kind: str
    actor: str
    account: str = ""
    shard_payers: int = SHARD_PAYERS


def plan_run(opened: ColumnConnection, new: NewRun) -> int:
    """Plan a run; returns its id.

    Raises:
        CycleRefused: another run is under way, the account is no payer, or something a run needs is missing.
    """
    hold_bill_runs(opened)
    only = _only(opened, new.account)
    _check(opened)
    until_s = _usage_until(opened, new.bill_on)
    usage_boundary.hold(opened, until_s)
    hold_order_changes(opened)
    ensure_system_accounts(opened)
    run_id = int(rows(opened, _NEW_RUN, (new.bill_on, new.kind, only, new.actor, until_s))[0][0])
    if only:
        usage_boundary.close_for_payer(opened, run_id)
    elif new.kind == "post":
        usage_boundary.close_for_all(opened, run_id)
    do(opened, _FREEZE, (run_id,))
    where = f"AND payer_account_id = {only}" if only else ""
    found = columns(opened, _PAYERS.format(only=where, bill_on=new.bill_on.isoformat()))
    payers, orders = (np.asarray(found[name].combine_chunks()) for name in ("payer_account_id", "orders_count"))
    late = late_payers(opened, until_s)
    late = np.setdiff1d(late[late == only] if only else late, payers)
    if len(late):  # of whom nothing but late usage is left to bill
        by_id = np.argsort(np.concatenate([payers, late]), kind="stable")
        payers = np.concatenate([payers, late])[by_id]
        orders = np.concatenate([orders, np.ones(len(late), np.int64)])[by_id]
    first, last = cut_shards(payers, orders, new.shard_payers)
    if len(first):
        do(opened, _NEW_SHARDS, (run_id, _array(first), _array(last)))
    return run_id


def _array(values: Ints) -> str:
    return "{" + ",".join(map(str, values.tolist())) + "}"


def cut_shards(payers: Ints, orders: Ints, shard_payers: int) -> tuple[Ints, Ints]:
    """First and last payer of each shard.

    Args:
        payers: ascending ids of paying accounts; orders: how many orders and manual lines each has.
        shard_payers: most payers of a shard.

    >>> cut_shards(np.array([3, 5, 8]), np.array([1, 1, 1]), 2)
    (array([3, 8]), array([5, 8]))
    """
    if not len(payers):
        return payers, payers
    weights = np.maximum(orders, _ORDERS_PER_PAYER)
    shards = (np.cumsum(weights) - weights) // (shard_payers * _ORDERS_PER_PAYER)
    begins = np.flatnonzero(np.diff(shards, prepend=-1))
    return payers[begins], payers[np.append(begins[1:], len(payers)) - 1]


def _only(opened: ColumnConnection, account: str) -> int:
    """The id of the payer with this number; 0 for everybody."""
    if not account:
        return 0
    found = rows(opened, _PAYER, (account,))
    if not found:
        raise CycleRefused(f"there is no account {account[:40]!r}")
    account_id, payer_id, payer = found[0]
    if payer_id not in (None, account_id):
        raise CycleRefused(f"account {account} gets no invoices: {payer} pays for it; bill that one")
    return int(account_id)


def _check(opened: ColumnConnection) -> None:
    under_way = rows(opened, _UNDER_WAY)
    if under_way:
        run_id, bill_on, kind, state = under_way[0]
        advice = "`kopeck bill approve` or `kopeck bill void-review`" if state == "reviewed" else "`kopeck bill resume`"
        what = "the review" if kind == "review" else "the run"
        raise CycleRefused(f"{what} {run_id} of {bill_on} is {state}: {advice} comes first")
    without = [str(row[0]) for row in rows(opened, _NO_SERIES)]
    if without:
        raise CycleRefused(f"legal entities without a series of invoices: {', '.join(without[:20])}")


def _usage_until(opened: ColumnConnection, bill_on: date) -> int:
    """The latest midnight at which ``bill_on`` begins anywhere in use: the run sees the usage that counts before it."""
    try:
        return max(local_midnight(bill_on, str(zone)) for (zone,) in rows(opened, _ZONES) or [("UTC",)])
    except ValueError as error:
        raise CycleRefused(f"no run on {bill_on}: {error}") from error


def ensure_system_accounts(opened: ColumnConnection) -> None:
    """Make the accounts of revenue and tax of every currency that is billed."""
    do(opened, _SYSTEM_ACCOUNTS)
