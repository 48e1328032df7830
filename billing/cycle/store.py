"""A shard of the billing cycle out of PostgreSQL, in columns: its claim, its run's prices, its orders and payers.

Rules. Functions take the caller's connection; the shard is one transaction of the caller. Reading is by binary COPY,
which takes no parameters, so ranges are written into the statements, integers alone. Everything of a shard's payers is
found by the range of their ids; accounts that lie elsewhere (children whose parent pays) are listed by their ids.

Does not know: usage (usage_store), what goes back (write_store), what is due, when the transaction ends.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from billing.calendar import HORIZON_END_S, NEVER, local_midnight
from billing.catalogue.model import Catalogue
from billing.catalogue.nodes import CatalogueError
from billing.catalogue.store import Source, catalogue_of
from billing.charging.records import (
    NO_FLOOR,
    NONE,
    Adjustments,
    AdvanceAmounts,
    ManualLines,
    Orders,
    Payers,
    Range,
    ShardInput,
    Suspensions,
)
from billing.cycle.columns import bytes_in, dictionary_in, ints, seconds
from billing.cycle.usage_store import wheres_of
from billing.database.adbc import columns, do, rows
from billing.database.cursors import ColumnConnection
from billing.orders.terms import OrderTerms
from ratingcore.arrays import Ints

# ---- the claim

#: The run's row is held too: nobody voids or finishes a run whose shards are being done.
_CLAIM: Final = f"""
    SELECT s.state, r.kind, r.state, r.bill_on, s.first_account_id, s.last_account_id,
           coalesce(extract(epoch FROM r.usage_until)::bigint, {HORIZON_END_S})
    FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
    WHERE s.run_id = $1::int AND s.shard_no = $2::int
    FOR UPDATE OF s SKIP LOCKED FOR SHARE OF r
"""

_SHARD_FAILED: Final = """
    UPDATE bill_shards SET state = 'failed', failure = $3, worker = $4, finished_at = now()
    WHERE run_id = $1::int AND shard_no = $2::int AND state IN ('due', 'failed')
"""

# ---- what a run rates by

_VERSIONS: Final = """
    SELECT b.catalogue_id, v.id, c.name, v.version, v.main_file, v.sha256
    FROM bill_run_catalogues b
    JOIN catalogue_versions v ON v.id = b.version_id JOIN catalogues c ON c.id = b.catalogue_id
    WHERE b.run_id = $1::int ORDER BY b.catalogue_id
"""

_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = $1"

_TERMS: Final = """
    SELECT id, catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month, zone,
           in_advance, proration, anchor_phase
    FROM order_terms ORDER BY id
"""

# ---- a shard's columns. {payers}: o.payer_account_id BETWEEN ... AND o.settled_at IS NULL
#
# Tables grow by millions of rows while a run goes on, before the planner hears of it. So what must be looked up is in a
# subquery with LIMIT or OFFSET 0, which can be done in no other way.

_ORDERS: Final = """
    SELECT o.id, o.account_id, o.payer_account_id, o.terms_id, o.quantity, o.starts_at, o.ends_at, o.trial_until,
           o.minimum_minor, o.price_minor, array_to_json(o.codes)::text AS codes,
           CASE WHEN o.terms_id IN ({advance}) THEN (
               SELECT p.period_end FROM order_periods p WHERE p.order_id = o.id AND p.part = 'advance'
               ORDER BY p.period_start DESC LIMIT 1) END AS advance_done,
           CASE WHEN o.terms_id NOT IN ({once}) THEN (
               SELECT p.period_end FROM order_periods p WHERE p.order_id = o.id AND p.part = 'arrears'
               ORDER BY p.period_start DESC LIMIT 1) END AS arrears_done,
           CASE WHEN o.terms_id IN ({once}) THEN coalesce((
               SELECT true FROM order_periods p WHERE p.order_id = o.id AND p.part = 'once' LIMIT 1), false)
           ELSE false END AS once_done
    FROM orders o
    WHERE {payers}
    ORDER BY o.payer_account_id, o.id
"""

#: Of customers whom anything in a catalogue names, alone or by their group.
_BUYERS: Final = """
    SELECT b.account_id, CASE WHEN c.customer_group IN ({groups}) THEN c.customer_group ELSE '' END AS customer_group,
           CASE WHEN c.number IN ({customers}) THEN c.number ELSE '' END AS customer
    FROM billing_accounts b JOIN customers c ON c.id = b.customer_id
    WHERE {accounts} AND (c.customer_group IN ({groups}) OR c.number IN ({customers}))
    ORDER BY b.account_id
"""

_SUSPENSIONS: Final = """
    SELECT s.order_id, s.from_at, s.until_at
    FROM orders o JOIN order_suspensions s ON s.order_id = o.id
    WHERE {payers}
    ORDER BY s.order_id, s.from_at
