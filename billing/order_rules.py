"""What an order may say: its rhythm, what it buys, when that has a price. Pure rules, for one order and for millions.

Rules. Terms (what is sold in which rhythm) are judged once for all orders that share them, an offer (what terms buy
at whose price) once for all buyers who cannot be told apart, numbers and instants in columns. An order typed at the
terminal is a column of one row, so both ways have one set of rules and one set of sentences.

A date stands for the first instant of that local day; a time without an offset is the zone's. A period is anchored on
the day the order starts unless it is told otherwise.

Does not know: customers, what is stored, files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from billing.calendar import HORIZON_END_S, HORIZON_START_S, Cadence, Interval, anchor_of, local_midnight
from billing.catalogue import Buyer, Catalogue, Resolved, plan_items, resolve_price
from billing.catalogue_tables import is_recurring
from billing.cycle_records import NEVER
from ratingcore.bands import zone_of
from ratingcore.money import MAX_MINOR

Ints = NDArray[np.int64]

KINDS: Final = ("recurring", "one_time")
PRORATIONS: Final = ("none", "day", "second")
MAX_QUANTITY: Final = 1_000_000_000
#: In place of a price that nobody set; of a trial that there is none of.
NO_PRICE: Final = -1
NO_TRIAL: Final = 0
_SHOWN: Final = 60


class OrderError(ValueError):
    """A clear sentence for whoever asked for an order or a change that cannot be."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What few words say for many orders: a plan or an item, in which rhythm, how prorated."""

    catalogue: str
    plan: str
    item: str
    currency: str
    kind: str
    interval_unit: str
    interval_count: int
    anchor_day: int
    anchor_month: int
    zone: str
    in_advance: bool
    proration: str
    anchor_phase: int = 0

    @property
    def cadence(self) -> Cadence:
        """The tiling of these terms. Raises ValueError where there is none."""
        interval = Interval(self.interval_unit, self.interval_count)
        return Cadence(interval, self.anchor_day, self.anchor_month, self.zone, self.anchor_phase)

    @property
    def what(self) -> str:
        return f"plan {self.plan}" if self.plan else f"item {self.item}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What terms buy. problem: why not. priced: per item, from when it has a price and from when it has none.

    start_s, end_s: when the catalogue is valid.
    """

    problem: str | None
    priced: tuple[tuple[str, Ints, NDArray[np.bool_]], ...] = ()
    start_s: int = 0
    end_s: int = NEVER


@dataclass(frozen=True, slots=True)
class Numbers:
    """Columns of orders. ends_s: NEVER for none; trial_until_s: NO_TRIAL; price_minor: NO_PRICE; offer: which one."""

    offer: Ints
    is_once: NDArray[np.bool_]
    quantity: Ints
    starts_s: Ints
    ends_s: Ints
    trial_until_s: Ints
    minimum_minor: Ints
    price_minor: Ints


# ---- text


def parse_interval(text: str) -> Interval:
    """``month``, ``3 months``, ``2 weeks``, ``quarter``.

    Raises:
        OrderError: anything else.

    >>> parse_interval("3 months")
    Interval(unit='month', count=3)
    """
    head, _, tail = text.strip().rpartition(" ")
    try:
        if head and not (head.isascii() and head.isdigit() and len(head) <= 4):
            raise ValueError("a period is a number and a unit")
        return Interval(tail.removesuffix("s"), int(head or 1))
    except ValueError as error:
        raise OrderError(f"period {text[:_SHOWN]!r} is none such as month, 3 months or 2 weeks: {error}") from error


def parse_instant(text: str, zone: str) -> int:
    """A date (the first instant of the local day) or a date with time, to whole UTC seconds.

    Raises:
        OrderError: anything else, or outside the calendar's years.

    >>> parse_instant("2026-01-31", "Europe/Moscow") == parse_instant("2026-01-31T00:00+03:00", "UTC")
    True
    """
    try:
        if len(text) == 10:
            return local_midnight(date.fromisoformat(text), zone)
        found = datetime.fromisoformat(text)
        if found.microsecond:
            raise ValueError("an instant is a whole second")
        found = found if found.tzinfo else found.replace(tzinfo=zone_of(zone))
        seconds = int(found.timestamp())
        if not HORIZON_START_S <= seconds < HORIZON_END_S:
            raise ValueError("it is outside the calendar's years, 1990 to 2100")
    except (ValueError, OverflowError) as error:
        why = f": {error}" if "isoformat" not in str(error) else ""
        what = f"{text[:_SHOWN]!r} is no date such as 2026-01-31 or 2026-01-31T18:00:00+03:00{why}"
        raise OrderError(what) from error
    return seconds


def local_date(time_s: int, zone: str) -> date:
    """The date that a zone's calendars show at an instant."""
    return datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone)).date()


