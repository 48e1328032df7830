"""Rows that a line of an invoice followed from, out of the database, for the judge to compute it again (truth 9).

Rules. A line's record is the one of its order on its invoice whose period holds the line's period. The judge gets the
version of the catalogue that the run billed by, and the events that were not void when the line was written: an event
of another order that shares the pool may be voided later. Everything else are rows as they stand: a change of an order
that would change a billed line is refused; but a customer's group is the present one.

Does not know: how a line comes about (billing.explanation.lines).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from billing.calendar import NEVER
from billing.catalogue.model import Catalogue
from billing.catalogue.store import find_version, read_version
from billing.charging.records import NONE
from billing.database.arrays import int_array
from billing.database.cursors import Cursor
from billing.explanation.lines import explain_line, has_period, owner_of
from billing.explanation.records import BilledAhead, Explained, OrderFacts, RecordFacts, UsageFacts
from billing.orders.terms import OrderTerms
from ratingcore import tariff as core

#: Kinds of lines that follow from an order.
KINDS: Final = ("recurring", "usage", "one_time", "percentage", "minimum", "adjustment")


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A line as it was billed. Sums in minor units.

    place: among the lines of its order, item, period and tax, which then differ in their rounding, from 0.
    """

    invoice_id: int
    line: int
    kind: str
    item: str
    quantity: int
    discount: int
    amount: int
    tax_ppm: int
    inside: bool
    net: int
    tax: int
    place: int


@dataclass(frozen=True, slots=True)
class JudgedLine:
    """A line beside what the judge makes of it. wrong: how they differ; empty: they do not."""

    line: BilledLine
    catalogue: Catalogue | None
    explained: Explained | None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """A record on which a line may be, and its order's account."""

    order_id: int
    part: str
    start_s: int
    end_s: int
    num: int
    den: int
    run_id: int
    account_id: int
    known_s: int
    seen_s: int
    written_at: datetime | None
    invoice_id: int


_LINES: Final = """
    SELECT l.invoice_id, l.line, l.kind, l.item, l.quantity, l.discount_minor, l.amount_minor, l.tax_ppm, l.tax_inside,
           l.net_minor, l.tax_minor,
           (SELECT count(*) FROM billed_lines s
            WHERE s.invoice_id = l.invoice_id AND s.line < l.line AND s.order_id = l.order_id
              AND (s.kind, s.item, s.period_start, s.tax_ppm, s.tax_inside)
                  = (l.kind, l.item, l.period_start, l.tax_ppm, l.tax_inside)),
           p.order_id, p.part, extract(epoch FROM p.period_start)::bigint,
           extract(epoch FROM p.period_end)::bigint, p.active_num, p.active_den, p.run_id, o.account_id,
           coalesce(extract(epoch FROM r.usage_until)::bigint, %(never)s),
           (SELECT coalesce(max(extract(epoch FROM n.usage_until)), 0)::bigint
            FROM recorded_periods b JOIN bill_runs n ON n.id = b.run_id
            WHERE p.part = 'late' AND b.order_id = p.order_id AND b.period_start = p.period_start
              AND b.part IN ('arrears', 'late') AND b.run_id < p.run_id), k.written_at,
           l.invoice_id
    FROM unnest(%(invoices)s::bigint[], %(lines)s::int[]) AS w (invoice_id, line)
    JOIN billed_lines l ON l.invoice_id = w.invoice_id AND l.line = w.line
    LEFT JOIN invoice_blocks k ON k.id = l.invoice_id >> 20
    LEFT JOIN orders o ON o.id = l.order_id
    LEFT JOIN order_terms t ON t.id = o.terms_id
    LEFT JOIN recorded_periods p
      ON p.order_id = l.order_id AND p.invoice_id = l.invoice_id
     AND p.period_start <= l.period_start AND (l.period_start < p.period_end OR p.part = 'once')
     AND p.part = ANY(CASE l.kind WHEN 'adjustment' THEN ARRAY['adjustment'] WHEN 'one_time' THEN ARRAY['once']
                                  WHEN 'usage' THEN ARRAY['arrears', 'late']
                                  WHEN 'minimum' THEN ARRAY['arrears', 'late']
                                  WHEN 'recurring' THEN ARRAY[CASE WHEN t.in_advance THEN 'advance' ELSE 'arrears' END]
                                  ELSE ARRAY['advance', 'arrears', 'once', 'late'] END)
    LEFT JOIN bill_runs r ON r.id = p.run_id
    ORDER BY l.invoice_id, l.line, p.part
"""

