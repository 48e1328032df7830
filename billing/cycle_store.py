"""A shard of the billing cycle out of PostgreSQL and back into it, in columns.

Rules. Functions take the caller's connection; the shard is one transaction of the caller. Reading is by binary COPY,
which takes no parameters, so ranges are written into the statements, integers alone. Everything of a shard's payers is
found by the range of their ids; accounts that lie elsewhere (children whose parent pays) are listed one by one. Events
of most accounts are read as one range of the index and sifted here, which costs a quarter of looking each account up;
where only a few are due, they are looked up.

Does not know: what is due, what it costs, when the transaction ends.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.arrays import int_array
from billing.calendar import local_midnight
from billing.catalogue import Catalogue
from billing.catalogue_store import Source, catalogue_of
from billing.cycle_link import CycleStoreError, columns, do, ingest, rows
from billing.cycle_records import (
    KINDS,
    NEVER,
    NO_FLOOR,
    NONE,
    PARTS,
    REASONS,
    AdvanceAmounts,
    ManualLines,
    Orders,
    OrderTerms,
    Payers,
    SettledOrders,
    ShardBill,
    ShardInput,
    Suspensions,
    TrueUps,
    UsageEvents,
    Windows,
)
from ratingcore.arrays import Ints

#: Bits of an invoice's id that are its place in its block (migration 0006).
PLACE_BITS: Final = 20

#: Below this share of a shard's accounts, events are looked up account by account.
_DENSE: Final = 0.25
#: Windows that begin before those of this share of the accounts are looked up too, not to read old months for all.
_EARLY: Final = 0.05

_MICROSECONDS: Final = 1_000_000
#: Bits for instants of a run's usage in microseconds: 50 days.
_INSTANT_BITS: Final = 42
_UTC: Final = pa.timestamp("us", "UTC")

# ---- the claim

#: The run's row is held too: nobody voids or finishes a run whose shards are being done.
_CLAIM: Final = """
    SELECT s.state, r.kind, r.state, r.bill_on, s.first_account_id, s.last_account_id
    FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
    WHERE s.run_id = $1::int AND s.shard_no = $2::int
    FOR UPDATE OF s SKIP LOCKED FOR SHARE OF r
"""

_SHARD_FAILED: Final = """
    UPDATE bill_shards SET state = 'failed', failure = $3, worker = $4, finished_at = now()
    WHERE run_id = $1::int AND shard_no = $2::int AND state IN ('due', 'failed')
"""

_SHARD_DONE: Final = """
    UPDATE bill_shards
    SET state = $3, failure = NULL, worker = $4, accounts_count = $5, orders_count = $6, events_count = $7,
        periods_count = $8, invoices_count = $9, lines_count = $10, failures_count = $11,
        duration_ms = extract(epoch FROM clock_timestamp() - now()) * 1000, finished_at = clock_timestamp()
    WHERE run_id = $1::int AND shard_no = $2::int
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

#: A share differs from what was billed by an end or a suspension within the tile, or where one that was foreseen then
#: was withdrawn, moved or cut short: so orders that have or had any, and what was billed in part of those. Percentages
#: that the tile's arrears part put on the same invoice are among the lines; whoever knows the stock leaves them out.
_TRUEUPS: Final = """
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
               WHERE d.order_id = o.id AND d.part = 'trueup' AND d.period_start = p.period_start LIMIT 1) IS NULL
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
               WHERE u.order_id = p.order_id AND u.part = 'trueup' AND u.period_start = p.period_start LIMIT 1
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

_SETTLED: Final = """
    SELECT account_id, id, terms_id, starts_at, ends_at FROM orders
    WHERE {accounts} AND settled_at IS NOT NULL AND ends_at > to_timestamp({from_s})
    ORDER BY account_id, id
"""

_EVENT_COLUMNS: Final = "e.account_id, e.item, e.at, e.counts_at, e.quantity_micro, e.duration_s, e.destination, e.id"

_EVENTS_OF_RANGE: Final = f"""
    SELECT {_EVENT_COLUMNS} FROM usage_events e
    WHERE e.account_id BETWEEN {{first}} AND {{last}}
      AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