"""

#: A share differs from what was billed by an end or a suspension within the period, or where one that was foreseen then
#: was withdrawn, moved or cut short: so orders that have or had any, and what was billed in part of those. Percentages
#: that the period's arrears part put on the same invoice are among the lines; whoever knows the entitlement leaves them
#: out.
_ADJUSTMENTS: Final = """
    WITH changed AS MATERIALIZED (
        SELECT o.id, o.ends_at FROM orders o
        WHERE {payers} AND o.terms_id IN ({advance})
          AND (o.ends_at IS NOT NULL OR EXISTS (SELECT FROM order_suspensions s WHERE s.order_id = o.id)
               OR (SELECT true FROM order_events e
                   WHERE e.order_id = o.id AND e.event = 'end_withdrawn' LIMIT 1) IS NOT NULL)
    )
    SELECT p.order_id, p.period_start, p.period_end, p.active_num, p.active_den, l.item, l.amount_minor, l.tax_ppm,
           l.tax_inside,
           coalesce((
               SELECT -sum(c.amount_minor)
               FROM (SELECT n.id FROM invoices n WHERE n.corrects_id = l.invoice_id OFFSET 0) n
               CROSS JOIN LATERAL (
                   SELECT c.amount_minor FROM invoice_lines c WHERE c.invoice_id = n.id AND c.line = l.line OFFSET 0
               ) c), 0)::bigint AS credited_minor
    FROM changed o
    CROSS JOIN LATERAL (
        SELECT p.* FROM order_periods p
        WHERE p.order_id = o.id AND p.part = 'advance' AND p.outcome = 'billed' AND p.active_num > 0
          AND (o.ends_at < p.period_end OR p.active_num < p.active_den OR EXISTS (
              SELECT FROM order_suspensions s
              WHERE s.order_id = o.id AND s.from_at < p.period_end
                AND coalesce(s.until_at, 'infinity') > p.period_start))
          AND (SELECT true FROM order_periods d
               WHERE d.order_id = o.id AND d.part = 'adjustment' AND d.period_start = p.period_start LIMIT 1) IS NULL
        OFFSET 0
    ) p
    CROSS JOIN LATERAL (
        SELECT l.* FROM invoice_lines l
        WHERE l.invoice_id = p.invoice_id AND l.order_id = p.order_id AND l.kind IN ('recurring', 'percentage')
          AND l.period_start >= p.period_start AND l.period_end <= p.period_end
        OFFSET 0
    ) l
    ORDER BY p.order_id, p.period_start, l.invoice_id, l.line
"""

_ADVANCES: Final = """
    SELECT p.order_id, p.period_start,
           p.amount_minor + coalesce((
               SELECT u.amount_minor FROM order_periods u
               WHERE u.order_id = p.order_id AND u.part = 'adjustment' AND u.period_start = p.period_start LIMIT 1
           ), 0) AS amount_minor
    FROM (SELECT o.id FROM orders o WHERE {payers} AND o.terms_id IN ({advance}) AND o.minimum_minor > 0 OFFSET 0) o
    CROSS JOIN LATERAL (
        SELECT p.* FROM order_periods p
        WHERE p.order_id = o.id AND p.part = 'advance'
          AND (SELECT true FROM order_periods d
               WHERE d.order_id = o.id AND d.part = 'arrears' AND d.period_start = p.period_start LIMIT 1) IS NULL
        OFFSET 0
    ) p
    ORDER BY p.order_id, p.period_start
"""

#: The range is said of both tables: of one alone, the planner reads the whole other.
_PAYERS: Final = """
    SELECT a.id, a.currency, coalesce(b.legal_entity_id, 1) AS legal_entity_id,
           coalesce(b.due_days, 14)::int AS due_days, a.balance_minor, a.floor_minor
    FROM accounts a
    LEFT JOIN billing_accounts b ON b.account_id = a.id AND b.account_id BETWEEN {first} AND {last}
    WHERE a.id BETWEEN {first} AND {last}
    ORDER BY a.id
"""

_MANUAL: Final = """
    SELECT m.id, m.payer_account_id, m.amount_minor, m.tax_ppm, m.tax_inside, m.bill_on,
           coalesce(b.zone, 'UTC') AS zone
    FROM manual_lines m LEFT JOIN billing_accounts b ON b.account_id = m.account_id
    WHERE m.payer_account_id BETWEEN {first} AND {last} AND m.invoice_id IS NULL AND m.bill_on <= DATE '{bill_on}'
    ORDER BY m.payer_account_id, m.id
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A shard that is ours until the transaction ends, and what the run wants of it."""

    run_id: int
    shard_no: int
    state: str
    kind: str
    run_state: str
    bill_on: date
    first_account_id: int
    last_account_id: int
    usage_until_s: int = HORIZON_END_S

    @property
    def accounts(self) -> Range:
        """The payers of the shard."""
        return Range(self.first_account_id, self.last_account_id)


def claim_shard(opened: ColumnConnection, run_id: int, shard_no: int) -> Claim | None:
    """Lock a shard's row; None where another session holds it."""
    found = rows(opened, _CLAIM, (run_id, shard_no))
    return Claim(run_id, shard_no, *found[0]) if found else None


