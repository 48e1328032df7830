"""Explain a billed period of an order: its lines again, one event at a time, by the judge of ratingcore.

Rules. What is billed follows from rows that still stand: the order, its usage, the run's version of the catalogue, the
share and the period on record. So every line can be computed again, and comes to the same kopeck (truth 9). The rules
are those of billing.charging, written a second time, plainly and for one record: the two agree, or one of
them is wrong. Only what decides which items are recurring is shared with them.

A record's pools are those of all the account's orders with the same period, whenever they are billed; their usage is
rated along, in order of (at, id), and not shown. A record of late usage is the whole period with what was known to its
run, less the whole period with what was known before, and gives back no more of a line than credit notes left.

Does not know: the database (whoever asks brings the rows), columns, speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from billing.calendar import Cadence, Interval, boundaries
from billing.catalogue.model import (
    Catalogue,
    Discount,
    Promotion,
    Resolved,
    discounts_of,
    percentage_order,
    plan_grants,
    plan_items,
    promotions_for,
    resolve_price,
    tax_ppm_at,
)
from billing.catalogue.nodes import Place
from billing.catalogue.tables import is_recurring, steps_of_micro
from billing.charging.records import NONE
from billing.explanation.records import BilledAhead, Explained, OrderFacts, RecordFacts, UsageFacts
from billing.orders.terms import OrderTerms
from billing.rating.bills import BillLine, RatedEvent, TaxPart, part_of
from billing.rating.rated_file import Usage
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.money import Minor, split_minor
from ratingcore.rounding import MICRO_PER_MINOR, Rounding, divide

_HALF_DAY_S: Final = 43_200


def owner_of(orders: Sequence[OrderFacts], catalogue: Catalogue, item: str, at_s: int) -> OrderFacts | None:
    """Whose usage this is: the lowest of an account's recurring orders that has the item and covers the instant."""
    for one in sorted(orders, key=lambda order: order.id):
        has = one.terms.kind == "recurring" and item in _items_of(catalogue, one.terms)
        if has and one.starts_s <= at_s < one.ends_s:
            return one
    return None


def has_period(order: OrderFacts, start_s: int, end_s: int) -> bool:
    """Whether the order lives in this period, and it is a period of its calendar."""
    from_s, until_s = max(start_s, order.starts_s), min(end_s, order.ends_s)
    if order.terms.kind != "recurring" or from_s >= until_s:
        return False
    terms, middle = order.terms, (from_s + until_s) // 2
    interval = Interval(terms.interval_unit, terms.interval_count)
    cadence = Cadence(interval, terms.anchor_day, terms.anchor_month, terms.zone, terms.anchor_phase)
    starts = boundaries(cadence, middle, middle + 1)
    return (int(starts[0]), int(starts[1])) == (start_s, end_s)


def explain_record(catalogue: Catalogue, record: RecordFacts) -> list[Explained]:
    """All lines of a record, in the order of the invoice.

    Args:
        catalogue: the version of the order's catalogue that the run billed with.

    Raises:
        ValueError: something that could not have been billed, such as usage without a price.
    """
    if record.part == "adjustment":
        metered = _metered_percentages(catalogue, record)
        return [_adjustment(record, one) for one in record.billed if one.item not in metered]
    if record.part == "late":
        return _late(catalogue, record)
    return _Judge(catalogue, record).lines()


def _late(catalogue: Catalogue, record: RecordFacts) -> list[Explained]:
    """What is more with all that was known than with what was known before, by kind, item and tax."""
    whole = replace(record, part="arrears")
    known, seen = (
        _Judge(catalogue, replace(whole, known_s=until_s)).lines() for until_s in (record.known_s, record.seen_s)
    )
    found = []
    for kind, item, tax in dict.fromkeys((one.kind, one.item, one.part.tax) for one in (*known, *seen)):
        now, before = ([one for one in some if _is(one, kind, item, tax)] for some in (known, seen))
        has, had = (sum(one.amount_minor for one in some) for some in (now, before))
        quantity = sum(one.quantity for one in now) - sum(one.quantity for one in before)
        discount = sum(one.discount_minor for one in now) - sum(one.discount_minor for one in before)
        if quantity or has != had:
            bill = next((one.bill for one in now), None)
            shown = 1 if kind == "minimum" else quantity
            amount = has - had
            if amount < 0 and (kind, item, tax) in record.left:
                amount = max(amount, -max(0, record.left[kind, item, tax]))
            part = _exact_part(amount, tax)
            found.append(Explained(record, kind, item, shown, discount, part, bill, asked_minor=has, had_minor=had))
    return found


