"""Orders: what a customer has ordered, and everything that happens to it until it is billed to its end.

Rules. An order never changes but for its end: another plan or quantity is another order that replaces it from an
instant on. A number acts once: the same order again is nothing new, another under the same number is refused. What is
billed stays: an end, a pause or its end may not lie before what of the order was billed in arrears or trued up; before
that only a credit note helps, or after a true-up a charge by hand. Within a period billed in advance they lead to a
true-up by the next run. What is done to an order is done to the orders that are to replace it as well. Every step is an
order_events row in the same transaction, told by whom.

Whoever changes an order waits for the shard of a running bill run that is at work on its payer, and then sees what it
billed. A shard that has not begun waits for him the other way round; such a change takes milliseconds.

Does not know: files, what things cost. Functions take the caller's aiopg cursor.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any, Final, NoReturn

import numpy as np

from billing.arrays import text_array
from billing.calendar import boundaries, period_containing
from billing.catalogue import Buyer, Catalogue
from billing.catalogue_store import find_version, read_version
from billing.cycle_records import NEVER
from billing.order_rules import (
    NO_PRICE,
    NO_TRIAL,
    Numbers,
    OrderError,
    Terms,
    anchors_of,
    local_date,
    offer_of,
    parse_instant,
    parse_interval,
    problem_with_terms,
    problems_with_numbers,
    unknown_code,
)
from billing.zones import problem_with_zone
from ratingcore.bands import zone_of
from ratingcore.money import MAX_MINOR, Minor, parse_minor

MAX_NUMBER: Final = 64
MAX_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """An order as it is typed or stands in a file: text, and None or empty where the default is meant."""

    account: str
    number: str = ""
    catalogue: str = ""
    plan: str = ""
    item: str = ""
    kind: str = "recurring"
    quantity: int = 1
    starts: str = ""
    ends: str = ""
    trial_until: str = ""
    period: str = "month"
    anchor_day: int | None = None
    anchor_month: int | None = None
    anchor_date: str = ""
    zone: str = ""
    in_advance: bool = False
    proration: str = "day"
    minimum: str = ""
    price: str = ""
    codes: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an order takes from its account and customer."""

    account_id: int
    payer_account_id: int
    currency: str
    payer_currency: str
    zone: str
    group: str
    customer: str
    state: str
    account_state: str

    @property
    def problem(self) -> str | None:
        """Why nothing can be ordered for this account."""
        if self.state == "closed":
            return f"customer {self.customer} is closed"
        if self.account_state == "closed":
            return "the account is closed"
        if self.currency != self.payer_currency:
            return f"the account is in {self.currency} and its payer's in {self.payer_currency}"
        return None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order in numbers. ends_s, trial_until_s, price_minor: None for none."""

    number: str
    terms: Terms
    quantity: int
    starts_s: int
    ends_s: int | None
    trial_until_s: int | None
    minimum_minor: int
    price_minor: int | None
    codes: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands. replaces, replaced_by: numbers, or empty. pause: the one it is in now, if any."""

    id: int
    account: str
    account_id: int
    payer: str
    payer_account_id: int
    contents: NewOrder
    replaces: str
    replaced_by: str
    is_settled: bool
    created_at: datetime
    pause: "Suspension | None" = None

    @property
    def number(self) -> str:
        return self.contents.number

    @property
    def never_begins(self) -> bool:
        """Whether it was cancelled before its start."""
        return self.contents.ends_s == self.contents.starts_s

    def covers(self, time_s: int) -> bool:
        """Whether some of its life lies after an instant."""
        ends_s = self.contents.ends_s
        return ends_s is None or ends_s > max(time_s, self.contents.starts_s)


@dataclass(frozen=True, slots=True)
class Billed:
    """A row of order_periods. invoice: its number, a dash while it is a draft, empty for none."""

    part: str
    start: datetime
    end: datetime
    outcome: str
    reason: str
    active_num: int
    active_den: int
    amount_minor: int
    invoice: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """id: 0 for one that is not stored yet. until_s: None while it lasts."""

    id: int
    from_s: int
    until_s: int | None
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something people did."""

    at: datetime
    event: str
    details: Mapping[str, Any]
    actor: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A period that is not billed yet: its number and bounds, and when its advance and arrears parts are due."""

    number: int
    start_s: int
    end_s: int
    due_s: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A line written by a person: amount_minor may be negative. tax_ppm: millionths of the net."""

    key: str
    account: str
    description: str
    amount_minor: int
    tax_ppm: int
    tax_inside: bool
    bill_on: date | None
    why: str


_FACTS: Final = """
    SELECT b.account_id, b.payer_account_id, a.currency, p.currency, b.zone, c.customer_group, c.number, c.state,
           a.state
    FROM accounts a
    JOIN billing_accounts b ON b.account_id = a.id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN customers c ON c.id = b.customer_id
    WHERE a.number = %s
    FOR SHARE OF c FOR NO KEY UPDATE OF b