_ORDERS: Final = """
    SELECT o.id, o.account_id, o.terms_id, o.quantity, extract(epoch FROM o.starts_at)::bigint,
           coalesce(extract(epoch FROM o.ends_at)::bigint, %(never)s), o.minimum_minor,
           coalesce(o.price_minor, %(none)s), o.codes, coalesce(c.customer_group, ''), coalesce(c.number, '')
    FROM orders o
    LEFT JOIN billing_accounts b ON b.account_id = o.account_id
    LEFT JOIN customers c ON c.id = b.customer_id
    WHERE o.account_id = ANY(%(accounts)s::bigint[])
    ORDER BY o.account_id, o.id
"""

_TERMS: Final = """
    SELECT id, catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month, zone,
           in_advance, proration, anchor_phase
    FROM order_terms
"""

#: Few events count later than they happened: those are found by an index of their own.
_USAGE: Final = """
    SELECT DISTINCT e.account_id, e.id, e.item, extract(epoch FROM e.at)::bigint,
           extract(epoch FROM e.counts_at)::bigint, e.quantity_micro, e.duration_s, e.destination,
           (SELECT v.created_at FROM usage_voids v WHERE v.replaced_by = e.id),
           (SELECT v.created_at FROM usage_voids v WHERE v.usage_id = e.id)
    FROM unnest(%(accounts)s::bigint[], %(starts)s::bigint[], %(ends)s::bigint[]) AS w (account_id, start_s, end_s)
    CROSS JOIN LATERAL (
        SELECT u.* FROM usage_events u
        WHERE u.account_id = w.account_id AND u.counts_at >= to_timestamp(w.start_s)
          AND u.counts_at < to_timestamp(w.end_s)
        UNION ALL
        SELECT u.* FROM usage_events u
        WHERE u.account_id = w.account_id AND u.counts_at > u.at AND u.counts_at >= to_timestamp(w.end_s)
    ) e
    WHERE e.at >= to_timestamp(w.start_s) AND e.at < to_timestamp(w.end_s)
"""

#: Whoever writes a credit note waits for a shard that may adjust (billing.invoicing.credit_notes): by ids of invoices,
#: an adjustment knew of the notes below its own.
_AHEAD: Final = """
    SELECT p.order_id, extract(epoch FROM p.period_start)::bigint, p.amount_minor + coalesce(u.amount_minor, 0),
           p.active_num, p.active_den, l.item, l.amount_minor, l.tax_ppm, l.tax_inside,
           (SELECT -coalesce(sum(c.amount_minor), 0)::bigint
            FROM invoices n JOIN billed_lines c ON c.invoice_id = n.id AND c.line = l.line
            WHERE n.corrects_id = l.invoice_id AND n.id < u.invoice_id)
    FROM unnest(%(orders)s::bigint[], %(starts)s::bigint[]) AS w (order_id, start_s)
    JOIN recorded_periods p
      ON p.order_id = w.order_id AND p.part = 'advance' AND p.period_start = to_timestamp(w.start_s)
    LEFT JOIN recorded_periods u
      ON u.order_id = p.order_id AND u.part = 'adjustment' AND u.period_start = p.period_start
    LEFT JOIN billed_lines l
      ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id AND l.kind IN ('recurring', 'percentage')
     AND l.period_start >= p.period_start AND l.period_end <= p.period_end
    ORDER BY p.order_id, l.line
"""

#: What credit notes left of the lines that a late record could lower: notes and lines below its own invoice.
_LEFT: Final = """
    SELECT w.order_id, w.start_s, w.invoice_id, l.kind, l.item, l.tax_ppm, l.tax_inside,
           (sum(l.amount_minor) + sum(c.amount_minor))::bigint
    FROM unnest(%(orders)s::bigint[], %(starts)s::bigint[], %(invoices)s::bigint[]) AS w (order_id, start_s, invoice_id)
    JOIN recorded_periods p
      ON p.order_id = w.order_id AND p.part IN ('arrears', 'late') AND p.period_start = to_timestamp(w.start_s)
     AND p.invoice_id < w.invoice_id
    JOIN billed_lines l
      ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id
     AND l.kind IN ('recurring', 'usage', 'percentage', 'minimum')
     AND l.period_start >= p.period_start AND l.period_start < p.period_end
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(sum(c.amount_minor), 0) AS amount_minor
        FROM invoices n JOIN billed_lines c ON c.invoice_id = n.id AND c.line = l.line
        WHERE n.corrects_id = l.invoice_id AND n.id < w.invoice_id) c
    GROUP BY w.order_id, w.start_s, w.invoice_id, l.kind, l.item, l.tax_ppm, l.tax_inside
    HAVING sum(c.count) > 0
"""