def _is(one: Explained, kind: str, item: str, tax: core.Tax) -> bool:
    return (one.kind, one.item, one.part.tax) == (kind, item, tax)


def explain_line(
    catalogue: Catalogue, record: RecordFacts, kind: str, item: str, tax_ppm: int, inside: bool, place: int = 0
) -> Explained | None:
    """One line of a record, or None where the judge makes no such line; raises as ``explain_record`` does.

    Args:
        place: which of several that differ in their rounding alone, from 0.
    """
    tax = core.Tax(tax_ppm, inside)
    found = [
        one for one in explain_record(catalogue, record) if (one.kind, one.item, one.part.tax) == (kind, item, tax)
    ]
    return found[place] if place < len(found) else None


def _items_of(catalogue: Catalogue, terms: OrderTerms) -> tuple[str, ...]:
    if terms.plan:
        return plan_items(catalogue, terms.plan) if terms.plan in catalogue.plans else ()
    return (terms.item,)


def _metered_percentages(catalogue: Catalogue, record: RecordFacts) -> set[str]:
    """Percentages of the arrears part that stand on the invoice of the advance part."""
    known = {one.item for one in record.billed} & catalogue.items.keys()
    taken = {item for item in known if catalogue.items[item].percentage_of}
    items = _priced_items(catalogue, record.order, record.from_s, 1) if taken else {}
    return {item for item in taken & items.keys() if not items[item].recurring}


def _adjustment(record: RecordFacts, ahead: BilledAhead) -> Explained:
    """What goes back of a line is at most what of it was not credited."""
    amount, left = ahead.changed_minor(record.num, record.den), ahead.amount_minor - ahead.credited_minor
    if amount * ahead.amount_minor < 0 and abs(amount) > abs(left):
        amount = -left
    part = _exact_part(amount, core.Tax(ahead.tax_ppm, ahead.inside))
    return Explained(record, "adjustment", ahead.item, record.order.quantity, 0, part, ahead=ahead)


def _exact_part(amount_minor: int, tax: core.Tax) -> TaxPart:
    return part_of(tax, Rounding.HALF_AWAY, amount_minor * MICRO_PER_MINOR, amount_minor * MICRO_PER_MINOR)


@dataclass(frozen=True, slots=True)
class _Priced:
    """An item of an order: its price, with free units where it is metered, and the promotions in force."""

    resolved: Resolved | None
    recurring: bool
    promotions: tuple[Promotion, ...]