def mark_failed(opened: ColumnConnection, run_id: int, shard_no: int, why: str, worker: str) -> None:
    """Write down that a shard could not be done, for `resume` to try again."""
    do(opened, _SHARD_FAILED, (run_id, shard_no, why[:2_000].replace("\0", "?"), worker))


@dataclass(frozen=True, slots=True)
class RunCatalogues:
    """A run's catalogues by id, in the versions frozen for it; unreadable: why others cannot be used, by id."""

    readable: dict[int, Catalogue]
    unreadable: dict[int, str]


def read_catalogues(opened: ColumnConnection, run_id: int) -> RunCatalogues:
    """The run's catalogues. One that cannot be read is a fault of the orders on it, and of no others."""
    found = RunCatalogues({}, {})
    for catalogue_id, version_id, name, version, main_file, sha256 in rows(opened, _VERSIONS, (run_id,)):
        files = {file: bytes(content) for file, content in rows(opened, _FILES, (version_id,))}
        source = Source(main_file, files)
        whose = f"catalogue {name} version {version}"
        if source.sha256 != sha256:
            found.unreadable[int(catalogue_id)] = f"{whose} is not what was saved: restore it"
            continue
        try:
            found.readable[int(catalogue_id)] = catalogue_of(source)
        except CatalogueError as error:
            found.unreadable[int(catalogue_id)] = f"{whose} cannot be read: {str(error).splitlines()[0]}"
    return found


def read_terms(opened: ColumnConnection) -> dict[int, OrderTerms]:
    """All rows of order_terms by id. There are few: every order of a kind shares one."""
    return {int(row[0]): OrderTerms(*row[1:]) for row in rows(opened, _TERMS)}


# ---- reading


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What of a run's prices reading depends on: ids of terms, and the groups and customers that catalogues name."""

    advance: frozenset[int]
    once: frozenset[int]
    groups: frozenset[str]
    customers: frozenset[str]


def read_shard(opened: ColumnConnection, claim: Claim, wanted: ReadRequest) -> ShardInput:
    """Everything of a shard but its usage and its settled orders."""
    first, last = claim.first_account_id, claim.last_account_id
    payers = f"o.payer_account_id BETWEEN {first} AND {last} AND o.settled_at IS NULL"
    known = {"payers": payers, "advance": _listed(wanted.advance), "once": _listed(wanted.once)}
    found = columns(opened, _ORDERS.format_map(known))
    codes, code_words = codes_in(found)
    buyer, buyers = read_buyers(opened, claim, ints(found, "account_id"), wanted)
    orders = orders_in(found, codes, buyer)
    adjustments, items = _read_adjustments(opened, known)
    manual = _read_manual(opened, first, last, claim.bill_on)
    paying = np.union1d(orders.payer_account_id, manual.payer_account_id)
    accounts, currencies = read_payers(opened, first, last, paying)
    return ShardInput(
        claim.bill_on,
        orders,
        accounts,
        currencies,
        code_words,
        buyers,
        items,
        _read_suspensions(opened, known),
        adjustments,
        _read_advances(opened, known),
        manual,
    )


def _listed(ids: Iterable[int]) -> str:
    """Ids for IN, which takes no empty list: 0 is none of them."""
    return ", ".join(map(str, sorted(ids))) or "0"


def orders_in(found: pa.Table, codes: Any, buyer: Any) -> Orders:
    """Rows of orders with what is done of them."""
    return Orders(
        order_id=ints(found, "id"),
        account_id=ints(found, "account_id"),
        payer_account_id=ints(found, "payer_account_id"),
        terms_id=ints(found, "terms_id").astype(np.int32),
        quantity=ints(found, "quantity"),
        starts_s=seconds(found, "starts_at"),
        ends_s=seconds(found, "ends_at", NEVER),
        trial_until_s=seconds(found, "trial_until", 0),
        minimum_minor=ints(found, "minimum_minor"),
        price_minor=ints(found, "price_minor", NONE),
        codes=codes,
        buyer=buyer,
        advance_done_s=seconds(found, "advance_done", NONE),
        arrears_done_s=seconds(found, "arrears_done", NONE),
        once_done=bytes_in(found, "once_done"),
    )


def codes_in(found: pa.Table) -> tuple[Any, tuple[tuple[str, ...], ...]]:
    """Promotion codes of orders: 0 for none."""
    codes, texts = dictionary_in(found, "codes")
    return (codes + 1).astype(np.int32), ((), *(tuple(json.loads(text)) for text in texts))


