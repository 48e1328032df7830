"""Periods of an order that are not billed yet, and instants as people of its zone read them. Pure.

Does not know: what was billed.
"""

from datetime import datetime

from billing.calendar import NEVER, boundaries, period_containing
from billing.orders.records import NewOrder, Order, PeriodToCome
from ratingcore.bands import zone_of


def periods_from(new: NewOrder, from_s: int, count: int) -> list[PeriodToCome]:
    """At most ``count`` periods of an order from the one that contains an instant of its life."""
    cadence, ends_s = new.terms.cadence, NEVER if new.ends_s is None else new.ends_s
    periods: list[PeriodToCome] = []
    while len(periods) < count and from_s < ends_s:
        start_s, end_s = period_containing(cadence, from_s)
        number = len(boundaries(cadence, new.starts_s, end_s)) - 1
        due_s = max(start_s, new.starts_s) if new.terms.in_advance else min(end_s, ends_s)
        periods.append(PeriodToCome(number, start_s, end_s, due_s))
        from_s = end_s
    return periods


def end_of_period(order: Order, now_s: int) -> int:
    """The end of the period that is under way, or of the first one."""
    return period_containing(order.contents.terms.cadence, max(now_s, order.contents.starts_s))[1]


def format_instant(time_s: int, zone: str) -> str:
    """An instant as people of a zone read it: a date if a day begins then."""
    moment = datetime.fromtimestamp(time_s, zone_of(zone))
    is_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%d %H:%M:%S")