"""

_EVENTS_OF_WINDOWS: Final = f"""
    SELECT {_EVENT_COLUMNS}
    FROM unnest('{{ids}}'::bigint[], '{{froms}}'::bigint[], '{{untils}}'::bigint[]) AS w (account_id, from_s, until_s)
    JOIN usage_events e ON e.account_id = w.account_id
     AND e.counts_at >= to_timestamp(w.from_s) AND e.counts_at < to_timestamp(w.until_s)
    WHERE e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
"""

# ---- back

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


def claim_shard(opened: Any, run_id: int, shard_no: int) -> Claim | None:
    """Lock a shard's row; None where another session holds it."""
    found = rows(opened, _CLAIM, (run_id, shard_no))
    return Claim(run_id, shard_no, *found[0]) if found else None


def mark_failed(opened: Any, run_id: int, shard_no: int, why: str, worker: str) -> None:
    """Write down that a shard could not be done, for `resume` to try again."""
    do(opened, _SHARD_FAILED, (run_id, shard_no, why[:2_000].replace("\0", "?"), worker))


def read_catalogues(opened: Any, run_id: int) -> dict[int, Catalogue]:
    """The run's catalogues by id, in the versions frozen for it.

    Raises:
        CycleStoreError: a catalogue is not what was saved.
    """
    found = {}
    for catalogue_id, version_id, name, version, main_file, sha256 in rows(opened, _VERSIONS, (run_id,)):
        files = {file: bytes(content) for file, content in rows(opened, _FILES, (version_id,))}
        source = Source(main_file, files)
        if source.sha256 != sha256:
            raise CycleStoreError(f"catalogue {name} version {version} is not what was saved: restore it")
        found[int(catalogue_id)] = catalogue_of(source)
    return found


def read_terms(opened: Any) -> dict[int, OrderTerms]:
    """All rows of order_terms by id. There are few: every order of a kind shares one."""
    return {int(row[0]): OrderTerms(*row[1:]) for row in rows(opened, _TERMS)}


# ---- reading


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run's prices reading depends on: ids of terms, and the groups and customers that catalogues name."""

    advance: frozenset[int]
    once: frozenset[int]
    groups: frozenset[str]
    customers: frozenset[str]


def read_shard(opened: Any, claim: Claim, wanted: Wanted) -> ShardInput:
    """Everything of a shard but its usage and its settled orders."""
    first, last = claim.first_account_id, claim.last_account_id
    payers = f"o.payer_account_id BETWEEN {first} AND {last} AND o.settled_at IS NULL"
    known = {"payers": payers, "advance": _listed(wanted.advance), "once": _listed(wanted.once)}
    found = columns(opened, _ORDERS.format_map(known))
    codes, code_words = _codes(found)
    buyer, buyers = _read_buyers(opened, claim, _ints(found, "account_id"), wanted)
    orders = _orders(found, codes, buyer)
    trueups, items = _read_trueups(opened, known)
    manual = _read_manual(opened, first, last, claim.bill_on)
    paying = np.union1d(orders.payer_account_id, manual.payer_account_id)
    accounts, currencies = _read_payers(opened, first, last, paying)
    return ShardInput(
        claim.bill_on,
        orders,
        accounts,
        currencies,
        code_words,
        buyers,
        items,
        _read_suspensions(opened, known),
        trueups,
        _read_advances(opened, known),
        manual,
    )


def _listed(ids: Iterable[int]) -> str:
    """Ids for IN, which takes no empty list: 0 is none of them."""
    return ", ".join(map(str, sorted(ids))) or "0"


def _orders(found: pa.Table, codes: Any, buyer: Any) -> Orders:
    return Orders(
        order_id=_ints(found, "id"),
        account_id=_ints(found, "account_id"),
        payer_account_id=_ints(found, "payer_account_id"),
        terms_id=_ints(found, "terms_id").astype(np.int32),
        quantity=_ints(found, "quantity"),
        starts_s=_seconds(found, "starts_at"),
        ends_s=_seconds(found, "ends_at", NEVER),
        trial_until_s=_seconds(found, "trial_until", 0),
        minimum_minor=_ints(found, "minimum_minor"),
        price_minor=_ints(found, "price_minor", NONE),
        codes=codes,
        buyer=buyer,
        advance_done_s=_seconds(found, "advance_done", NONE),
        arrears_done_s=_seconds(found, "arrears_done", NONE),
        once_done=_bytes(found, "once_done"),
    )