_VERSIONS: Final = """
    SELECT r.run_id, r.catalogue_id, c.name, v.version FROM bill_run_catalogues r
    JOIN catalogue_versions v ON v.id = r.version_id JOIN catalogues c ON c.id = r.catalogue_id
    WHERE r.run_id = ANY(%(runs)s::int[])
"""


async def judge_lines(
    cur: Cursor, lines: Sequence[tuple[int, int]], catalogues: dict[Any, Catalogue]
) -> list[JudgedLine]:
    """Compute lines again, each on its own, and say where they differ.

    Args:
        lines: (invoice id, number of the line); of a kind in KINDS.
        catalogues: those read so far, by name and version; those that are read are put in.
    """
    values = {
        "invoices": int_array(one for one, _ in lines),
        "lines": int_array(number for _, number in lines),
        "never": NEVER,
    }
    await cur.execute(_LINES, values)
    rows = await cur.fetchall()
    records = [_Record(*row[12:]) for row in rows if row[12] is not None]
    world = await _read_world(cur, records, catalogues)
    candidates: dict[BilledLine, list[_Record]] = {}
    for row in rows:
        candidates.setdefault(BilledLine(*row[:12]), []).extend([_Record(*row[12:])] if row[12] is not None else [])
    return [world.judged(line, of) for line, of in candidates.items()]


class _KeptEvent(NamedTuple):
    """An event, when it came in the place of a void one, and when it was voided itself."""

    event: UsageFacts
    corrects_at: datetime | None
    voided_at: datetime | None

    def counted_at(self, at: datetime | None) -> bool:
        """Whether it counted then; None: before anything could be void."""
        if at is None:
            return self.corrects_at is None
        return (self.corrects_at is None or self.corrects_at < at) and (self.voided_at is None or self.voided_at >= at)


@dataclass(frozen=True, slots=True)
class _LoadedFacts:
    """What some records followed from. versions: by (run, catalogue id); the rest by account, or by (order, start)."""

    versions: Mapping[tuple[int, int], Catalogue]
    orders: Mapping[int, Sequence[OrderFacts]]
    usage: Mapping[int, Sequence[_KeptEvent]]
    ahead: Mapping[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]]
    left: Mapping[tuple[int, int, int], Mapping[tuple[str, str, core.Tax], int]]

    def judged(self, line: BilledLine, records: Iterable[_Record]) -> JudgedLine:
        """The line by the first record that explains it; where none does, what is wrong with the last."""
        found = JudgedLine(line, None, None, "no record of its order tells of it")
        for record in records:
            found = self._by(line, record)
            if not found.wrong:
                break
        return found

    def _by(self, line: BilledLine, record: _Record) -> JudgedLine:
        facts = self._facts(record)
        catalogue = self.versions.get((record.run_id, facts.order.terms.catalogue))
        if catalogue is None:
            return JudgedLine(line, None, None, f"run {record.run_id} has no version of its catalogue")
        try:
            one = explain_line(catalogue, facts, line.kind, line.item, line.tax_ppm, line.inside, line.place)
        except ValueError as error:
            return JudgedLine(line, catalogue, None, f"the judge refuses: {error}")
        if one is None:
            return JudgedLine(line, catalogue, None, "the judge makes no such line")
        billed = (line.quantity, line.discount, line.amount, line.net, line.tax)
        again = (one.quantity, one.discount_minor, one.amount_minor, one.part.net, one.part.tax_amount)
        names = ("quantity", "discount", "amount", "net", "tax")
        wrong = [
            f"{name} {had}, judged {got}" for name, had, got in zip(names, billed, again, strict=True) if had != got
        ]
        return JudgedLine(line, catalogue, one, ", ".join(wrong))

    def _facts(self, record: _Record) -> RecordFacts:
        orders = {one.id: one for one in self.orders[record.account_id]}
        sharing = {
            one.id
            for one in orders.values()
            if one.id != record.order_id and has_period(one, record.start_s, record.end_s)
        }
        together = sharing | {record.order_id}
        usage = [
            replace(kept.event, order_id=owner)
            for kept in self.usage.get(record.account_id, ())
            if kept.counted_at(record.written_at)
            and record.start_s <= kept.event.at_s < record.end_s
            and (owner := self._owner(record, kept.event.item, kept.event.at_s)) in together
        ]
        advance_minor, billed = self.ahead.get((record.order_id, record.start_s), (0, ()))
        return RecordFacts(
            orders[record.order_id], record.part, record.start_s, record.end_s, record.num, record.den,
            tuple(orders[one] for one in sorted(sharing)), tuple(usage), advance_minor, billed, record.known_s,
            record.seen_s, self.left.get((record.order_id, record.start_s, record.invoice_id), {}),
        )  # fmt: skip

    def _owner(self, record: _Record, item: str, at_s: int) -> int:
        """The lowest order that covers the event; each order's items are those of its own catalogue."""
        for one in self.orders[record.account_id]:
            catalogue = self.versions.get((record.run_id, one.terms.catalogue))
            if catalogue is not None and owner_of([one], catalogue, item, at_s) is not None:
                return one.id
        return NONE