"""

_CATALOGUES: Final = "SELECT id, name FROM catalogues ORDER BY name"

_FIND: Final = """
    WITH RECURSIVE line AS (
        SELECT o.* FROM orders o WHERE {which}
        UNION ALL
        SELECT n.* FROM orders n JOIN line ON n.replaces_id = line.id AND %(with_later)s
    )
    SELECT o.id, a.number, o.account_id, p.number, o.payer_account_id, coalesce(o.number, '#' || o.id), c.name,
           t.plan, t.item, t.currency,
           t.kind, t.interval_unit, t.interval_count, t.anchor_day, t.anchor_month, t.zone, t.in_advance, t.proration,
           t.anchor_phase, o.quantity, extract(epoch FROM o.starts_at)::bigint, extract(epoch FROM o.ends_at)::bigint,
           extract(epoch FROM o.trial_until)::bigint, o.minimum_minor, o.price_minor, o.codes, o.note,
           coalesce((SELECT number FROM orders e WHERE e.id = o.replaces_id), ''),
           coalesce((SELECT number FROM orders l WHERE l.replaces_id = o.id), ''), o.settled_at IS NOT NULL,
           o.created_at, s.reason, extract(epoch FROM s.from_at)::bigint, extract(epoch FROM s.until_at)::bigint,
           s.actor
    FROM line o
    JOIN order_terms t ON t.id = o.terms_id
    JOIN catalogues c ON c.id = t.catalogue_id
    JOIN accounts a ON a.id = o.account_id
    JOIN accounts p ON p.id = o.payer_account_id
    LEFT JOIN LATERAL (
        SELECT s.reason, s.from_at, s.until_at, s.actor FROM order_suspensions s
        WHERE s.order_id = o.id AND s.from_at <= now() AND (s.until_at IS NULL OR s.until_at > now())
          AND o.starts_at <= now() AND coalesce(o.ends_at > now(), true)
        LIMIT 1) s ON true
    ORDER BY o.id
"""
_BY_NUMBER: Final = _FIND.format(which="o.number = %(number)s")
_LISTED: Final = _FIND.format(
    which="""o.id IN (
        SELECT w.id FROM orders w
        LEFT JOIN billing_accounts b ON b.account_id = w.account_id
        LEFT JOIN customers k ON k.id = b.customer_id
        WHERE (%(account)s::text IS NULL OR w.account_id = (SELECT id FROM accounts WHERE number = %(account)s))
          AND (%(customer)s::text IS NULL OR k.number = %(customer)s)
          AND (NOT %(open)s OR w.settled_at IS NULL)
          AND w.id > %(after)s
        ORDER BY w.id LIMIT %(limit)s)"""
)

_TERMS_COLUMNS: Final = """plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month, zone,
    in_advance, proration, anchor_phase"""

_ADD_TERMS: Final = f"""
    INSERT INTO order_terms (catalogue_id, {_TERMS_COLUMNS})
    SELECT id, %(plan)s, %(item)s, %(currency)s, %(kind)s, %(interval_unit)s, %(interval_count)s, %(anchor_day)s,
           %(anchor_month)s, %(zone)s, %(in_advance)s, %(proration)s, %(anchor_phase)s
    FROM catalogues WHERE name = %(catalogue)s
    ON CONFLICT DO NOTHING
"""

_TERMS_ID: Final = f"""
    SELECT t.id FROM order_terms t JOIN catalogues c ON c.id = t.catalogue_id
    WHERE (c.name, {_TERMS_COLUMNS}) = (%(catalogue)s, %(plan)s, %(item)s, %(currency)s, %(kind)s, %(interval_unit)s,
           %(interval_count)s, %(anchor_day)s, %(anchor_month)s, %(zone)s, %(in_advance)s, %(proration)s,
           %(anchor_phase)s)