def anchors_of(interval: Interval, start: date, day: int | None, month: int | None, on: str) -> tuple[int, int, int]:
    """(anchor_day, anchor_month, anchor_phase) of an order that starts on a local date.

    Periods start where the order does unless it says otherwise: by a date on which one starts, or by the day or the
    month of it. Then a weekday or a month is the first one on or after the start.

    Raises:
        OrderError: a date that is none, or a date besides a day or month.
    """
    if on:
        if day is not None or month is not None:
            raise OrderError("an anchor date says the anchor day and month as well: leave those out")
        return anchor_of(interval, _anchor_date(on))
    own_day, own_month, phase = anchor_of(interval, start)
    if interval.unit == "week" and day is not None and 1 <= day <= 7:
        return anchor_of(interval, start + timedelta(days=(day - own_day) % 7))
    if month is not None and (month, own_day if day is None else day) < (start.month, start.day):
        phase = (12 * (start.year + 1)) % interval.steps
    elif month is not None:
        phase = (12 * start.year) % interval.steps
    return own_day if day is None else day, own_month if month is None else month, phase


def _anchor_date(text: str) -> date:
    try:
        found = date.fromisoformat(text)
        if len(text) != 10 or not 1990 <= found.year <= 2100:
            raise ValueError
    except ValueError as error:
        raise OrderError(f"anchor date {text[:_SHOWN]!r} is no date such as 2026-01-31, from 1990 to 2100") from error
    return found


# ---- terms


def problem_with_terms(terms: Terms) -> str | None:
    """What is wrong with a rhythm, as a sentence, or None."""
    if bool(terms.plan) == bool(terms.item):
        return "an order is on a plan or on an item, one of the two"
    if terms.kind not in KINDS:
        return f"kind {terms.kind[:_SHOWN]!r} must be one of: {', '.join(KINDS)}"
    if terms.kind == "one_time" and terms.plan:
        return "a one_time order is on an item, not on a plan"
    if terms.proration not in PRORATIONS:
        return f"proration {terms.proration[:_SHOWN]!r} must be one of: {', '.join(PRORATIONS)}"
    try:
        _ = terms.cadence
    except ValueError as error:
        return str(error)
    return None


def offer_of(catalogue: Catalogue, terms: Terms, buyer: Buyer, has_price: bool) -> Offer:
    """What these terms buy this buyer; has_price: the order names a price of its own."""
    problem = _problem_with_what(catalogue, terms, has_price)
    if problem:
        return Offer(problem)
    items = plan_items(catalogue, terms.plan) if terms.plan else (terms.item,)
    found = {item: resolve_price(catalogue, item, buyer) for item in items}
    missing = [item for item in items if found[item] is None]
    if missing and not has_price:
        return Offer(f"item {missing[0]} has no price in {terms.currency} for this buyer")
    if terms.in_advance:
        for item in items:
            bases = [base for base in catalogue.items[item].percentage_of if base in found]
            if len({is_recurring(catalogue, base, found) for base in bases}) == 2:
                why = f"item {item} is a percentage of recurring and of metered items"
                return Offer(f"{why}: {terms.what} cannot be billed in advance")
    priced = () if has_price else tuple((item, *_priced(one)) for item, one in found.items() if one is not None)
    return Offer(None, priced, catalogue.start_s, catalogue.end_s)


