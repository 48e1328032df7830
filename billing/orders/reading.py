"""Reading one order: text becomes numbers with the defaults of its account, and is judged. Pure.

Rules. One order is a column of one row of billing.orders.rules, so an order that is typed and a file of millions have
the same rules and the same sentences.

Does not know: the database, files.
"""

import numpy as np

from billing.calendar import NEVER
from billing.catalogue.model import Buyer, Catalogue
from billing.orders.records import MAX_NOTE, MAX_NUMBER, NewOrder, OrderingAccount, WantedOrder
from billing.orders.rules import (
    NO_PRICE,
    NO_TRIAL,
    Numbers,
    OrderError,
    anchors_of,
    local_date,
    offer_of,
    parse_instant,
    parse_interval,
    problem_with_terms,
    problems_with_numbers,
    unknown_code,
)
from billing.orders.terms import WantedTerms
from ratingcore.bands import zone_of
from ratingcore.money import Minor, parse_minor


def read_order(wanted: WantedOrder, account: OrderingAccount, catalogue: str, now_s: int | None = None) -> NewOrder:
    """An order in numbers, with the defaults of its account; without a start it begins with the day of ``now_s``.

    Raises:
        OrderError: text that cannot be read.
    """
    zone = wanted.zone or account.zone
    try:
        zone_of(zone)
    except ValueError as error:
        raise OrderError(f"zone: {error}") from error
    today = "" if now_s is None else local_date(now_s, zone).isoformat()
    starts_s = _instant("start", wanted.starts or today, zone)
    is_once = wanted.kind == "one_time"
    interval = parse_interval("month" if is_once else wanted.period)
    anchors = (wanted.anchor_day, wanted.anchor_month, wanted.anchor_date)
    day, month, phase = (1, 1, 0) if is_once else anchors_of(interval, local_date(starts_s, zone), *anchors)
    terms = WantedTerms(
        catalogue,
        wanted.plan,
        wanted.item,
        account.currency,
        wanted.kind,
        interval.unit,
        interval.count,
        day,
        month,
        zone,
        wanted.in_advance and not is_once,
        "none" if is_once else wanted.proration,
        phase,
    )
    ends_s = _instant("end", wanted.ends, zone) if wanted.ends else None
    trial_until_s = _instant("trial", wanted.trial_until, zone) if wanted.trial_until else None
    minimum, price = _sum("minimum", wanted.minimum) or 0, _sum("price", wanted.price)
    codes, note = tuple(dict.fromkeys(wanted.codes)), wanted.note
    return NewOrder(wanted.number, terms, wanted.quantity, starts_s, ends_s, trial_until_s, minimum, price, codes, note)


def _instant(what: str, text: str, zone: str) -> int:
    try:
        return parse_instant(text, zone)
    except ValueError as error:
        raise OrderError(f"{what}: {error}") from error


def _sum(what: str, text: str) -> Minor | None:
    try:
        return parse_minor(text) if text else None
    except ValueError as error:
        raise OrderError(f"{what}: {error}") from error


def problem_with_order(new: NewOrder, catalogue: Catalogue, account: OrderingAccount) -> str | None:
    """What forbids an order, as a sentence, or None."""
    if account.problem:
        return account.problem
    if not 1 <= len(new.number) <= MAX_NUMBER or not new.number.isprintable() or new.number.strip() != new.number:
        return f"the order's number must be 1 to {MAX_NUMBER} printable characters"
    if len(new.note) > MAX_NOTE or not new.note.isprintable():
        return f"the note must be printable and at most {MAX_NOTE} characters"
    code = unknown_code(catalogue, new.codes)
    if code is not None:
        return f"no promotion of catalogue {catalogue.name} has the code {code[:40]!r}"
    problem = problem_with_terms(new.terms)
    if problem:
        return problem
    buyer = Buyer(account.currency, new.terms.plan, account.group, account.customer)
    offer = offer_of(catalogue, new.terms, buyer, new.price_minor is not None)
    return problems_with_numbers([offer], _as_column(new)).get(0)


def _as_column(new: NewOrder) -> Numbers:
    values = (
        new.quantity,
        new.starts_s,
        NEVER if new.ends_s is None else new.ends_s,
        NO_TRIAL if new.trial_until_s is None else new.trial_until_s,
        new.minimum_minor,
        NO_PRICE if new.price_minor is None else new.price_minor,
    )
    return Numbers(
        np.zeros(1, np.int64),
        np.array([new.terms.kind == "one_time"]),
        *(np.array([value], np.int64) for value in values),
    )