"""

_ADD: Final = """
    INSERT INTO orders (number, account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until,
                        minimum_minor, price_minor, codes, replaces_id, note)
    VALUES (%(number)s, %(account_id)s, %(payer_account_id)s, %(terms_id)s, %(quantity)s, to_timestamp(%(starts_s)s),
            to_timestamp(%(ends_s)s), to_timestamp(%(trial_until_s)s), %(minimum_minor)s, %(price_minor)s,
            nullif(%(codes)s::text[], '{}'), %(replaces_id)s, %(note)s)
    ON CONFLICT (number) DO NOTHING
    RETURNING id
"""

_COUNT: Final = "SELECT count(*) FROM orders WHERE account_id = %s"

_ANY_IN_ADVANCE: Final = """
    SELECT EXISTS (
        SELECT FROM order_terms t
        WHERE t.catalogue_id = (SELECT id FROM catalogues WHERE name = %s) AND t.in_advance
          AND EXISTS (SELECT FROM orders o WHERE o.terms_id = t.id AND o.settled_at IS NULL))
"""

_EVENT: Final = "INSERT INTO order_events (order_id, event, details, actor) VALUES (%s, %s, %s::jsonb, %s)"

_LOCK: Final = "SELECT FROM orders WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"

#: Held together by all who change orders. The plan of a billing run (billing.cycle_plan) waits for it: a change that
#: looked for a run before there was one is committed before shards are read.
CHANGES: Final = "kopeck orders change"
_WAIT_FOR_PLAN: Final = f"SELECT pg_advisory_xact_lock_shared(hashtextextended('{CHANGES}', 0))"

_WAIT_FOR_SHARD: Final = """
    SELECT FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
    WHERE r.state = 'running' AND s.state IN ('due', 'failed') AND EXISTS (
        SELECT FROM unnest(%s::bigint[]) AS payer WHERE payer BETWEEN s.first_account_id AND s.last_account_id)
    ORDER BY s.run_id, s.shard_no FOR SHARE OF s
"""

#: Up to where an order is billed for good, whether its only part is, and up to where it is trued up.
_BILLED_UNTIL: Final = """
    SELECT extract(epoch FROM max(period_end) FILTER (WHERE part IN ('arrears', 'trueup')))::bigint,
           count(*) FILTER (WHERE part = 'once') > 0,
           extract(epoch FROM max(period_end) FILTER (WHERE part = 'trueup'))::bigint
    FROM order_periods WHERE order_id = %s
"""

_END: Final = "UPDATE orders SET ends_at = to_timestamp(%s) WHERE id = %s"

#: A one-time order that is taken back is nothing to the cycle any more.
_TAKE_BACK: Final = "UPDATE orders SET ends_at = starts_at, settled_at = now() WHERE id = %s"

_SUSPENSIONS: Final = """
    SELECT id, extract(epoch FROM from_at)::bigint, extract(epoch FROM until_at)::bigint, reason, actor
    FROM order_suspensions WHERE order_id = %s ORDER BY from_at
"""

_SUSPEND: Final = """
    INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor)
    VALUES (%s, to_timestamp(%s), to_timestamp(%s), 'asked', %s)
"""

#: One taken back before it began lasts no whole second, so it pauses nothing.
_RESUME: Final = """
    UPDATE order_suspensions SET until_at = greatest(to_timestamp(%s), from_at + interval '1 microsecond') WHERE id = %s
"""

_PERIODS: Final = """
    SELECT p.part, p.period_start, p.period_end, p.outcome, p.reason, p.active_num, p.active_den, p.amount_minor,
           CASE WHEN p.invoice_id IS NULL THEN '' ELSE coalesce(i.full_number, '-') END
    FROM order_periods p LEFT JOIN numbered_invoices i ON i.id = p.invoice_id
    WHERE p.order_id = %s ORDER BY p.period_start DESC, p.part DESC LIMIT %s
"""

_LAST_PERIOD: Final = """
    SELECT extract(epoch FROM max(period_end))::bigint FROM order_periods WHERE order_id = %s AND part = %s
"""

_EVENTS: Final = "SELECT at, event, details, actor FROM order_events WHERE order_id = %s ORDER BY id DESC LIMIT %s"

_CHARGE: Final = """
    INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside,
                              bill_on, actor, why)
    SELECT %(key)s, b.account_id, b.payer_account_id, %(description)s, %(amount_minor)s, %(tax_ppm)s, %(tax_inside)s,
           coalesce(%(bill_on)s, (now() AT TIME ZONE zone_or_utc(b.zone))::date), %(actor)s, %(why)s
    FROM billing_accounts b WHERE b.account_id = %(account_id)s
    ON CONFLICT (key) DO NOTHING
    RETURNING bill_on
