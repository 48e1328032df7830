"""Truth 6 on a live database: each period of each order is recorded once, or reported; so is each event of usage.

Rules. Tiles are made again here from the calendar and the orders alone, not by the code that bills. The records of a
part of an order must begin with the tile that holds its start (or with one that an earlier system billed: it is on no
invoice), follow each other without gap or overlap, each be a tile of its cadence, have been due on the date of its run,
and reach as far as the last complete run had to bill. What a run could not bill must be in bill_failures of its payer;
what was ordered or changed since the run is due in the next one. Both are counted, not hidden. Boundaries may differ by
less than half a day from today's, for zones' rules change and records keep the instants they were billed with
(billing.calendar).

Orders are walked by id, CHUNK at a time, and come as columns of bytes (``string_agg``), for millions of rows would take
minutes as Python objects.

Does not know: prices, shares, invoices.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np

from billing.calendar import HORIZON_END_S, HORIZON_START_S, Cadence, Interval, local_midnight, periods_of
from billing.catalogue import Buyer, Catalogue, named_customers, plan_items, resolve_price
from billing.catalogue_store import find_version, read_version
from billing.catalogue_tables import is_recurring
from billing.verify_records import MAX_LISTED, Check, Finding
from billing.verify_slices import Say, silent, snapshot
from ratingcore.arrays import Ints

TRUTH: Final = 6
CHUNK: Final = 200_000
_NEVER: Final = 2**62
_HALF_DAY_S: Final = 43_200

_PARTS: Final = ("advance", "arrears", "once", "trueup")
_ADVANCE, _ARREARS, _ONCE, _TRUEUP = range(4)
#: Why an order may have unrecorded tiles.
_FAILED, _CHANGED = 1, 2

_LAST_RUN: Final = """
    SELECT id, bill_on, started_at FROM bill_runs WHERE state = 'done' AND only_account_id IS NULL
    ORDER BY bill_on DESC, id DESC LIMIT 1
"""

_RUNS: Final = "SELECT id, bill_on FROM bill_runs ORDER BY id"

_TERMS: Final = """
    SELECT t.id, t.interval_unit, t.interval_count, t.anchor_day, t.anchor_month, t.zone, t.kind, t.in_advance,
           t.currency, t.plan, t.item, c.name, v.version, t.anchor_phase
    FROM order_terms t
    JOIN catalogues c ON c.id = t.catalogue_id
    LEFT JOIN bill_run_catalogues r ON r.catalogue_id = t.catalogue_id AND r.run_id = %(run_id)s
    LEFT JOIN catalogue_versions v ON v.id = r.version_id
"""

_ORDERS: Final = """
    WITH failed AS MATERIALIZED (SELECT DISTINCT payer_account_id FROM bill_failures WHERE run_id = %(run_id)s),
    changed AS MATERIALIZED (SELECT DISTINCT order_id FROM order_events WHERE at > %(started_at)s),
    chunk AS (
        SELECT o.id, o.terms_id, floor(extract(epoch FROM o.starts_at))::bigint AS starts,
               coalesce(floor(extract(epoch FROM o.ends_at))::bigint, %(never)s) AS ends, o.minimum_minor,
               coalesce((SELECT max(coalesce(ceil(extract(epoch FROM s.until_at))::bigint, %(never)s))
                         FROM order_suspensions s WHERE s.order_id = o.id), 0) AS paused,
               CASE WHEN o.created_at > %(started_at)s OR o.id IN (SELECT order_id FROM changed) THEN 2
                    WHEN o.payer_account_id IN (SELECT payer_account_id FROM failed) THEN 1 ELSE 0 END AS excuse
        FROM orders o WHERE o.id > %(after)s ORDER BY o.id LIMIT %(limit)s
    )
    SELECT string_agg(int8send(id), ''), string_agg(int8send(terms_id::bigint), ''), string_agg(int8send(starts), ''),
           string_agg(int8send(ends), ''), string_agg(int8send(minimum_minor), ''),
           string_agg(int8send(excuse::bigint), ''), string_agg(int8send(paused), '')
    FROM (SELECT * FROM chunk ORDER BY id) c
