"""Rows that a line of an invoice followed from, out of the database, for the judge to compute it again (truth 9).

Rules. A line's record is the one of its order on its invoice whose tile holds the line's period. The judge gets the
version of the catalogue that the run billed by. Everything else are rows as they stand: what could change a line after
it was billed is refused by whoever changes orders, but for a customer's group, which is the present one.

Does not know: how a line comes about (cycle_explain).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from billing.arrays import int_array
from billing.catalogue import Catalogue
from billing.catalogue_store import find_version, read_version
from billing.cycle_explain import BilledAhead, Explained, OrderFacts, RecordFacts, UsageFacts, explain_line, owner_of
from billing.cycle_records import NEVER, NONE, OrderTerms

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
class Judged:
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


_LINES: Final = """
    SELECT l.invoice_id, l.line, l.kind, l.item, l.quantity, l.discount_minor, l.amount_minor, l.tax_ppm, l.tax_inside,
           l.net_minor, l.tax_minor,
           (SELECT count(*) FROM invoice_lines s
            WHERE s.invoice_id = l.invoice_id AND s.line < l.line AND s.order_id = l.order_id
              AND (s.kind, s.item, s.period_start, s.tax_ppm, s.tax_inside)
                  = (l.kind, l.item, l.period_start, l.tax_ppm, l.tax_inside)),
           p.order_id, p.part, extract(epoch FROM p.period_start)::bigint,
           extract(epoch FROM p.period_end)::bigint, p.active_num, p.active_den, p.run_id, o.account_id
    FROM unnest(%(invoices)s::bigint[], %(lines)s::int[]) AS w (invoice_id, line)
    JOIN invoice_lines l ON l.invoice_id = w.invoice_id AND l.line = w.line
    LEFT JOIN orders o ON o.id = l.order_id
    LEFT JOIN order_terms t ON t.id = o.terms_id
    LEFT JOIN order_periods p
      ON p.order_id = l.order_id AND p.invoice_id = l.invoice_id
     AND p.period_start <= l.period_start AND (l.period_start < p.period_end OR p.part = 'once')
     AND p.part = ANY(CASE l.kind WHEN 'adjustment' THEN ARRAY['trueup'] WHEN 'one_time' THEN ARRAY['once']
                                  WHEN 'usage' THEN ARRAY['arrears'] WHEN 'minimum' THEN ARRAY['arrears']
                                  WHEN 'recurring' THEN ARRAY[CASE WHEN t.in_advance THEN 'advance' ELSE 'arrears' END]
                                  ELSE ARRAY['advance', 'arrears', 'once'] END)
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

#: Records of the accounts' other orders with the same tile in arrears in the same run: they share pools.
_SHARING: Final = """
    SELECT w.order_id, extract(epoch FROM p.period_start)::bigint, p.order_id
    FROM unnest(%(orders)s::bigint[], %(accounts)s::bigint[], %(starts)s::bigint[], %(ends)s::bigint[], %(runs)s::int[])
         AS w (order_id, account_id, start_s, end_s, run_id)
    JOIN orders o ON o.account_id = w.account_id AND o.id <> w.order_id
    JOIN order_periods p ON p.order_id = o.id AND p.part = 'arrears' AND p.period_start = to_timestamp(w.start_s)
     AND p.period_end = to_timestamp(w.end_s) AND p.run_id = w.run_id
"""

_USAGE: Final = """
    SELECT DISTINCT e.account_id, e.id, e.item, extract(epoch FROM e.at)::bigint,
           extract(epoch FROM e.counts_at)::bigint, e.quantity_micro, e.duration_s, e.destination
    FROM unnest(%(accounts)s::bigint[], %(starts)s::bigint[], %(ends)s::bigint[]) AS w (account_id, start_s, end_s)
    JOIN usage_events e ON e.account_id = w.account_id AND e.counts_at >= to_timestamp(w.start_s)
     AND e.counts_at < to_timestamp(w.end_s)
"""