"""

_SAME_CHARGE: Final = """
    SELECT bill_on FROM manual_lines
    WHERE key = %(key)s AND account_id = %(account_id)s AND description = %(description)s
      AND amount_minor = %(amount_minor)s AND tax_ppm = %(tax_ppm)s AND tax_inside = %(tax_inside)s
      AND why = %(why)s AND bill_on = coalesce(%(bill_on)s, bill_on)
"""


# ---- reading what is wanted


def read_order(wanted: WantedOrder, facts: Facts, catalogue: str, now_s: int | None = None) -> NewOrder:
    """What is wanted in numbers, with the defaults of its account; without a start it begins with the day of now_s.

    Raises:
        OrderError: text that cannot be read.
    """
    zone = wanted.zone or facts.zone
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
    terms = Terms(
        catalogue,
        wanted.plan,
        wanted.item,
        facts.currency,
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


def problem_with_order(new: NewOrder, catalogue: Catalogue, facts: Facts) -> str | None:
    """What forbids an order, as a sentence, or None."""
    if facts.problem:
        return facts.problem
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
    buyer = Buyer(facts.currency, new.terms.plan, facts.group, facts.customer)
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
        np.zeros(1, np.int64), np.array([new.terms.kind == "one_time"]), *(np.array([one], np.int64) for one in values)
    )


# ---- adding


async def facts_of(cur: Any, account: str) -> Facts:
    """What orders of an account take from it; whoever else adds to it, moves it or closes its customer waits.

    Raises:
        OrderError: no customer has such an account.
    """
    await cur.execute(_FACTS, (account,))
    row = await cur.fetchone()
    if row is None:
        raise OrderError(f"no customer has an account {account[:40]!r}")
    return Facts(*row)


async def newest_catalogue(cur: Any, name: str = "") -> Catalogue:
    """The newest version of a catalogue, of the only one if none is named.

    Raises:
        OrderError: there is none, or more than one and none is named.
    """
    await cur.execute(_CATALOGUES)
    names = [row[1] for row in await cur.fetchall()]
    if not name and len(names) > 1:
        raise OrderError(f"there are several catalogues, name one by --catalogue: {', '.join(names)[:300]}")
    version = await find_version(cur, name or names[0]) if names else None
    if version is None:
        raise OrderError(f"there is no catalogue{f' {name[:40]!r}' if name else ': `kopeck catalog load` loads one'}")
    return await read_version(cur, version)


async def is_sold_in_advance(cur: Any, catalogue: str) -> bool:
    """Whether an order on this catalogue that is not settled yet pays in advance."""
    await cur.execute(_ANY_IN_ADVANCE, (catalogue,))
    return bool((await cur.fetchone())[0])


async def add_order(cur: Any, wanted: WantedOrder, actor: str, now_s: int | None = None) -> tuple[Order, bool]:
    """Add an order; False where the very same one is there already.

    Without a number it gets one from its account's, and a repeat would be another order.

    Args:
        now_s: where the order names no start it is the beginning of this instant's day.

    Raises:
        OrderError: a rule is broken; roll back.
    """
    facts = await facts_of(cur, wanted.account)
    catalogue = await newest_catalogue(cur, wanted.catalogue)
    number = wanted.number or await _free_number(cur, wanted.account, facts.account_id)
    new = read_order(replace(wanted, number=number), facts, catalogue.name, now_s)
    known = await _known(cur, number)
    if known is not None:
        if not _is_same(known, facts, new):
            raise OrderError(f"there is an order {number} already, and it is not the same")
        return known, False
    unknown = await problem_with_zone(cur, new.terms.zone)
    if unknown:
        raise OrderError(f"zone: {unknown}")
    await _insert(cur, new, catalogue, facts, actor)
    return await find_order(cur, number), True


async def _free_number(cur: Any, account: str, account_id: int) -> str:
    await cur.execute(_COUNT, (account_id,))
    count = (await cur.fetchone())[0] + 1
    while await _known(cur, f"{account}-{count}") is not None:
        count += 1
    return f"{account}-{count}"


def _is_same(known: Order, facts: Facts, new: NewOrder) -> bool:
    """Its end and its note may have changed since."""
    same = replace(known.contents, ends_s=new.ends_s, note=new.note)
    return known.account_id == facts.account_id and same == new


async def _insert(
    cur: Any, new: NewOrder, catalogue: Catalogue, facts: Facts, actor: str, replaces: Order | None = None
) -> None:
    problem = problem_with_order(new, catalogue, facts)
    if problem:
        raise OrderError(problem)
    await cur.execute(_ADD_TERMS, asdict(new.terms))
    await cur.execute(_TERMS_ID, asdict(new.terms))
    values = {name: getattr(new, name) for name in NewOrder.__slots__} | {
        "terms_id": (await cur.fetchone())[0],
        "codes": text_array(new.codes),
        "account_id": facts.account_id,
        "payer_account_id": facts.payer_account_id,
        "replaces_id": replaces.id if replaces else None,
    }
    del values["terms"]
    await cur.execute(_ADD, values)
    row = await cur.fetchone()
    if row is None:
        raise OrderError(f"there is an order {new.number} already")
    details = {"quantity": new.quantity, "what": new.terms.what} | ({"replaces": replaces.number} if replaces else {})
    await _note(cur, row[0], "created", details, actor)


async def _note(cur: Any, order_id: int, event: str, details: Mapping[str, Any], actor: str) -> None:
    await cur.execute(_EVENT, (order_id, event, json.dumps(details, ensure_ascii=False), actor))


# ---- finding


async def _found(cur: Any, statement: str, values: Mapping[str, Any]) -> list[Order]:
    await cur.execute(statement, values)
    return [_order(row) for row in await cur.fetchall()]


def _order(row: Sequence[Any]) -> Order:
    quantity, starts_s, ends_s, trial_until_s, minimum, price, codes, note = row[19:27]
    life = (quantity, starts_s, ends_s, trial_until_s, minimum, price)
    contents = NewOrder(row[5], Terms(*row[6:19]), *life, tuple(codes or ()), note)
    pause = Suspension(0, row[32], row[33], row[31], row[34]) if row[31] else None
    replaces, replaced_by, is_settled, created_at = row[27:31]
    order_id, account, account_id, payer, payer_id = row[:5]
    ids = (order_id, account, account_id, payer, payer_id)
    return Order(*ids, contents, replaces, replaced_by, is_settled, created_at, pause)


async def _known(cur: Any, number: str) -> Order | None:
    found = await _found(cur, _BY_NUMBER, {"number": number, "with_later": False})
    return found[0] if found else None


async def find_order(cur: Any, number: str) -> Order:
    """The order with this number. Raises OrderError where there is none."""
    found = await _known(cur, number)
    if found is None:
        raise OrderError(f"there is no order {number[:40]!r}")
    return found


async def list_orders(
    cur: Any,
    *,
    account: str | None = None,
    customer: str | None = None,
    only_open: bool = False,
    after: int = 0,
    limit: int = 100,
) -> list[Order]:
    """Orders in the order in which they were made, from the one after the id ``after``."""
    wanted = {"account": account, "customer": customer, "open": only_open, "after": after, "limit": limit}
    return await _found(cur, _LISTED, wanted | {"with_later": False})


async def periods_of_order(cur: Any, order_id: int, limit: int) -> list[Billed]:
    """What of an order was billed or waived, the newest first."""
    await cur.execute(_PERIODS, (order_id, limit))
    return [Billed(*row) for row in await cur.fetchall()]


async def suspensions_of(cur: Any, order_id: int) -> list[Suspension]:
    """Pauses of an order, the first one first."""
    await cur.execute(_SUSPENSIONS, (order_id,))
    return [Suspension(*row) for row in await cur.fetchall()]


async def events_of(cur: Any, order_id: int, limit: int) -> list[Event]:
    """What people did to an order, the newest first."""
    await cur.execute(_EVENTS, (order_id, limit))
    return [Event(*row) for row in await cur.fetchall()]


async def tiles_to_come(cur: Any, order: Order, count: int) -> list[Tile]:
    """The first so many periods of an order that are not billed, those that were missed among them."""
    new = order.contents
    if order.is_settled or new.terms.kind == "one_time":
        return []
    await cur.execute(_LAST_PERIOD, (order.id, "advance" if new.terms.in_advance else "arrears"))
    from_s = max((await cur.fetchone())[0] or 0, new.starts_s)
    return tiles_from(new, from_s, count)


def tiles_from(new: NewOrder, from_s: int, count: int) -> list[Tile]:
    """Periods of an order from the one that contains an instant of its life."""
    cadence, ends_s = new.terms.cadence, NEVER if new.ends_s is None else new.ends_s
    tiles: list[Tile] = []
    while len(tiles) < count and from_s < ends_s:
        start_s, end_s = period_containing(cadence, from_s)
        number = len(boundaries(cadence, new.starts_s, end_s)) - 1
        due_s = max(start_s, new.starts_s) if new.terms.in_advance else min(end_s, ends_s)
        tiles.append(Tile(number, start_s, end_s, due_s))
        from_s = end_s
    return tiles


# ---- changing


async def _to_change(cur: Any, number: str) -> list[Order]:
    """An order and those that are to replace it, locked, when nobody is billing them.

    Raises:
        OrderError: there is no such order, or it is billed to its end.
    """
    found = await _locked(cur, number)
    if found[0].is_settled:
        _refuse_settled(found[0])
    return found


def _refuse_settled(order: Order) -> NoReturn:
    if order.never_begins:
        raise OrderError(f"order {order.number} is taken back for good: add another")
    raise OrderError(f"order {order.number} is billed to its end; nothing of it can change")


async def _locked(cur: Any, number: str) -> list[Order]:
    values = {"number": number, "with_later": True}
    found = await _found(cur, _BY_NUMBER, values)
    if not found:
        raise OrderError(f"there is no order {number[:40]!r}")
    await wait_for_billing(cur, [found[0].payer_account_id])
    await cur.execute(_LOCK, ([order.id for order in found],))
    return await _found(cur, _BY_NUMBER, values)  # as they are now that nobody else is at them


async def wait_for_billing(cur: Any, payers: Sequence[int]) -> None:
    """Wait for shards at work on these payers' accounts; those that have not begun wait for this transaction."""
    if payers:
        await cur.execute(_WAIT_FOR_PLAN)
        await cur.execute(_WAIT_FOR_SHARD, (list(payers),))


