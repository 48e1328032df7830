"""Shards of the billing cycle for tests: orders, events and the rest by name, where only what matters is said."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from billing.calendar import NEVER
from billing.catalogue.model import Catalogue
from billing.catalogue.units import parse_instant
from billing.charging.bills import bill_shard
from billing.charging.due import find_due
from billing.charging.pools import windows, with_neighbours
from billing.charging.records import (
    KINDS,
    NO_FLOOR,
    NONE,
    PARTS,
    REASONS,
    Adjustments,
    AdvanceAmounts,
    ManualLines,
    Orders,
    Payers,
    ShardBill,
    ShardInput,
    Suspensions,
    UsageEvents,
)
from billing.charging.tariffs import Tariffs, prepare_tariffs
from billing.orders.terms import OrderTerms

MOSCOW = "Europe/Moscow"


def at(text: str, zone: str = MOSCOW) -> int:
    """UTC seconds of a date, or of a date and time, in a zone."""
    day, _, clock = text.partition(" ")
    hours, minutes = (int(part) for part in (clock or "0:0").split(":"))
    return parse_instant(day, zone) + hours * 3600 + minutes * 60


@dataclass
class Order:
    """An order; starts, ends and the like as dates in its zone."""

    id: int
    starts: str
    plan: str = ""
    item: str = ""
    account: int = 1
    payer: int = 0
    ends: str = ""
    trial: str = ""
    quantity: int = 1
    minimum: int = 0
    price: int = NONE
    codes: tuple[str, ...] = ()
    group: str = ""
    customer: str = ""
    kind: str = "recurring"
    every: tuple[str, int] = ("month", 1)
    anchor: int = 1
    anchor_month: int = 1
    zone: str = MOSCOW
    ahead: bool = False
    proration: str = "day"
    currency: str = "RUB"
    catalogue: int = 1
    advance_done: str = ""
    arrears_done: str = ""
    once_done: bool = False
    pauses: list[tuple[str, str]] = field(default_factory=list)
    settled: bool = False

    @property
    def terms(self) -> OrderTerms:
        return OrderTerms(
            self.catalogue,
            self.plan,
            self.item,
            self.currency,
            self.kind,
            *self.every,
            self.anchor,
            self.anchor_month,
            self.zone,
            self.ahead,
            self.proration,
        )


@dataclass
class Event:
    id: int
    item: str
    when: str
    quantity_micro: int
    account: int = 1
    counts: str = ""
    duration_s: int = 0
    to: str = ""


@dataclass
class Payer:
    account: int
    balance: int = 0
    floor: int = NO_FLOOR
    currency: str = "RUB"


@dataclass
class World:
    """Everything a shard is made of. adjustments: (order id, start, end, num, den, item, amount, ppm, inside,
    credited)."""

    catalogue: Catalogue
    orders: list[Order]
    events: list[Event] = field(default_factory=list)
    payers: list[Payer] = field(default_factory=list)
    adjustments: list[tuple[int, str, str, int, int, str, int, int, bool, int]] = field(default_factory=list)
    advances: list[tuple[int, str, int]] = field(default_factory=list)
    manual: list[tuple[int, int, int, int, bool]] = field(default_factory=list)

    @property
    def terms(self) -> dict[OrderTerms, int]:
        return {terms: number for number, terms in enumerate(dict.fromkeys(one.terms for one in self.orders), 1)}

    def tariffs(self) -> Tariffs:
        return prepare_tariffs({1: self.catalogue}, {number: terms for terms, number in self.terms.items()})


def ints(values: Sequence[Any]) -> Any:
    return np.array(list(values), np.int64)


def _columns(kind: Any, rows: Sequence[tuple[Any, ...]], **more: Any) -> Any:
    """A record of columns from rows, each column of the type its field has."""
    names = [one for one in fields(kind) if one.name not in more]
    dtypes = {"Ints": np.int64, "Indices": np.int32, "Bytes": np.uint8}
    types = [dtypes[one.type if isinstance(one.type, str) else _alias(one.type)] for one in names]
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [np.array(column, dtype) for column, dtype in zip(columns, types, strict=True)]
    return kind(**{one.name: array for one, array in zip(names, arrays, strict=True)}, **more)


def _alias(annotation: Any) -> str:
    kind = np.dtype(annotation.__args__[1].__args__[0])
    return {"int64": "Ints", "int32": "Indices", "uint8": "Bytes"}[kind.name]


def shard_of(world: World, day: str) -> ShardInput:
    """The columns of a world on a date, without events."""
    live = sorted((one for one in world.orders if not one.settled), key=lambda one: (one.payer or one.account, one.id))
    gone = sorted((one for one in world.orders if one.settled), key=lambda one: (one.account, one.id))
    terms = world.terms
    codes = list(dict.fromkeys([(), *(one.codes for one in world.orders)]))
    buyers = list(dict.fromkeys([("", ""), *((one.group, one.customer) for one in world.orders)]))
    known = {one.account: one for one in world.payers}
    accounts = sorted({one.payer or one.account for one in live} | set(known) | {one[1] for one in world.manual})
    payers = [known.get(account, Payer(account)) for account in accounts]
    currencies = tuple(dict.fromkeys(["RUB", *(one.currency for one in payers)]))
    items = tuple(dict.fromkeys(one[5] for one in world.adjustments))
    pauses = sorted(
        (one.id, at(begin, one.zone), at(end, one.zone) if end else NEVER) for one in live for begin, end in one.pauses
    )
    zones = {one.id: one.zone for one in world.orders}
    return ShardInput(
        date.fromisoformat(day),
        _columns(Orders, [_row(one, terms, codes, buyers) for one in (*live, *gone)]),
        _columns(
            Payers,
            [(one.account, currencies.index(one.currency), 1, 14, one.balance, one.floor) for one in payers],
        ),
        currencies,
        tuple(codes),
        tuple(buyers),
        items,
        _columns(Suspensions, pauses),
        _columns(
            Adjustments,
            [
                (one[0], at(one[1], zones[one[0]]), at(one[2], zones[one[0]]), *one[3:5], items.index(one[5]), *one[6:])
                for one in world.adjustments
            ],
        ),
        _columns(AdvanceAmounts, [(one, at(start, zones[one]), amount) for one, start, amount in world.advances]),
        _columns(ManualLines, [(*one, at(day)) for one in sorted(world.manual, key=lambda one: (one[1], one[0]))]),
        live=len(live),
    )


def _row(one: Order, terms: dict[OrderTerms, int], codes: list[Any], buyers: list[Any]) -> tuple[Any, ...]:
    def when(text: str, other: int) -> int:
        return at(text, one.zone) if text else other

    return (
        one.id,
        one.account,
        one.payer or one.account,
        terms[one.terms],
        one.quantity,
        at(one.starts, one.zone),
        when(one.ends, NEVER),
        when(one.trial, 0),
        one.minimum,
        one.price,
        codes.index(one.codes),
        buyers.index((one.group, one.customer)),
        when(one.advance_done, NONE),
        when(one.arrears_done, NONE),
        one.once_done,
    )


def with_events(shard: ShardInput, events: Sequence[Event], read: Any) -> ShardInput:
    """The shard with those events that lie within the windows, as the store reads them."""
    spans = list(zip(read.account_id.tolist(), read.from_s.tolist(), read.until_s.tolist(), strict=True))
    found = [
        one for one in events if any(one.account == who and low <= at(one.when) < high for who, low, high in spans)
    ]
    found.sort(key=lambda one: (one.account, at(one.when), one.id))
    names = tuple(dict.fromkeys(one.item for one in found))
    rows = [
        (
            one.account,
            names.index(one.item),
            at(one.when),
            at(one.counts or one.when),
            one.quantity_micro,
            one.duration_s,
            one.id,
        )
        for one in found
    ]
    texts = pa.array([one.to for one in found], pa.string())
    return replace(shard, events=_columns(UsageEvents, rows, items=names, destination=texts))


def bill(world: World, day: str, tariffs: Tariffs | None = None) -> ShardBill:
    """What the world comes to on a date."""
    prepared = tariffs or world.tariffs()
    shard = shard_of(world, day)
    due = with_neighbours(find_due(shard, prepared), shard, prepared)
    return bill_shard(with_events(shard, world.events, windows(due, shard, prepared)), prepared, due)


def lines(found: ShardBill) -> list[tuple[Any, ...]]:
    """(order, kind, item, quantity, amount) of every line, in order."""
    one = found.lines
    return [
        (order, KINDS[kind], found.items[item], quantity, amount)
        for order, kind, item, quantity, amount in zip(
            one.order_id.tolist(),
            one.kind.tolist(),
            one.item.tolist(),
            one.quantity.tolist(),
            one.amount_minor.tolist(),
            strict=True,
        )
    ]


def periods(found: ShardBill) -> list[tuple[Any, ...]]:
    """(order, part, start, reason, num, den, amount) of every record."""
    one = found.periods
    return [
        (order, PARTS[part], start, REASONS[reason], num, den, amount)
        for order, part, start, reason, num, den, amount in zip(
            one.order_id.tolist(),
            one.part.tolist(),
            one.start_s.tolist(),
            one.reason.tolist(),
            one.num.tolist(),
            one.den.tolist(),
            one.amount_minor.tolist(),
            strict=True,
        )
    ]


def amounts(found: ShardBill) -> list[int]:
    return [int(amount) for amount in found.lines.amount_minor]