def _codes(found: pa.Table) -> tuple[Any, tuple[tuple[str, ...], ...]]:
    """Promotion codes of orders: 0 for none."""
    codes, texts = _dictionary(found, "codes")
    return (codes + 1).astype(np.int32), ((), *(tuple(json.loads(text)) for text in texts))


def _read_buyers(opened: Any, claim: Claim, accounts: Ints, wanted: Wanted) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """Who buys, as far as any catalogue can tell: mostly nobody in particular, code 0."""
    if not len(accounts) or (not wanted.groups and not wanted.customers):
        return np.zeros(len(accounts), np.int32), (("", ""),)
    every = np.unique(accounts)
    words = {name: _literals(getattr(wanted, name)) for name in ("groups", "customers")}
    parts = [
        columns(opened, _BUYERS.format(accounts=where, **words)) for where in _wheres("b.account_id", every, claim)
    ]
    found = pa.concat_tables(parts).combine_chunks().sort_by("account_id")
    pairs = list(zip(found["customer_group"].to_pylist(), found["customer"].to_pylist(), strict=True))
    buyers = (("", ""), *sorted(set(pairs) - {("", "")}))
    numbers = {pair: number for number, pair in enumerate(buyers)}
    known, codes = _ints(found, "account_id"), np.array([numbers[pair] for pair in pairs], np.int32)
    return np.append(codes, np.int32(0))[_places(known, accounts)], buyers


def _places(known: Ints, wanted: Ints) -> Ints:
    """Where each wanted value is among the known ones, which ascend; len(known) where it is not."""
    places = np.searchsorted(known, wanted)
    found = known[np.minimum(places, max(0, len(known) - 1))] == wanted if len(known) else np.zeros(len(wanted), bool)
    return np.where(found, places, len(known))


def _literals(words: Iterable[str]) -> str:
    """Words for IN; an apostrophe is doubled, and nothing else is special."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in sorted(words)) or "NULL"


def _wheres(column: str, accounts: Ints, claim: Claim) -> list[str]:
    """Conditions that find these accounts (ascending): by the range of the shard's payers, and the others by name."""
    low, high = np.searchsorted(accounts, [claim.first_account_id, claim.last_account_id + 1])
    outside = np.concatenate([accounts[:low], accounts[high:]])
    found = [f"{column} BETWEEN {accounts[low]} AND {accounts[high - 1]}"] if low < high else []
    if len(outside):
        found.append(f"{column} = ANY ('{int_array(outside.tolist())}'::bigint[])")
    return found


def _read_suspensions(opened: Any, known: dict[str, str]) -> Suspensions:
    found = columns(opened, _SUSPENSIONS.format_map(known))
    return Suspensions(_ints(found, "order_id"), _seconds(found, "from_at"), _seconds(found, "until_at", NEVER))


def _read_trueups(opened: Any, known: dict[str, str]) -> tuple[TrueUps, tuple[str, ...]]:
    found = columns(opened, _TRUEUPS.format_map(known))
    items, names = _dictionary(found, "item")
    trueups = TrueUps(
        order_id=_ints(found, "order_id"),
        start_s=_seconds(found, "period_start"),
        end_s=_seconds(found, "period_end"),
        num=_ints(found, "active_num"),
        den=_ints(found, "active_den"),
        item=items,
        amount_minor=_ints(found, "amount_minor"),
        tax_ppm=_ints(found, "tax_ppm"),
        inside=_bytes(found, "tax_inside"),
        credited_minor=_ints(found, "credited_minor"),
    )
    return trueups, names


def _read_advances(opened: Any, known: dict[str, str]) -> AdvanceAmounts:
    found = columns(opened, _ADVANCES.format_map(known))
    return AdvanceAmounts(_ints(found, "order_id"), _seconds(found, "period_start"), _ints(found, "amount_minor"))