async def _guard(cur: Any, order: Order, at_s: int, what: str) -> None:
    """Refuse to change what is billed for good."""
    await cur.execute(_BILLED_UNTIL, (order.id,))
    until_s, _, trued_up_s = await cur.fetchone()
    if until_s is not None and at_s < until_s:
        until = shown(until_s, order.contents.terms.zone)
        # What was trued up has its share on two invoices: the difference is a line by hand, up or down.
        is_trued_up = trued_up_s is not None and at_s < trued_up_s
        way = "is put right by `kopeck order charge`" if is_trued_up else "needs a credit note instead"
        raise OrderError(f"order {order.number} is billed until {until}: {what} earlier {way}")


def shown(time_s: int, zone: str) -> str:
    """An instant as people of a zone read it: a date where a day begins."""
    moment = datetime.fromtimestamp(time_s, zone_of(zone))
    return moment.strftime(
        "%Y-%m-%d" if (moment.hour, moment.minute, moment.second) == (0, 0, 0) else "%Y-%m-%d %H:%M:%S"
    )


def end_of_period(order: Order, now_s: int) -> int:
    """The end of the period that is under way, or of the first one."""
    return period_containing(order.contents.terms.cadence, max(now_s, order.contents.starts_s))[1]


async def end_order(cur: Any, number: str, at_s: int, actor: str, why: str = "", *, is_exact: bool = False) -> bool:
    """End an order, and let nothing replace it any more; False where it ends by then already.

    Args:
        at_s: when; before its start it never begins. is_exact: move an earlier end to then as well.

    Raises:
        OrderError: it is billed beyond that instant, or replaced by then; roll back.
    """
    order, *later = await _locked(cur, number)
    new = order.contents
    if order.is_settled:
        if is_exact or order.covers(at_s):
            _refuse_settled(order)
        return False
    if new.terms.kind == "one_time":
        return await _end_once(cur, order, actor, why)
    at_s = max(at_s, new.starts_s)
    if new.ends_s == at_s or (new.ends_s is not None and new.ends_s < at_s and not (is_exact or later)):
        return False
    if later and new.ends_s is not None and new.ends_s < at_s:
        raise OrderError(f"order {number} is replaced by {order.replaced_by} by then: cancel that one")
    await _guard(cur, order, at_s if new.ends_s is None else min(at_s, new.ends_s), "an end")
    await _set_end(cur, order, at_s, actor, why)
    for one in later:
        if one.contents.ends_s != one.contents.starts_s:
            await _guard(cur, one, one.contents.starts_s, "an end")
            await _set_end(cur, one, one.contents.starts_s, actor, why)
    return True