#: Whoever writes a credit note waits for a shard that may true up (billing.credit_notes): by ids of invoices, a true-up
#: knew of the notes below its own.
_AHEAD: Final = """
    SELECT p.order_id, extract(epoch FROM p.period_start)::bigint, p.amount_minor + coalesce(u.amount_minor, 0),
           p.active_num, p.active_den, l.item, l.amount_minor, l.tax_ppm, l.tax_inside,
           (SELECT -coalesce(sum(c.amount_minor), 0)::bigint
            FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id AND c.line = l.line
            WHERE n.corrects_id = l.invoice_id AND n.id < u.invoice_id)
    FROM unnest(%(orders)s::bigint[], %(starts)s::bigint[]) AS w (order_id, start_s)
    JOIN order_periods p
      ON p.order_id = w.order_id AND p.part = 'advance' AND p.period_start = to_timestamp(w.start_s)
    LEFT JOIN order_periods u
      ON u.order_id = p.order_id AND u.part = 'trueup' AND u.period_start = p.period_start
    LEFT JOIN invoice_lines l
      ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id AND l.kind IN ('recurring', 'percentage')
     AND l.period_start >= p.period_start AND l.period_end <= p.period_end
    ORDER BY p.order_id, l.line
"""

_VERSIONS: Final = """
    SELECT r.run_id, r.catalogue_id, c.name, v.version FROM bill_run_catalogues r
    JOIN catalogue_versions v ON v.id = r.version_id JOIN catalogues c ON c.id = r.catalogue_id
    WHERE r.run_id = ANY(%(runs)s::int[])
"""


async def judge_lines(cur: Any, lines: Sequence[tuple[int, int]], catalogues: dict[Any, Catalogue]) -> list[Judged]:
    """Compute lines again, each on its own, and say where they differ.

    Args:
        lines: (invoice id, number of the line); of a kind in KINDS.
        catalogues: those read so far, by name and version; those that are read are put in.
    """
    values = {"invoices": int_array(one for one, _ in lines), "lines": int_array(number for _, number in lines)}
    await cur.execute(_LINES, values)
    rows = await cur.fetchall()
    records = [_Record(*row[12:]) for row in rows if row[12] is not None]
    world = await _read_world(cur, records, catalogues)
    candidates: dict[BilledLine, list[_Record]] = {}
    for row in rows:
        candidates.setdefault(BilledLine(*row[:12]), []).extend([_Record(*row[12:])] if row[12] is not None else [])
    return [world.judged(line, of) for line, of in candidates.items()]


@dataclass(frozen=True, slots=True)
class _World:
    """What some records followed from. versions: by (run, catalogue id); the rest by account, or by (order, start)."""

    versions: Mapping[tuple[int, int], Catalogue]
    orders: Mapping[int, Sequence[OrderFacts]]
    sharing: Mapping[tuple[int, int], frozenset[int]]
    usage: Mapping[int, Sequence[tuple[int, UsageFacts]]]
    ahead: Mapping[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]]

    def judged(self, line: BilledLine, records: Iterable[_Record]) -> Judged:
        """The line by the first record that explains it; where none does, what is wrong with the last."""
        found = Judged(line, None, None, "no record of its order tells of it")
        for record in records:
            found = self._by(line, record)
            if not found.wrong:
                break
        return found

    def _by(self, line: BilledLine, record: _Record) -> Judged:
        facts = self._facts(record)
        catalogue = self.versions.get((record.run_id, facts.order.terms.catalogue_id))
        if catalogue is None:
            return Judged(line, None, None, f"run {record.run_id} has no version of its catalogue")
        try:
            one = explain_line(catalogue, facts, line.kind, line.item, line.tax_ppm, line.inside, line.place)
        except ValueError as error:
            return Judged(line, catalogue, None, f"the judge refuses: {error}")
        if one is None:
            return Judged(line, catalogue, None, "the judge makes no such line")
        billed = (line.quantity, line.discount, line.amount, line.net, line.tax)
        again = (one.quantity, one.discount_minor, one.amount_minor, one.part.net, one.part.tax_amount)
        names = ("quantity", "discount", "amount", "net", "tax")
        wrong = [
            f"{name} {had}, judged {got}" for name, had, got in zip(names, billed, again, strict=True) if had != got
        ]
        return Judged(line, catalogue, one, ", ".join(wrong))

    def _facts(self, record: _Record) -> RecordFacts:
        orders = {one.id: one for one in self.orders[record.account_id]}
        sharing = self.sharing.get((record.order_id, record.start_s), frozenset())
        together = sharing | {record.order_id}
        usage = [
            replace(event, order_id=owner)
            for counts_at_s, event in self.usage.get(record.account_id, ())
            if record.start_s <= counts_at_s < record.end_s
            and (owner := self._owner(record, event.item, counts_at_s)) in together
        ]
        advance_minor, billed = self.ahead.get((record.order_id, record.start_s), (0, ()))
        return RecordFacts(
            orders[record.order_id], record.part, record.start_s, record.end_s, record.num, record.den,
            tuple(orders[one] for one in sorted(sharing)), tuple(usage), advance_minor, billed,
        )  # fmt: skip

    def _owner(self, record: _Record, item: str, counts_at_s: int) -> int:
        """The lowest order that covers the event; each order's items are those of its own catalogue."""
        for one in self.orders[record.account_id]:
            catalogue = self.versions.get((record.run_id, one.terms.catalogue_id))
            if catalogue is not None and owner_of([one], catalogue, item, counts_at_s) is not None:
                return one.id
        return NONE