async def _read_world(cur: Cursor, records: Sequence[_Record], catalogues: dict[Any, Catalogue]) -> _LoadedFacts:
    columns = {
        "orders": int_array(one.order_id for one in records),
        "accounts": int_array(one.account_id for one in records),
        "starts": int_array(one.start_s for one in records),
        "ends": int_array(one.end_s for one in records),
        "runs": int_array(one.run_id for one in records),
        "never": NEVER,
        "none": NONE,
    }
    arrears = [one for one in records if one.part in ("arrears", "late")]
    of_usage = {
        "accounts": int_array(one.account_id for one in arrears),
        "starts": int_array(one.start_s for one in arrears),
        "ends": int_array(one.end_s for one in arrears),
    }
    return _LoadedFacts(
        await _read_versions(cur, columns, catalogues),
        await _read_orders(cur, columns),
        await _read_usage(cur, of_usage),
        await _read_ahead(cur, columns),
        await _read_left(cur, [record for record in records if record.part == "late"]),
    )


async def _read_versions(
    cur: Cursor, columns: Mapping[str, Any], catalogues: dict[Any, Catalogue]
) -> dict[tuple[int, int], Catalogue]:
    await cur.execute(_VERSIONS, columns)
    found = {}
    for run_id, catalogue_id, name, version in await cur.fetchall():
        if (name, version) not in catalogues:
            known = await find_version(cur, name, version)
            assert known is not None  # joined to it just now
            catalogues[name, version] = await read_version(cur, known)
        found[run_id, catalogue_id] = catalogues[name, version]
    return found


async def _read_orders(cur: Cursor, columns: Mapping[str, Any]) -> dict[int, list[OrderFacts]]:
    await cur.execute(_TERMS)
    terms = {row[0]: OrderTerms(*row[1:]) for row in await cur.fetchall()}
    await cur.execute(_ORDERS, columns)
    found: dict[int, list[OrderFacts]] = {}
    for (
        id_,
        account_id,
        terms_id,
        quantity,
        starts_s,
        ends_s,
        minimum,
        price,
        codes,
        group,
        customer,
    ) in await cur.fetchall():
        bought = (starts_s, ends_s, minimum, price, tuple(codes or ()), group, customer)
        found.setdefault(account_id, []).append(OrderFacts(id_, account_id, terms[terms_id], quantity, *bought))
    return found


async def _read_usage(cur: Cursor, columns: Mapping[str, Any]) -> dict[int, list[_KeptEvent]]:
    """Events by account; the order an event belongs to is not known yet."""
    await cur.execute(_USAGE, columns)
    found: dict[int, list[_KeptEvent]] = {}
    for account_id, id_, item, at_s, counts_at_s, quantity, duration_s, destination, *changed in await cur.fetchall():
        event = UsageFacts(id_, NONE, item, at_s, quantity, duration_s, destination, counts_at_s)
        found.setdefault(account_id, []).append(_KeptEvent(event, *changed))
    return found


async def _read_left(
    cur: Cursor, records: Sequence[_Record]
) -> dict[tuple[int, int, int], dict[tuple[str, str, core.Tax], int]]:
    """By order, start and invoice of late records: what credit notes left, by kind, item and tax."""
    if not records:
        return {}
    keys = {(record.order_id, record.start_s, record.invoice_id) for record in records}
    order_ids, starts, invoices = zip(*keys, strict=True)
    columns = {"orders": int_array(order_ids), "starts": int_array(starts), "invoices": int_array(invoices)}
    await cur.execute(_LEFT, columns)
    found: dict[tuple[int, int, int], dict[tuple[str, str, core.Tax], int]] = {}
    for order_id, start_s, invoice_id, kind, item, ppm, inside, left in await cur.fetchall():
        found.setdefault((order_id, start_s, invoice_id), {})[kind, item, core.Tax(ppm, inside)] = left
    return found


async def _read_ahead(
    cur: Cursor, columns: Mapping[str, Any]
) -> dict[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]]:
    await cur.execute(_AHEAD, columns)
    found: dict[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]] = {}
    for order_id, start_s, record_minor, num, den, item, amount, ppm, inside, credited in await cur.fetchall():
        _, billed = found.get((order_id, start_s), (0, ()))
        more = () if item is None else (BilledAhead(item, amount, ppm, inside, num, den, credited),)
        found[order_id, start_s] = (record_minor, tuple(dict.fromkeys(billed + more)))
    return found