"""

_RECORDS: Final = """
    SELECT string_agg(int8send(order_id), ''), string_agg(int8send(part::bigint), ''), string_agg(int8send(starts), ''),
           string_agg(int8send(ends), ''), string_agg(int8send(run_id::bigint), ''),
           string_agg(int8send(is_foreign), '')
    FROM (
        SELECT order_id, run_id, (outcome = 'billed' AND invoice_id IS NULL)::int::bigint AS is_foreign,
               CASE part WHEN 'advance' THEN 0 WHEN 'arrears' THEN 1 WHEN 'once' THEN 2 ELSE 3 END AS part,
               floor(extract(epoch FROM period_start))::bigint AS starts,
               floor(extract(epoch FROM period_end))::bigint AS ends
        FROM order_periods WHERE order_id > %(after)s AND order_id <= %(last)s
        ORDER BY order_id, part, period_start
    ) r
"""

#: Events before usage_open that no order of their account has among its items at their time.
_UNBILLED: Final = """
    WITH items AS MATERIALIZED (
        SELECT t.id AS terms_id, unnest(CASE WHEN t.item <> '' THEN ARRAY[t.item] ELSE p.items END) AS item
        FROM order_terms t
        LEFT JOIN LATERAL (
            SELECT p.items FROM catalogue_versions v JOIN catalogue_plans p ON p.version_id = v.id
            WHERE v.catalogue_id = t.catalogue_id AND p.number = t.plan
            ORDER BY v.version DESC LIMIT 1) p ON true
        WHERE t.kind = 'recurring'
    ), closed AS (
        SELECT e.id, e.account_id, e.item, e.counts_at
        FROM usage_events e WHERE e.counts_at < (SELECT open_from FROM usage_open)
    )
    SELECT (SELECT count(*) FROM closed), c.item, count(*)
    FROM closed c
    WHERE NOT EXISTS (
        SELECT FROM orders o JOIN items i ON i.terms_id = o.terms_id
        WHERE o.account_id = c.account_id AND i.item = c.item AND o.starts_at <= c.counts_at
          AND c.counts_at < coalesce(o.ends_at, 'infinity'))
    GROUP BY c.item
    UNION ALL SELECT (SELECT count(*) FROM closed), NULL, 0
    ORDER BY 3 DESC
"""


@dataclass(frozen=True, slots=True)
class _Terms:
    cadence: Cadence
    is_once: bool
    in_advance: bool
    has_metered: bool


@dataclass(frozen=True, slots=True)
class _Orders:
    """By id. ends_s: _NEVER without an end. excuse: 0, _FAILED or _CHANGED. paused_s: the last end of a pause, or 0."""

    id: Ints
    terms: Ints
    starts_s: Ints
    ends_s: Ints
    minimum: Ints
    excuse: Ints
    paused_s: Ints


@dataclass(frozen=True, slots=True)
class _Records:
    """By order, part, start. is_foreign: 1 where another system billed. row: place in _Orders, -1 for no such order."""

    order: Ints
    part: Ints
    start_s: Ints
    end_s: Ints
    run: Ints
    is_foreign: Ints
    row: Ints


@dataclass
class _Found:
    """What differs: all counted, the first listed."""

    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    excused: dict[int, int] = field(default_factory=lambda: {_FAILED: 0, _CHANGED: 0})

    def add(self, rows: Iterable[int], words: Any) -> None:
        """Rows that differ; words: of a row."""
        for row in rows:
            self.count += 1
            if len(self.findings) < MAX_LISTED:
                self.findings.append(Finding(TRUTH, words(int(row))))


async def check_tiles(cur: Any, say: Say = silent) -> Check:
    """Every tile that was due by the last complete run has its record, and records tile each order's time."""
    name = "each period of each order is billed, waived or reported"
    await cur.execute(_LAST_RUN)
    last_run = await cur.fetchone()
    run_id, bill_on, started_at = last_run or (0, None, datetime.fromtimestamp(0, UTC))
    found, examined, after = _Found(), 0, 0
    while True:
        say("orders", examined, None)
        values = {"run_id": run_id, "started_at": started_at, "after": after, "never": _NEVER, "limit": CHUNK}
        async with snapshot(cur):  # runs and terms too: an order or a record may be of one that came since
            bounds, terms = await _bounds(cur), await _terms(cur, run_id)
            await cur.execute(_ORDERS, values)
            orders = _Orders(*(_column(one) for one in await cur.fetchone()))
            is_last = len(orders.id) < CHUNK
            last = 2**63 - 1 if is_last else int(orders.id[-1])
            await cur.execute(_RECORDS, {"after": after, "last": last})
            records = _records([_column(one) for one in await cur.fetchone()], orders)
        _check_chunk(orders, records, terms, bounds, bill_on, found)
        examined, after = examined + len(orders.id), last
        if is_last:
            break
    return Check(TRUTH, name, examined, "orders", found.count, tuple(found.findings), _note(found, run_id, bill_on))