class _Judge:
    """One record while its lines are computed again."""

    def __init__(self, catalogue: Catalogue, record: RecordFacts) -> None:
        self.catalogue = catalogue
        self.record = record
        self.items = _priced_items(catalogue, record.order, record.from_s, _period_number(record))
        self.done: list[Explained] = []

    def lines(self) -> list[Explained]:
        record, order = self.record, self.record.order
        charged = record.num > 0 and not (record.part == "arrears" and order.terms.in_advance)
        rests = record.part != "advance"
        usage = self._rate_usage() if record.part == "arrears" else {}
        for item, priced in self.items.items():
            part_of_items = self.catalogue.items[item].percentage_of
            if order.price_minor != NONE or (priced.recurring and not part_of_items):
                self.done += self._recurring(item, priced) if charged else []
            elif part_of_items and priced.resolved is not None:
                self.done += self._percentage(item, priced) if (charged if priced.recurring else rests) else []
            elif record.part == "once":
                self.done += self._once(item, priced)
            elif rests and item in usage:
                self.done += self._usage(item, priced, usage[item])
        if record.part == "arrears" and order.minimum_minor and record.num:
            self.done += self._minimum()
        return self.done

    def _recurring(self, item: str, priced: _Priced) -> list[Explained]:
        order, record = self.record.order, self.record
        kind = "one_time" if record.part == "once" else "recurring"
        events: tuple[RatedEvent, ...] = ()
        if order.price_minor != NONE:
            flat = order.price_minor * MICRO_PER_MINOR
            tax, rounding = self._terms_of_own_price(item, priced)
        else:
            assert priced.resolved is not None  # an item without a price is not recurring
            closed = _closed(self.catalogue, priced.resolved, record.from_s)
            flat, events = closed.rated.amount_micro, (closed,)
            tariff = priced.resolved.price.versions[closed.rated.version][1]
            tax, rounding = tariff.tax, tariff.rounding
        total = divide(flat * order.quantity * record.num, record.den)
        made = self._made(kind, item, priced, events, {(tax, rounding): (total, order.quantity)})
        return [replace(one, flat_micro=flat, bill=one.bill if events else None) for one in made]

    def _terms_of_own_price(self, item: str, priced: _Priced) -> tuple[core.Tax, Rounding]:
        if priced.resolved is not None:
            version = _version_at(priced.resolved, self.record.from_s)
            return version.tax, version.rounding
        tax = self.catalogue.taxes.get(self.catalogue.items[item].tax)
        ppm = tax_ppm_at(tax, self.record.from_s)
        if ppm is None:
            raise ValueError(f"item {item} has no tax rate at {self.record.from_s}")
        return core.Tax(ppm, inside=True), Rounding.HALF_AWAY

    def _percentage(self, item: str, priced: _Priced) -> list[Explained]:
        record = self.record
        of_items = self.catalogue.items[item].percentage_of
        base = max(0, sum(one.amount_minor for one in self.done if one.item in of_items))
        at_s = record.until_s - 1 if record.part == "arrears" else record.from_s
        events, sums = self._alone(item, priced, at_s, base)
        if not priced.recurring and not base and not sum(total for total, _ in sums.values()):
            return []
        return self._made("percentage", item, priced, events, sums)

    def _once(self, item: str, priced: _Priced) -> list[Explained]:
        quantity = self.record.order.quantity * self.catalogue.items[item].unit.steps
        return self._made("one_time", item, priced, *self._alone(item, priced, self.record.from_s, quantity))

    def _alone(
        self, item: str, priced: _Priced, at_s: int, quantity: int
    ) -> tuple[tuple[RatedEvent, ...], dict[tuple[core.Tax, Rounding], tuple[int, int]]]:
        """One event on a fresh line, closed at its own instant."""
        if priced.resolved is None:
            raise ValueError(f"item {item} has no price for this buyer")
        tables = _tables_of(self.catalogue, [priced.resolved])
        event, line = reference.Event(0, at_s, quantity), [reference.Line(0, 0)]
        rated, state = reference.rate_event(tables, line, reference.State(), event)
        closed, _ = reference.close_line(tables, line, state, 0, at_s)
        _must(rated, f"item {item}")
        _must(closed, f"item {item}")
        tariff = priced.resolved.price.versions[rated.version][1]
        events = (RatedEvent(None, event, rated), RatedEvent(None, reference.Event(0, at_s, 0), closed, closing=True))
        return events, {(tariff.tax, tariff.rounding): (rated.amount_micro + closed.amount_micro, quantity)}

    def _rate_usage(self) -> dict[str, tuple[RatedEvent, ...]]:
        """Rated events of this order's metered items, with their closes; those that share its pools are rated along."""
        record, own = self.record, self.record.order.id
        orders = [record.order, *(one for one in record.sharing if self._shares(one))]
        prices, rows = self._metered_rows(orders)
        if not prices:
            return {}
        tables, lines = _tables_of(self.catalogue, prices), [reference.Line(0, row) for row in range(len(prices))]
        state = reference.State()
        drawn = dict.fromkeys(self.catalogue.pools, 0)
        found: dict[str, list[RatedEvent]] = {item: [] for number, item in rows if number == own}
        for one in sorted(record.usage, key=lambda event: (event.at_s, event.id)):
            if (one.order_id, one.item) not in rows or one.counts_at_s >= record.known_s:
                continue
            if one.order_id != own and one.quantity_micro % (1_000_000 // self.catalogue.items[one.item].unit.steps):
                continue  # the other order cannot be billed for it
            event = self._event(one, rows[one.order_id, one.item])
            left = self._left(orders, one.at_s, drawn)
            rated, then = reference.rate_event(tables, lines, reference.State(state.meters, left), event)
            if one.order_id == own:
                _must(rated, f"event {one.id}")
                found[one.item].append(RatedEvent(_usage_of(one, event), event, rated))
            if not rated.reject:
                state = then
                for pool in drawn:
                    drawn[pool] += left[0, pool] - then.pools[0, pool]
        for item, events in found.items():
            closed, state = reference.close_line(tables, lines, state, rows[own, item], record.until_s - 1)
            if closed.reject != core.Reject.NO_PRICE:
                _must(closed, f"the close of item {item}")
                events.append(RatedEvent(None, reference.Event(0, record.until_s - 1, 0), closed, closing=True))
        return {item: tuple(events) for item, events in found.items()}

    def _metered_rows(self, orders: Sequence[OrderFacts]) -> tuple[list[Resolved], dict[tuple[int, str], int]]:
        """Prices of the orders' metered items, and where that of (order id, item) is among them."""
        prices: list[Resolved] = []
        rows: dict[tuple[int, str], int] = {}
        for order in orders:
            known = self.items if order is self.record.order else _priced_of(self.catalogue, self.record, order)
            for item, priced in known.items():
                metered = not priced.recurring and not self.catalogue.items[item].percentage_of
                if priced.resolved is not None and metered and order.price_minor == NONE:
                    rows[order.id, item] = len(prices)
                    prices.append(priced.resolved)
        return prices, rows

    def _left(self, orders: Sequence[OrderFacts], at_s: int, drawn: dict[str, int]) -> dict[tuple[int, str], int]:
        """What orders that live at an instant put into pools, less what was drawn in the period."""
        granted = dict.fromkeys(drawn, 0)
        for order in orders:
            plan = order.terms.plan
            if order.starts_s <= at_s < order.ends_s:
                for pool, quantity in (plan_grants(self.catalogue, plan) if plan else {}).items():
                    granted[pool] = min(core.MAX_METER, granted[pool] + quantity * order.quantity)
        return {(0, pool): max(0, granted[pool] - drawn[pool]) for pool in drawn}

    def _shares(self, order: OrderFacts) -> bool:
        same = order.terms.catalogue == self.record.order.terms.catalogue
        return same and order.id != self.record.order.id

    def _event(self, one: UsageFacts, row: int) -> reference.Event:
        quantity = steps_of_micro(one.quantity_micro, self.catalogue.items[one.item].unit)
        return reference.Event(row, one.at_s, quantity, one.duration_s, one.destination)

    def _usage(self, item: str, priced: _Priced, events: tuple[RatedEvent, ...]) -> list[Explained]:
        assert priced.resolved is not None  # events were rated by it
        sums: dict[tuple[core.Tax, Rounding], tuple[int, int]] = {}
        for key in dict.fromkeys(_key_of(priced.resolved, one) for one in events):
            mine = [one for one in events if _key_of(priced.resolved, one) == key]
            total, used = sum(one.rated.amount_micro for one in mine), sum(one.event.quantity for one in mine)
            if total or used:
                sums[key] = total, used
        return self._made("usage", item, priced, events, sums) if sums else []

    def _minimum(self) -> list[Explained]:
        record = self.record
        asked, had = record.order.minimum_minor, sum(one.amount_minor for one in self.done) + record.advance_minor
        missing = divide(asked * record.num, record.den) - had
        if missing <= 0:
            return []
        part = _exact_part(missing, self._tax_of_minimum())
        return [Explained(record, "minimum", "", 1, 0, part, asked_minor=asked, had_minor=had)]

    def _tax_of_minimum(self) -> core.Tax:
        at_s = self.record.until_s - 1
        for item in _items_of(self.catalogue, self.record.order.terms):
            priced = self.items[item]
            if priced.resolved is None and self.record.order.price_minor != NONE:
                ppm = tax_ppm_at(self.catalogue.taxes.get(self.catalogue.items[item].tax), at_s)
                return core.Tax(ppm or 0, inside=True)
            if priced.resolved is not None and priced.resolved.price.versions[0][0] <= at_s:
                return _version_at(priced.resolved, at_s).tax
        raise ValueError("no item has a price whose tax a minimum could take")

    def _made(
        self,
        kind: str,
        item: str,
        priced: _Priced,
        events: tuple[RatedEvent, ...],
        sums: dict[tuple[core.Tax, Rounding], tuple[int, int]],
    ) -> list[Explained]:
        """A line, in as many parts as it has taxes and roundings: promotions off, rounded once, taxed."""
        totals = [total for total, _ in sums.values()]
        discounts: list[Discount] = discounts_of(priced.promotions, sum(totals))
        off = discounts[0].before_micro - discounts[-1].after_micro if discounts else 0
        shares = split_minor(off, [max(0, total) for total in totals]) if off else [Minor(0)] * len(totals)
        parts = tuple(
            part_of(*key, total, total - share) for (key, (total, _)), share in zip(sums.items(), shares, strict=True)
        )
        bill = None
        if priced.resolved is not None:
            used = sum(quantity for _, quantity in sums.values())
            amount, gross = (Minor(sum(getattr(part, name) for part in parts)) for name in ("amount", "gross"))
            plan = self.record.order.terms.plan
            bill = BillLine(
                plan, item, priced.resolved, events, used, sum(totals), tuple(discounts), parts, amount, gross
            )
        return [
            Explained(self.record, kind, item, quantity, divide(share, MICRO_PER_MINOR), part, bill)
            for part, share, (_, quantity) in zip(parts, shares, sums.values(), strict=True)
        ]


def _priced_of(catalogue: Catalogue, record: RecordFacts, order: OrderFacts) -> dict[str, _Priced]:
    """Items of another order in the same period."""
    own = replace(record, order=order)
    return _priced_items(catalogue, order, own.from_s, _period_number(own))


def _priced_items(catalogue: Catalogue, order: OrderFacts, at_s: int, number: int) -> dict[str, _Priced]:
    items = percentage_order(catalogue, _items_of(catalogue, order.terms))
    plain = {item: resolve_price(catalogue, item, order.buyer) for item in items}
    found = {}
    for item in items:
        recurring = is_recurring(catalogue, item, plain)
        acting = tuple(promotions_for(catalogue, item, order.buyer, order.codes, at_s, number))
        gifts = [one for one in acting if one.free_units]
        resolved = plain[item] if recurring or not gifts else resolve_price(catalogue, item, order.buyer, gifts)
        found[item] = _Priced(resolved, recurring, acting)
    return found


def _period_number(record: RecordFacts) -> int:
    """Periods are counted from the one that contains the order's start."""
    terms = record.order.terms
    if record.part == "once" or record.start_s <= record.order.starts_s:
        return 1
    interval = Interval(terms.interval_unit, terms.interval_count)
    cadence = Cadence(interval, terms.anchor_day, terms.anchor_month, terms.zone, terms.anchor_phase)
    return len(boundaries(cadence, record.order.starts_s, max(record.order.starts_s, record.start_s - _HALF_DAY_S)))


def _tables_of(catalogue: Catalogue, prices: Sequence[Resolved]) -> core.Catalogue:
    return core.Catalogue(
        tuple(one.price for one in prices), catalogue.start_s, catalogue.end_s, tuple(catalogue.pools)
    )


def _closed(catalogue: Catalogue, resolved: Resolved, at_s: int) -> RatedEvent:
    rated, _ = reference.close_line(
        _tables_of(catalogue, [resolved]), [reference.Line(0, 0)], reference.State(), 0, at_s
    )
    _must(rated, "the charge for the period")
    return RatedEvent(None, reference.Event(0, at_s, 0), rated, closing=True)


def _version_at(resolved: Resolved, at_s: int) -> core.Tariff:
    begun = [tariff for since_s, tariff in resolved.price.versions if since_s <= at_s]
    if not begun:
        raise ValueError(f"there is no price yet at {at_s}")
    return begun[-1]


def _key_of(resolved: Resolved, one: RatedEvent) -> tuple[core.Tax, Rounding]:
    tariff = resolved.price.versions[one.rated.version][1]
    return tariff.tax, tariff.rounding


def _usage_of(one: UsageFacts, event: reference.Event) -> Usage:
    place = Place("usage", one.id, 0)
    return Usage(place, "", one.item, one.at_s, event.quantity, one.duration_s, one.destination, "", "")


def _must(rated: reference.Rated, what: str) -> None:
    if rated.reject:
        raise ValueError(f"{what} cannot be rated: {rated.reject.name.lower().replace('_', ' ')}")