def read_buyers(
    opened: ColumnConnection, claim: Claim, accounts: Ints, wanted: ReadRequest
) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """Who buys, as far as any catalogue can tell: mostly nobody in particular, code 0."""
    if not len(accounts) or (not wanted.groups and not wanted.customers):
        return np.zeros(len(accounts), np.int32), (("", ""),)
    every = np.unique(accounts)
    words = {name: _literals(getattr(wanted, name)) for name in ("groups", "customers")}
    parts = [
        columns(opened, _BUYERS.format(accounts=where, **words))
        for where in wheres_of("b.account_id", every, claim.accounts)
    ]
    found = pa.concat_tables(parts).combine_chunks().sort_by("account_id")
    pairs = list(zip(found["customer_group"].to_pylist(), found["customer"].to_pylist(), strict=True))
    buyers = (("", ""), *sorted(set(pairs) - {("", "")}))
    numbers = {pair: number for number, pair in enumerate(buyers)}
    known, codes = ints(found, "account_id"), np.array([numbers[pair] for pair in pairs], np.int32)
    return np.append(codes, np.int32(0))[_places(known, accounts)], buyers


def _places(known: Ints, wanted: Ints) -> Ints:
    """Where each wanted value is among the known ones, which ascend; len(known) where it is not."""
    places = np.searchsorted(known, wanted)
    found = known[np.minimum(places, max(0, len(known) - 1))] == wanted if len(known) else np.zeros(len(wanted), bool)
    return np.where(found, places, len(known))


def _literals(words: Iterable[str]) -> str:
    """Words for IN; an apostrophe is doubled, and nothing else is special."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(words)) or "NULL"


def _read_suspensions(opened: ColumnConnection, known: dict[str, str]) -> Suspensions:
    return suspensions_in(columns(opened, _SUSPENSIONS.format_map(known)))


def suspensions_in(found: pa.Table) -> Suspensions:
    """Rows of order_suspensions."""
    return Suspensions(ints(found, "order_id"), seconds(found, "from_at"), seconds(found, "until_at", NEVER))


def _read_adjustments(opened: ColumnConnection, known: dict[str, str]) -> tuple[Adjustments, tuple[str, ...]]:
    found = columns(opened, _ADJUSTMENTS.format_map(known))
    items, names = dictionary_in(found, "item")
    adjustments = Adjustments(
        order_id=ints(found, "order_id"),
        start_s=seconds(found, "period_start"),
        end_s=seconds(found, "period_end"),
        num=ints(found, "active_num"),
        den=ints(found, "active_den"),
        item=items,
        amount_minor=ints(found, "amount_minor"),
        tax_ppm=ints(found, "tax_ppm"),
        inside=bytes_in(found, "tax_inside"),
        credited_minor=ints(found, "credited_minor"),
    )
    return adjustments, names


def _read_advances(opened: ColumnConnection, known: dict[str, str]) -> AdvanceAmounts:
    found = columns(opened, _ADVANCES.format_map(known))
    return AdvanceAmounts(ints(found, "order_id"), seconds(found, "period_start"), ints(found, "amount_minor"))


def read_payers(opened: ColumnConnection, first: int, last: int, wanted: Ints) -> tuple[Payers, tuple[str, ...]]:
    """(those of a range of accounts that are wanted, their currencies)."""
    found = columns(opened, _PAYERS.format(first=first, last=last))
    found = found.filter(pa.array(np.isin(ints(found, "id"), wanted, assume_unique=True))).combine_chunks()
    currency, names = dictionary_in(found, "currency")
    payers = Payers(
        account_id=ints(found, "id"),
        currency=currency,
        legal_entity_id=ints(found, "legal_entity_id").astype(np.int32),
        due_days=ints(found, "due_days").astype(np.int32),
        balance_minor=ints(found, "balance_minor"),
        floor_minor=ints(found, "floor_minor", NO_FLOOR),
    )
    return payers, names


def _read_manual(opened: ColumnConnection, first: int, last: int, bill_on: date) -> ManualLines:
    found = columns(opened, _MANUAL.format(first=first, last=last, bill_on=bill_on.isoformat()))
    days = zip(found["bill_on"].to_pylist(), found["zone"].to_pylist(), strict=True)
    return ManualLines(
        manual_line_id=ints(found, "id"),
        payer_account_id=ints(found, "payer_account_id"),
        amount_minor=ints(found, "amount_minor"),
        tax_ppm=ints(found, "tax_ppm"),
        inside=bytes_in(found, "tax_inside"),
        day_s=np.fromiter((_midnight(*day) for day in days), np.int64, found.num_rows),
    )


_midnight = lru_cache(maxsize=4_096)(local_midnight)