async def _set_end(cur: Any, order: Order, at_s: int, actor: str, why: str) -> None:
    await cur.execute(_END, (at_s, order.id))
    await _note(cur, order.id, "ended", {"at": shown(at_s, order.contents.terms.zone), "why": why}, actor)


async def _end_once(cur: Any, order: Order, actor: str, why: str) -> bool:
    await cur.execute(_BILLED_UNTIL, (order.id,))
    if (await cur.fetchone())[1]:
        raise OrderError(f"order {order.number} is billed: a credit note takes it back")
    await cur.execute(_TAKE_BACK, (order.id,))
    await _note(cur, order.id, "ended", {"why": why}, actor)
    return True


async def withdraw_end(cur: Any, number: str, actor: str) -> bool:
    """Let an order that was to end go on; False where no end is set.

    Raises:
        OrderError: it is billed to that end, or something replaces it; roll back.
    """
    order, *later = await _to_change(cur, number)
    ends_s = order.contents.ends_s
    if ends_s is None:
        return False
    if any(one.covers(0) for one in later):
        raise OrderError(f"order {number} is replaced by {order.replaced_by}: cancel that one first")
    await _guard(cur, order, ends_s, "going on")
    await cur.execute(_END, (None, order.id))
    await _note(cur, order.id, "end_withdrawn", {"was": shown(ends_s, order.contents.terms.zone)}, actor)
    return True