def _read_payers(opened: Any, first: int, last: int, wanted: Ints) -> tuple[Payers, tuple[str, ...]]:
    found = columns(opened, _PAYERS.format(first=first, last=last))
    found = found.filter(pa.array(np.isin(_ints(found, "id"), wanted, assume_unique=True))).combine_chunks()
    currency, names = _dictionary(found, "currency")
    payers = Payers(
        account_id=_ints(found, "id"),
        currency=currency,
        legal_entity_id=_ints(found, "legal_entity_id").astype(np.int32),
        due_days=_ints(found, "due_days").astype(np.int32),
        balance_minor=_ints(found, "balance_minor"),
        floor_minor=_ints(found, "floor_minor", NO_FLOOR),
    )
    return payers, names


def _read_manual(opened: Any, first: int, last: int, bill_on: date) -> ManualLines:
    found = columns(opened, _MANUAL.format(first=first, last=last, bill_on=bill_on.isoformat()))
    days = zip(found["bill_on"].to_pylist(), found["zone"].to_pylist(), strict=True)
    return ManualLines(
        manual_line_id=_ints(found, "id"),
        payer_account_id=_ints(found, "payer_account_id"),
        amount_minor=_ints(found, "amount_minor"),
        tax_ppm=_ints(found, "tax_ppm"),
        inside=_bytes(found, "tax_inside"),
        day_s=np.fromiter((_midnight(*day) for day in days), np.int64, found.num_rows),
    )


_midnight = lru_cache(maxsize=4_096)(local_midnight)


def read_settled(opened: Any, claim: Claim, shard: ShardInput, windows: Windows) -> SettledOrders:
    """Settled orders of the shard's accounts that may cover some of the usage in ``windows``."""
    if not len(windows.account_id):
        return SettledOrders()
    accounts, from_s = np.unique(shard.orders.account_id), int(windows.from_s.min())
    wheres = _wheres("account_id", accounts, claim)
    parts = [columns(opened, _SETTLED.format(accounts=where, from_s=from_s)) for where in wheres]
    found = pa.concat_tables(parts).sort_by([("account_id", "ascending"), ("id", "ascending")])
    found = found.filter(pa.array(np.isin(_ints(found, "account_id"), accounts)))
    return SettledOrders(
        account_id=_ints(found, "account_id"),
        order_id=_ints(found, "id"),
        terms_id=_ints(found, "terms_id").astype(np.int32),
        starts_s=_seconds(found, "starts_at"),
        ends_s=_seconds(found, "ends_at", NEVER),
    )


def read_usage(opened: Any, claim: Claim, windows: Windows) -> UsageEvents:
    """Events within the windows, by account, time and id."""
    if not len(windows.account_id):
        return UsageEvents()
    by_range = _by_range(claim, windows)
    parts = []
    if by_range.any():
        parts.append(_events_of_range(opened, windows, by_range))
    if not by_range.all():
        parts.append(_events_of_windows(opened, windows, ~by_range))
    return _events(pa.concat_tables(parts).combine_chunks())


def read_usage_of_range(opened: Any, first: int, last: int, from_s: int, until_s: int) -> UsageEvents:
    """Usage that counts in [from_s, until_s) of all accounts of a range of ids, whoever buys what."""
    bounds = {"first": first, "last": last, "from_s": from_s, "until_s": until_s}
    return _events(columns(opened, _EVENTS_OF_RANGE.format_map(bounds)))


def _by_range(claim: Claim, windows: Windows) -> Any:
    """Which windows are read by one range of accounts and time: the many that are alike, if they are many."""
    near = (windows.account_id >= claim.first_account_id) & (windows.account_id <= claim.last_account_id)
    if not near.any():
        return near
    near &= windows.from_s >= np.quantile(windows.from_s[near], _EARLY, method="lower")
    ids = windows.account_id[near]
    few = len(ids) < _DENSE * (int(ids.max()) - int(ids.min()) + 1)
    return np.zeros_like(near) if few else near