def _note(found: _Found, run_id: int, bill_on: date | None) -> str:
    if bill_on is None:
        return "no run over all accounts is done yet: nothing is missing"
    told = []
    if found.excused[_FAILED]:
        told.append(f"{found.excused[_FAILED]} could not be billed and are in the failures of run {run_id}")
    if found.excused[_CHANGED]:
        told.append(f"{found.excused[_CHANGED]} were ordered or changed since run {run_id} and are due in the next")
    return f"orders not billed up to {bill_on}: {'; '.join(told)}" if told else ""


async def check_usage(cur: Any) -> Check:
    """Every event of closed usage is an order's; those that are nobody's are told, for a person to decide."""
    await cur.execute(_UNBILLED)
    rows = await cur.fetchall()
    told = [f"{number} of item {item}" for _, item, number in rows if item is not None]
    unbilled = sum(row[2] for row in rows)
    note = f"{unbilled} events that no order covers are not billed: {', '.join(told[:10])}" if told else ""
    name = "each event of closed usage belongs to an order or is reported"
    return Check(TRUTH, name, int(rows[0][0]), "events", note=note)


# -- reading -----------------------------------------------------------------------------------------------------------


def _column(data: Any) -> Ints:
    """A column that came as big-endian integers; None where there were no rows."""
    return np.frombuffer(bytes(data or b""), ">i8").astype(np.int64)


async def _bounds(cur: Any) -> dict[int, date]:
    await cur.execute(_RUNS)
    return dict(await cur.fetchall())


async def _terms(cur: Any, run_id: int) -> dict[int, _Terms]:
    await cur.execute(_TERMS, {"run_id": run_id})
    catalogues: dict[str, Catalogue | None] = {}
    found = {}
    for (
        terms_id,
        unit,
        count,
        day,
        month,
        zone,
        kind,
        in_advance,
        currency,
        plan,
        item,
        name,
        version,
        phase,
    ) in await cur.fetchall():
        if in_advance and version is not None and name not in catalogues:
            known = await find_version(cur, name, version)
            catalogues[name] = await read_version(cur, known) if known is not None else None
        cadence = Cadence(Interval(unit, count), day, month, zone, phase)
        metered = in_advance and _has_metered(catalogues.get(name), currency, plan, item)
        found[int(terms_id)] = _Terms(cadence, kind == "one_time", in_advance, metered)
    return found


def _has_metered(catalogue: Catalogue | None, currency: str, plan: str, item: str) -> bool:
    """Whether an order in advance must have records in arrears too. False where it may depend on who buys or on a price
    written by hand: then what is recorded is checked, and what is not is not missed."""
    if catalogue is None or (plan and plan not in catalogue.plans) or (item and item not in catalogue.items):
        return False
    if item and catalogue.items[item].manual:
        return False
    items = plan_items(catalogue, plan) if plan else (item,)
    if any(any(named_customers(catalogue, one, currency)) for one in items):
        return False
    resolved = {one: resolve_price(catalogue, one, Buyer(currency, plan)) for one in items}
    return any(not is_recurring(catalogue, one, resolved) for one in items)