async def replace_order(
    cur: Any,
    number: str,
    at_s: int,
    actor: str,
    *,
    plan: str = "",
    quantity: int = 0,
    new_number: str = "",
    codes: Sequence[str] = (),
    is_exact: bool = False,
) -> tuple[Order, bool]:
    """Let another plan or another quantity begin where an order ends; False where just that was done already.

    Args:
        at_s: when; before the order's start it is its start. codes: of promotions, besides those it has.
        is_exact: a change that was made already must have been made for this instant.

    Raises:
        OrderError: a rule is broken; roll back.
    """
    facts = await facts_of(cur, (await find_order(cur, number)).account)  # customers are locked before orders
    order, *later = await _to_change(cur, number)
    old = order.contents
    wanted = replace(old.terms, plan=plan) if plan else old.terms
    at_s = max(at_s, old.starts_s)
    if later:
        successor = later[0]
        from_s = successor.contents.starts_s
        is_same = (successor.contents.terms, successor.contents.quantity) == (wanted, quantity or old.quantity)
        if is_same and not (is_exact and from_s != at_s):
            return successor, False
        why = f"order {number} is replaced by {successor.number} already, from {shown(from_s, old.terms.zone)}"
        raise OrderError(f"{why}: {'cancel' if is_same else 'change'} that one")
    await _refuse_change(cur, order, at_s, plan)
    new = replace(
        old,
        number=new_number or await _free_number(cur, order.account, order.account_id),
        terms=wanted,
        quantity=quantity or old.quantity,
        starts_s=at_s,
        trial_until_s=old.trial_until_s if old.trial_until_s is not None and old.trial_until_s > at_s else None,
        codes=tuple(dict.fromkeys([*old.codes, *codes])),
    )
    if (new.terms, new.quantity) == (old.terms, old.quantity):
        raise OrderError(f"order {number} is just that already")
    await _insert(cur, new, await newest_catalogue(cur, old.terms.catalogue), facts, actor, order)
    await cur.execute(_END, (at_s, order.id))
    await _note(cur, order.id, "replaced", {"at": shown(at_s, old.terms.zone), "by": new.number}, actor)
    return await find_order(cur, new.number), True


async def _refuse_change(cur: Any, order: Order, at_s: int, plan: str) -> None:
    old = order.contents
    if old.terms.kind == "one_time":
        raise OrderError(f"order {order.number} is a one_time order: cancel it and add another")
    if plan and not old.terms.plan:
        raise OrderError(f"order {order.number} is on an item, not on a plan")
    if old.ends_s is not None and old.ends_s <= at_s:
        raise OrderError(f"order {order.number} ends at {shown(old.ends_s, old.terms.zone)}")
    if any(one.until_s is None or one.until_s > at_s for one in await suspensions_of(cur, order.id)):
        raise OrderError(f"order {order.number} is suspended then: resume it first")
    await _guard(cur, order, at_s, "a change")