def _events_of_range(opened: Any, windows: Windows, which: Any) -> pa.Table:
    ids, from_s, until_s = windows.account_id[which], windows.from_s[which], windows.until_s[which]
    bounds = {"first": ids.min(), "last": ids.max(), "from_s": from_s.min(), "until_s": until_s.max()}
    found = columns(opened, _EVENTS_OF_RANGE.format_map(bounds))
    accounts, counts_at_s = _ints(found, "account_id"), _seconds(found, "counts_at")
    # Windows of an account do not overlap: the last one that begins at or before an event is the only one to look at.
    order = np.lexsort((from_s, ids))
    place = _last_not_after(ids[order], from_s[order], accounts, counts_at_s)
    chosen = order[np.maximum(place, 0)]
    wanted = (place >= 0) & (ids[chosen] == accounts) & (counts_at_s < until_s[chosen])
    return found if wanted.all() else found.filter(pa.array(wanted)).combine_chunks()


def _last_not_after(ids: Ints, from_s: Ints, accounts: Ints, at_s: Ints) -> Ints:
    """Per event the place of the last (id, from_s), which are sorted, not after (account, at_s); -1 for none."""
    if len(np.unique(ids)) == len(ids):
        place = np.searchsorted(ids, accounts, side="right") - 1
        return np.where((place >= 0) & (from_s[np.maximum(place, 0)] <= at_s), place, -1)
    keys = np.empty(len(ids) + len(accounts), dtype=[("id", np.int64), ("at", np.int64)])
    keys["id"], keys["at"] = np.concatenate([ids, accounts]), np.concatenate([from_s, at_s])
    is_event = np.arange(len(keys)) >= len(ids)
    order = np.lexsort((is_event, keys["at"], keys["id"]))
    counted = np.cumsum(~is_event[order]) - 1
    place = np.empty(len(keys), np.int64)
    place[order] = counted
    return place[len(ids) :]


def _events_of_windows(opened: Any, windows: Windows, which: Any) -> pa.Table:
    ids, from_s, until_s = windows.account_id[which], windows.from_s[which], windows.until_s[which]
    bounds = {"from_s": from_s.min(), "until_s": until_s.max()}
    lists = {
        name: int_array(values.tolist()) for name, values in (("ids", ids), ("froms", from_s), ("untils", until_s))
    }
    return columns(opened, _EVENTS_OF_WINDOWS.format_map(bounds | lists))


def _events(found: pa.Table) -> UsageEvents:
    accounts, at, ids = _ints(found, "account_id"), _ints(found, "at"), _ints(found, "id")
    order = _by_account_and_time(accounts, at, ids)
    items, names = _dictionary(found, "item")
    destination = found["destination"].combine_chunks()
    has_any = pc.max(pc.binary_length(destination)).as_py()
    return UsageEvents(
        account_id=accounts[order],
        item=items[order],
        at_s=at[order] // _MICROSECONDS,
        counts_at_s=_seconds(found, "counts_at")[order],
        quantity_micro=_ints(found, "quantity_micro")[order],
        duration_s=_ints(found, "duration_s")[order],
        id=ids[order],
        items=names,
        destination=destination.take(pa.array(order)) if has_any else None,
    )


def _by_account_and_time(accounts: Ints, at: Ints, ids: Ints) -> Ints:
    """The order of (account, at, id). The index gives a sorted run for each month, which one key merges at once."""
    if len(ids):
        account, instant = accounts - accounts.min(), at - at.min()
        if int(account.max()) < 1 << (62 - _INSTANT_BITS) and int(instant.max()) < 1 << _INSTANT_BITS:
            key = account << _INSTANT_BITS | instant
            order = np.argsort(key, kind="stable")
            sorted_key, sorted_ids = key[order], ids[order]
            if not ((sorted_key[1:] == sorted_key[:-1]) & (sorted_ids[1:] < sorted_ids[:-1])).any():
                return order
    return np.lexsort((ids, at, accounts))


# ---- writing


def write_shard(opened: Any, claim: Claim, shard: ShardInput, bill: ShardBill, worker: str) -> None:
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


def _bill_manual(opened: Any, lines: Ints, invoice_ids: Ints) -> None:
    """Claim manual lines for their invoices. One that moved to another payer meanwhile may be on his invoice already:
    then the shard is read again."""
    claimed = rows(opened, _MANUAL_BILLED, (int_array(lines.tolist()), int_array(invoice_ids.tolist())))
    if int(claimed[0][0]) != len(lines):
        raise CycleStoreError(f"{len(lines) - int(claimed[0][0])} manual lines were billed by another shard meanwhile")