def _records(columns: Sequence[Ints], orders: _Orders) -> _Records:
    order = columns[0]
    if not len(orders.id):
        return _Records(*(*columns, np.full(len(order), -1, np.int64)))
    place = np.minimum(orders.id.searchsorted(order), len(orders.id) - 1)
    return _Records(*(*columns, np.where(orders.id[place] == order, place, -1)))


# -- comparing ---------------------------------------------------------------------------------------------------------


def _check_chunk(
    orders: _Orders,
    records: _Records,
    terms: Mapping[int, _Terms],
    runs: Mapping[int, date],
    bill_on: date | None,
    found: _Found,
) -> None:
    def of(row: int) -> str:
        part = _PARTS[records.part[row]]
        return f"order {records.order[row]}: {part} {_day(records.start_s[row])} to {_day(records.end_s[row])}"

    found.add(np.flatnonzero(records.row < 0), lambda row: f"{of(row)}: there is no such order")
    known = np.flatnonzero(records.row >= 0)
    done = np.full((len(_PARTS), len(orders.id)), -_NEVER, np.int64)
    np.maximum.at(done, (records.part[known], records.row[known]), records.end_s[known])
    _check_sequence(orders, records, of, found)
    _check_trueups(records, of, found)
    of_terms = orders.terms[records.row[known]] if len(known) else known
    for terms_id in np.unique(orders.terms):
        one = terms[int(terms_id)]
        _check_records(orders, records, known[of_terms == terms_id], one, runs, of, found)
        if bill_on is not None:
            rows = np.flatnonzero(orders.terms == terms_id)
            _check_reach(orders, done, rows, one, local_midnight(bill_on, one.cadence.zone), found)


def _check_sequence(orders: _Orders, records: _Records, of: Any, found: _Found) -> None:
    """The first record of a part holds the order's start; each begins where the one before it ended."""
    tiled = np.flatnonzero((records.row >= 0) & (records.part <= _ARREARS))
    order, part = records.order[tiled], records.part[tiled]
    start, end = records.start_s[tiled], records.end_s[tiled]
    is_next = np.zeros(len(tiled), np.bool_)
    is_next[1:] = (order[1:] == order[:-1]) & (part[1:] == part[:-1])
    before = np.zeros(len(tiled), np.int64)
    before[1:] = end[:-1]
    found.add(tiled[is_next & (start > before)], lambda row: f"{of(row)}: there is a gap before it")
    found.add(tiled[is_next & (start < before)], lambda row: f"{of(row)}: it overlaps the one before it")
    begins = orders.starts_s[records.row[tiled]]
    begun_here = records.is_foreign[tiled] == 0
    wrong = ~is_next & (((start > begins) & begun_here) | (end <= begins))

    def first(row: int) -> str:
        return f"{of(row)}: is the first, but the order starts {_day(orders.starts_s[records.row[row]])}"

    found.add(tiled[wrong], first)


def _check_trueups(records: _Records, of: Any, found: _Found) -> None:
    """A true-up is of a tile that was billed in advance."""
    keys = records.row << 34 | records.start_s  # rows are below CHUNK, instants below 2^33
    trueups = np.flatnonzero((records.part == _TRUEUP) & (records.row >= 0))
    lone = trueups[~np.isin(keys[trueups], keys[records.part == _ADVANCE])]
    found.add(lone, lambda row: f"{of(row)}: nothing was billed in advance then")