async def suspend_order(cur: Any, number: str, from_s: int, until_s: int | None, actor: str, why: str = "") -> bool:
    """Pause an order, and what replaces it meanwhile; False where it pauses just so already.

    Raises:
        OrderError: it is billed beyond that instant, ended, or paused otherwise in that time; roll back.
    """
    orders = await _to_change(cur, number)
    if orders[0].contents.terms.kind == "one_time":
        raise OrderError(f"order {number} is a one_time order: there is nothing to pause")
    if until_s is not None and until_s <= from_s:
        raise OrderError("the suspension ends before it begins")
    living = [one for one in orders if one.covers(from_s) and (until_s is None or one.contents.starts_s < until_s)]
    if not living:
        raise OrderError(f"order {number} has ended by then")
    done = [await _suspend(cur, one, from_s, until_s, actor, why) for one in living]
    return any(done)


async def _suspend(cur: Any, order: Order, from_s: int, until_s: int | None, actor: str, why: str) -> bool:
    zone, from_s = order.contents.terms.zone, max(from_s, order.contents.starts_s)
    for one in await suspensions_of(cur, order.id):
        if (one.until_s is None or one.until_s > from_s) and (until_s is None or one.from_s < until_s):
            if one.reason == "asked" and one.from_s <= from_s and one.until_s == until_s:
                return False
            until = "" if one.until_s is None else f" until {shown(one.until_s, zone)}"
            raise OrderError(f"order {order.number} is suspended ({one.reason}) from {shown(one.from_s, zone)}{until}")
    await _guard(cur, order, from_s, "a suspension")
    await cur.execute(_SUSPEND, (order.id, from_s, until_s, actor))
    details = {"from": shown(from_s, zone), "until": None if until_s is None else shown(until_s, zone), "why": why}
    await _note(cur, order.id, "suspended", details, actor)
    return True


async def resume_order(cur: Any, number: str, at_s: int, actor: str) -> bool:
    """End the pauses of an order, and of what replaces it, at an instant; False where it is not paused then.

    A pause that has not begun is taken back.

    Raises:
        OrderError: it pauses for debt, or is billed beyond that instant; roll back.
    """
    changed = False
    for order in await _to_change(cur, number):
        for one in await suspensions_of(cur, order.id):
            if one.until_s is not None and one.until_s <= max(at_s, one.from_s):
                continue
            if one.reason == "ageing":
                raise OrderError(f"order {order.number} is suspended for debt: a payment resumes it at once")
            await _guard(cur, order, max(at_s, one.from_s), "a resumption")
            await cur.execute(_RESUME, (at_s, one.id))
            zone = order.contents.terms.zone
            await _note(cur, order.id, "resumed", {"at": shown(max(at_s, one.from_s), zone)}, actor)
            changed = True
    return changed


# ---- charges by hand


async def add_charge(cur: Any, charge: Charge, actor: str) -> tuple[date, bool]:
    """Write a line for the next invoice on or after its date; returns that date, and False for a repeat of the key.

    Raises:
        OrderError: a rule is broken, or the key was used with other contents; roll back.
    """
    problem = _problem_with_charge(charge)
    if problem:
        raise OrderError(problem)
    facts = await facts_of(cur, charge.account)
    if facts.problem:
        raise OrderError(facts.problem)
    values = asdict(charge) | {"account_id": facts.account_id, "actor": actor}
    await cur.execute(_CHARGE, values)
    row = await cur.fetchone()
    if row is not None:
        return row[0], True
    await cur.execute(_SAME_CHARGE, values)
    row = await cur.fetchone()
    if row is None:
        raise OrderError(f"key {charge.key[:40]!r} was used for another charge")
    return row[0], False


def _problem_with_charge(charge: Charge) -> str | None:
    if not 1 <= len(charge.key) <= 200 or not charge.key.isprintable():
        return "the key must be 1 to 200 printable characters"
    if not charge.amount_minor or abs(charge.amount_minor) > MAX_MINOR:
        return f"the amount must not be 0, and at most {MAX_MINOR} minor units"
    if not 0 <= charge.tax_ppm <= 10_000_000:
        return "the tax must be 0 to 1000 percent"
    for name, text in (("description", charge.description), ("why", charge.why)):
        if not 1 <= len(text) <= MAX_NOTE or not text.isprintable():
            return f"{name} must be 1 to {MAX_NOTE} printable characters"
    return None