async def _read_world(cur: Any, records: Sequence[_Record], catalogues: dict[Any, Catalogue]) -> _World:
    columns = {
        "orders": int_array(one.order_id for one in records),
        "accounts": int_array(one.account_id for one in records),
        "starts": int_array(one.start_s for one in records),
        "ends": int_array(one.end_s for one in records),
        "runs": int_array(one.run_id for one in records),
        "never": NEVER,
        "none": NONE,
    }
    arrears = [one for one in records if one.part == "arrears"]
    of_usage = {
        "accounts": int_array(one.account_id for one in arrears),
        "starts": int_array(one.start_s for one in arrears),
        "ends": int_array(one.end_s for one in arrears),
    }
    return _World(
        await _read_versions(cur, columns, catalogues),
        await _read_orders(cur, columns),
        await _read_sharing(cur, columns),
        await _read_usage(cur, of_usage),
        await _read_ahead(cur, columns),
    )


async def _read_versions(
    cur: Any, columns: Mapping[str, Any], catalogues: dict[Any, Catalogue]
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


async def _read_orders(cur: Any, columns: Mapping[str, Any]) -> dict[int, list[OrderFacts]]:
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


async def _read_sharing(cur: Any, columns: Mapping[str, Any]) -> dict[tuple[int, int], frozenset[int]]:
    await cur.execute(_SHARING, columns)
    found: dict[tuple[int, int], frozenset[int]] = {}
    for order_id, start_s, other in await cur.fetchall():
        found[order_id, start_s] = found.get((order_id, start_s), frozenset()) | {other}
    return found


async def _read_usage(cur: Any, columns: Mapping[str, Any]) -> dict[int, list[tuple[int, UsageFacts]]]:
    """(when it counts, the event) by account; the order an event belongs to is not known yet."""
    await cur.execute(_USAGE, columns)
    found: dict[int, list[tuple[int, UsageFacts]]] = {}
    for account_id, id_, item, at_s, counts_at_s, quantity, duration_s, destination in await cur.fetchall():
        event = UsageFacts(id_, NONE, item, at_s, quantity, duration_s, destination)
        found.setdefault(account_id, []).append((counts_at_s, event))
    return found


async def _read_ahead(
    cur: Any, columns: Mapping[str, Any]
) -> dict[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]]:
    await cur.execute(_AHEAD, columns)
    found: dict[tuple[int, int], tuple[int, tuple[BilledAhead, ...]]] = {}
    for order_id, start_s, record_minor, num, den, item, amount, ppm, inside, credited in await cur.fetchall():
        _, billed = found.get((order_id, start_s), (0, ()))
        more = () if item is None else (BilledAhead(item, amount, ppm, inside, num, den, credited),)
        found[order_id, start_s] = (record_minor, tuple(dict.fromkeys(billed + more)))
    return found