def _check_records(
    orders: _Orders, records: _Records, rows: Ints, terms: _Terms, runs: Mapping[int, date], of: Any, found: _Found
) -> None:
    """Each record is of a part that such orders have, is a tile of the cadence, and was due when its run billed it."""
    allowed = [_ONCE] if terms.is_once else [_ADVANCE, _ARREARS, _TRUEUP] if terms.in_advance else [_ARREARS]
    wrong = ~np.isin(records.part[rows], allowed)
    found.add(rows[wrong], lambda row: f"{of(row)}: such an order has no such part")
    rows = rows[~wrong]
    start, end = records.start_s[rows], records.end_s[rows]
    if not terms.is_once:
        inside = np.clip((start + end) // 2, HORIZON_START_S, HORIZON_END_S - 1)
        tile_start, tile_end = periods_of(terms.cadence, inside)
        off = (np.abs(tile_start - start) >= _HALF_DAY_S) | (np.abs(tile_end - end) >= _HALF_DAY_S)
        found.add(rows[off], lambda row: f"{of(row)}: is no period of the order's calendar")
    zone = terms.cadence.zone
    known = {run: local_midnight(runs[run], zone) for run in np.unique(records.run[rows]).tolist() if run in runs}
    bound = np.array([known.get(run, -_NEVER) for run in records.run[rows].tolist()], np.int64)
    row = records.row[rows]
    begins = np.maximum(start, orders.starts_s[row])
    due = np.where(np.isin(records.part[rows], (_ADVANCE, _ONCE)), begins, np.minimum(end, orders.ends_s[row]))
    early = (due > bound) & (records.part[rows] != _TRUEUP)
    found.add(rows[early], lambda row: f"{of(row)}: was not due in run {records.run[row]}")


def _check_reach(orders: _Orders, done: Ints, rows: Ints, terms: _Terms, bound: int, found: _Found) -> None:
    """Records reach as far as the last run had to bill. done: the end of the last one, by part and order."""
    starts, ends = orders.starts_s[rows], orders.ends_s[rows]
    lives = (ends > starts) & (starts >= HORIZON_START_S) & (starts < HORIZON_END_S)
    if terms.is_once:
        _miss(orders, done, rows, _ONCE, np.where(lives & (starts <= bound), starts, -1), found)
        return
    if terms.in_advance:
        last = np.clip(np.minimum(bound, ends - 1), HORIZON_START_S, HORIZON_END_S - 1)
        tile_start, tile_end = periods_of(terms.cadence, last)
        # A tile that is paused all through is decided when it is over, and one tile back may be the first.
        waits = (orders.paused_s[rows] > tile_start) & (np.minimum(tile_end, ends) > bound)
        before = np.where(tile_start > starts, tile_start, -1)
        reach = np.where(lives & (starts <= bound), np.where(waits, before, tile_end), -1)
        _miss(orders, done, rows, _ADVANCE, reach, found)
    over = np.clip(np.where(ends <= bound, ends - 1, bound), HORIZON_START_S, HORIZON_END_S - 1)
    tile_start, tile_end = periods_of(terms.cadence, over)
    reach = np.where(ends <= bound, tile_end, np.where(tile_start > starts, tile_start, -1))
    has_arrears = np.full(len(rows), not terms.in_advance or terms.has_metered) | (orders.minimum[rows] > 0)
    _miss(orders, done, rows, _ARREARS, np.where(lives & has_arrears, reach, -1), found)


def _miss(orders: _Orders, done: Ints, rows: Ints, part: int, reach_s: Ints, found: _Found) -> None:
    """Orders whose last record of a part ends before ``reach_s`` (-1: nothing was due)."""
    slack_s = 0 if part == _ONCE else _HALF_DAY_S
    missing = np.flatnonzero((reach_s >= 0) & (done[part, rows] < reach_s - slack_s))
    excuse = orders.excuse[rows[missing]]
    for why in (_FAILED, _CHANGED):
        found.excused[why] += int(np.count_nonzero(excuse == why))

    def words(place: int) -> str:
        row = rows[place]
        since = f"since {_day(done[part, row])}" if done[part, row] >= 0 else "at all"
        return f"order {orders.id[row]}: no {_PARTS[part]} recorded {since}, was due up to {_day(reach_s[place])}"

    found.add(missing[excuse == 0], words)


def _day(time_s: Any) -> str:
    return datetime.fromtimestamp(int(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