def _new_invoices(opened: Any, claim: Claim, shard: ShardInput, bill: ShardBill, state: str) -> Ints:
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
            "part": _words(PARTS, periods.part),
            "period_start": _instants(periods.start_s),
            "period_end": _instants(periods.end_s),
            "outcome": _words(("billed", "waived"), outcomes),
            "reason": _words(REASONS, periods.reason),
            "active_num": periods.num,
            "active_den": periods.den,
            "amount_minor": periods.amount_minor,
            "invoice_id": _found(invoice_ids, periods.invoice),
            "run_id": np.full(len(periods.order_id), claim.run_id, np.int32),
        }
    )


def _line_rows(bill: ShardBill, invoice_ids: Ints) -> pa.Table:
    lines = bill.lines
    return pa.table(
        {
            "invoice_id": invoice_ids[lines.invoice],
            "line": lines.line.astype(np.int32, copy=False),
            "kind": _words(KINDS, lines.kind),
            "order_id": pa.array(lines.order_id, mask=lines.order_id == NONE),
            "manual_line_id": pa.array(lines.manual_line_id, mask=lines.manual_line_id == NONE),
            "item": _words(bill.items, lines.item),
            "period_start": _instants(lines.start_s),
            "period_end": _instants(lines.end_s),
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
    starts = [None if one.start_s == NONE else one.start_s * _MICROSECONDS for one in failures]
    return pa.table(
        {
            "run_id": pa.array([claim.run_id] * len(failures), pa.int32()),
            "payer_account_id": pa.array([one.payer_account_id for one in failures], pa.int64()),
            "order_id": pa.array([None if one.order_id == NONE else one.order_id for one in failures], pa.int64()),
            "period_start": pa.array(starts, pa.int64()).cast(_UTC),
            "part": pa.array([one.part or None for one in failures], pa.string()),
            "reason": pa.array([one.reason for one in failures], pa.string()),
            "detail": pa.array([one.detail.replace("\0", "?")[:1_000] for one in failures], pa.string()),
        }
    )


# ---- columns


def _ints(table: pa.Table, name: str, missing: int | None = None) -> Ints:
    """A column of integers or instants (microseconds) as int64; ``missing`` stands for NULL."""
    found = table[name].combine_chunks()
    found = found.cast(pa.int64()) if found.type != pa.int64() else found
    if found.null_count:
        if missing is None:
            raise CycleStoreError(f"column {name} has a row without a value")
        found = pc.fill_null(found, missing)
    return np.asarray(found)


def _seconds(table: pa.Table, name: str, missing: int | None = None) -> Ints:
    """A column of instants as UTC seconds; ``missing`` stands for NULL."""
    column = table[name]
    seconds = np.floor_divide(_ints(table, name, 0), _MICROSECONDS)
    if not column.null_count:
        return seconds
    if missing is None:
        raise CycleStoreError(f"column {name} has a row without a value")
    is_null = np.asarray(column.combine_chunks().is_null().cast(pa.uint8())).astype(bool)
    return np.where(is_null, missing, seconds)


def _bytes(table: pa.Table, name: str) -> Any:
    return np.asarray(table[name].combine_chunks().cast(pa.uint8()))


def _dictionary(table: pa.Table, name: str) -> tuple[Any, tuple[str, ...]]:
    """A column of text as codes (int32) and words; NULL is code -1."""
    found = table[name].combine_chunks().dictionary_encode()
    codes = np.asarray(pc.fill_null(found.indices, -1)).astype(np.int32)
    return codes, tuple(found.dictionary.to_pylist())


def _words(words: tuple[str, ...], codes: Any) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(codes))


def _found(values: Ints, places: Ints) -> pa.Array:
    """values[places], NULL where a place is NONE."""
    missing = places == NONE
    if not len(values):
        return pa.nulls(len(places), pa.int64())
    return pa.array(values[np.where(missing, 0, places)], mask=missing)


def _instants(seconds: Ints) -> pa.Array:
    return pa.array(seconds * _MICROSECONDS).view(_UTC)