def _problem_with_what(catalogue: Catalogue, terms: Terms, has_price: bool) -> str | None:
    if terms.plan and terms.plan not in catalogue.plans:
        return f"catalogue {catalogue.name} has no plan {terms.plan[:_SHOWN]!r}"
    if terms.item and terms.item not in catalogue.items:
        return f"catalogue {catalogue.name} has no item {terms.item[:_SHOWN]!r}"
    if has_price and not (terms.item and catalogue.items[terms.item].manual):
        return f"{terms.what} takes its price from the catalogue (manual: true on an item lets an order set it)"
    return None


def _priced(resolved: Resolved) -> tuple[Ints, NDArray[np.bool_]]:
    """From when there is a price (True) and from when there is none again (False), ascending."""
    changes = sorted([(one.since_s, True) for one in resolved.versions] + [(at, False) for at in resolved.gaps])
    return np.array([at for at, _ in changes], np.int64), np.array([is_priced for _, is_priced in changes])


def unknown_code(catalogue: Catalogue, codes: Iterable[str]) -> str | None:
    """The first code that no promotion of the catalogue has."""
    known = {one.code for one in catalogue.promotions if one.code}
    return next((code for code in codes if code not in known), None)


# ---- numbers


def problems_with_numbers(offers: Sequence[Offer], rows: Numbers) -> dict[int, str]:
    """The first problem of each row that has one, by row."""
    found: dict[int, str] = {}
    for bad, said in _number_rules(rows):
        for row in np.flatnonzero(bad).tolist():
            found.setdefault(row, said)
    order = np.argsort(rows.offer, kind="stable")
    bounds = np.searchsorted(rows.offer[order], np.arange(len(offers) + 1))
    for number, offer in enumerate(offers):
        members = order[bounds[number] : bounds[number + 1]]
        for row, said in _offer_rules(offer, rows.starts_s[members]):
            found.setdefault(int(members[row]), said)
    return found


def _number_rules(rows: Numbers) -> list[tuple[NDArray[np.bool_], str]]:
    once, ended, tried = rows.is_once, rows.ends_s != NEVER, rows.trial_until_s != NO_TRIAL
    in_horizon = (rows.starts_s >= HORIZON_START_S) & (rows.starts_s < HORIZON_END_S)
    return [
        ((rows.quantity < 1) | (rows.quantity > MAX_QUANTITY), f"quantity must be 1 to {MAX_QUANTITY}"),
        (~in_horizon, "the start is outside the calendar's years, 1990 to 2100"),
        (ended & (rows.ends_s <= rows.starts_s), "the order ends before it starts"),
        (tried & (rows.trial_until_s <= rows.starts_s), "the trial ends before the order starts"),
        (once & ended, "a one_time order has no end"),
        (once & tried, "a one_time order has no trial"),
        (once & (rows.minimum_minor != 0), "a minimum belongs to recurring orders"),
        (
            (rows.minimum_minor < 0) | (rows.minimum_minor > MAX_MINOR),
            f"the minimum must be 0 to {MAX_MINOR} minor units",
        ),
        (rows.price_minor > MAX_MINOR, f"the price must be at most {MAX_MINOR} minor units"),
    ]


def _offer_rules(offer: Offer, starts_s: Ints) -> Iterable[tuple[int, str]]:
    if offer.problem:
        yield from ((row, offer.problem) for row in range(len(starts_s)))
        return
    outside = (starts_s < offer.start_s) | (starts_s >= offer.end_s)
    for row in np.flatnonzero(outside).tolist():
        yield row, "the catalogue is not valid at the order's start"
    for item, times, is_priced in offer.priced:
        place = times.searchsorted(starts_s, side="right") - 1
        for row in np.flatnonzero((place < 0) | ~is_priced[place]).tolist():
            yield row, f"item {item} has no price at the order's start"
