"""Columns of text to events: each value read exactly, each bad row with its reason.

Rules. Quantities are integers of 1/1,000,000 of the item's unit, computed in integers from the text: 64 bits where
they suffice, Python's own where they do not. A row has one reason, the first found in the order of the fields.

Does not know: whether accounts exist, which keys were used.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.files.columns import Columns
from billing.files.lines import Block, Reject
from billing.files.times import Flags, Ints, flags, read_times
from billing.usage.format import Format, QuantityField
from billing.usage.ratable import Ratable, unratable

#: Events before this instant belong to no period anybody bills.
EARLIEST_S: Final = 946_684_800
MAX_QUANTITY_MICRO: Final = 10**18
MAX_DURATION_S: Final = 31 * 86_400
MAX_KEY_BYTES: Final = 512
MICRO: Final = 1_000_000
_FRACTION_DIGITS: Final = 9
_FRACTION_UNIT: Final = 10**_FRACTION_DIGITS
_MAX_INT64: Final = 2**63 - 1
#: Parts of a key of several columns are joined by this; no value holds it.
KEY_SEPARATOR: Final = "\x1f"

SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("account", pa.string()),
        ("item", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("counts_at", pa.timestamp("us", "UTC")),
        ("quantity_micro", pa.int64()),
        ("duration_s", pa.int32()),
        ("destination", pa.string()),
        ("line", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Known:
    """What values are held against.

    now_s: UTC. open_from_s: events before it are late; None while no period is closed. items: the numbers that
    catalogues have; None where there is no catalogue to ask. seen_from_s: a review that waits has seen what counts
    before, so that what comes now counts there or later; None without one. ratable: what the catalogues in force could
    rate.
    """

    now_s: int
    open_from_s: int | None = None
    items: frozenset[str] | None = None
    seen_from_s: int | None = None
    ratable: Ratable = field(default_factory=Ratable)


@dataclass(frozen=True, slots=True)
class Events:
    """table: of SCHEMA. late: how many of its rows count in a later period than their own."""

    table: pa.Table
    late: int
    rejects: list[Reject]


class _ValueChecks:
    """Reasons of rows as fields are read; the first of a row stays."""

    def __init__(self, count: int) -> None:
        self.codes = np.zeros(count, np.uint8)
        self.reasons: list[tuple[str, str, Sequence[pa.Array]]] = [("", "", ())]

    def refuse(self, bad: Flags, reason: str, sentence: str, *shown: pa.Array) -> None:
        """``sentence`` has ``{}`` for each of the shown columns' values."""
        if not bad.any():
            return
        self.codes[bad & (self.codes == 0)] = len(self.reasons)
        self.reasons.append((reason, sentence, shown))

    def rejects(self, block: Block, numbers: Ints) -> list[Reject]:
        found = []
        for row in np.flatnonzero(self.codes).tolist():
            reason, sentence, shown = self.reasons[self.codes[row]]
            for column in shown:
                sentence = sentence.replace("{}", repr(column[row].as_py())[:80], 1)
            line = int(numbers[row])
            found.append(Reject(line, reason, sentence, block.raw(line)))
        return found


def read_values(columns: Columns, block: Block, made: Format, late: str, known: Known) -> Events:
    """Events of a block's columns.

    Args:
        late: "accept": an event of a closed period counts at the start of the open one; "reject".
    """
    texts, count = columns.texts, len(columns.numbers)
    judge = _ValueChecks(count)
    account = _account(texts[made.account.column], made, judge)
    item = _item(texts, made, count, known, judge)
    at_s = _time(texts, made, known, judge)
    quantity = _quantity(texts, made, count, judge)
    duration_s = _duration(texts, made, count, judge)
    destination = _destination(texts, made, count, judge)
    key = _key(texts, made, judge)
    _refuse_unratable(item, quantity, destination, known, judge)
    counts_s = at_s
    if known.open_from_s is not None:
        is_late = at_s < known.open_from_s
        if late == "reject":
            judge.refuse(is_late, "late", "the period of the event is closed")
        else:
            counts_s = np.maximum(at_s, known.open_from_s)
    if known.seen_from_s is not None:
        counts_s = np.maximum(counts_s, known.seen_from_s)
    good = judge.codes == 0
    table = pa.Table.from_arrays(
        [
            key,
            account,
            item,
            _instants(at_s),
            _instants(counts_s),
            pa.array(quantity),
            pa.array(duration_s.astype(np.int32)),
            destination,
            pa.array(columns.numbers),
        ],
        schema=SCHEMA,
    )
    late_count = int(((counts_s > at_s) & good).sum())
    rejects = judge.rejects(block, columns.numbers)
    return Events(table if good.all() else table.filter(pa.array(good)), late_count, rejects)


def _instants(seconds: Ints) -> pa.Array:
    return pa.array(seconds * 1_000_000).cast(pa.timestamp("us", "UTC"))


def _matches(column: pa.Array, pattern: str) -> Flags:
    return flags(pc.match_substring_regex(column, pattern))


def _constant(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def _account(column: pa.Array, made: Format, judge: _ValueChecks) -> pa.Array:
    number = column
    if made.account.strip_prefix:
        number = pc.replace_substring_regex(number, "^" + re.escape(made.account.strip_prefix), "")
    if made.account.strip_leading_zeros:
        number = pc.utf8_ltrim(number, "0")
    bad = ~_matches(number, r"^[0-9A-Za-z._@+-]{1,30}$")
    judge.refuse(bad, "account", f"{made.account.column} {{}} is no account number", column)
    return number


def _item(texts: Mapping[str, pa.Array], made: Format, count: int, known: Known, judge: _ValueChecks) -> pa.Array:
    number = _item_number(texts, made, count, judge)
    if known.items is not None:
        unknown = ~flags(pc.is_in(number, pa.array(sorted(known.items), pa.string())))
        judge.refuse(unknown, "unknown_item", "no catalogue has an item {}", number)
    return number


def _item_number(texts: Mapping[str, pa.Array], made: Format, count: int, judge: _ValueChecks) -> pa.Array:
    if made.item.column is None:
        return _constant(str(made.item.value), count)
    column = texts[made.item.column]
    if made.item.map:
        places = pc.index_in(column, pa.array(list(made.item.map)))
        judge.refuse(flags(pc.is_null(places)), "item", f"{made.item.column} {{}} is not in item.map", column)
        return pc.fill_null(pa.array(list(made.item.map.values())).take(places), "")
    bad = ~_matches(column, r"^[\pL\pN._:-]{1,64}$")
    judge.refuse(bad, "item", f"{made.item.column} {{}} is no item number", column)
    return column


def _time(texts: Mapping[str, pa.Array], made: Format, known: Known, judge: _ValueChecks) -> Ints:
    names = made.time_columns()
    column = texts[names[0]]
    if len(names) > 1:
        column = pc.binary_join_element_wise(*(texts[name] for name in names), " ")
    label, rule = " ".join(names), made.time
    times = read_times(column, rule.format, rule.zone, rule.gap, rule.ambiguous)
    judge.refuse(times.malformed, "time", f"{label} {{}} is no time of the form {rule.format}", column)
    judge.refuse(
        times.skipped, "time_in_gap", f"{label} {{}} did not happen in {rule.zone}: clocks went over it", column
    )
    judge.refuse(times.repeated, "time_twice", f"{label} {{}} happened twice in {rule.zone}", column)
    early = times.utc_s < max(EARLIEST_S, known.now_s - rule.oldest_days * 86_400)
    judge.refuse(early, "time_range", f"{label} {{}} is more than {rule.oldest_days} days ago", column)
    future = times.utc_s > known.now_s + rule.future_s
    judge.refuse(future, "time_range", f"{label} {{}} is in the future", column)
    out_of_range = early | future
    at_s: Ints = np.where(out_of_range | times.malformed, known.now_s, times.utc_s)
    return at_s


def _quantity(texts: Mapping[str, pa.Array], made: Format, count: int, judge: _ValueChecks) -> Ints:
    rule = made.quantity
    column = _constant(str(rule.value), count) if rule.column is None else texts[rule.column]
    label = rule.column or "quantity.value"
    negative = _matches(column, r"^-[0-9]")
    judge.refuse(negative, "quantity_negative", f"{label} {{}} is negative", column)
    sound = _matches(column, rf"^[0-9]{{1,15}}(?:{re.escape(rule.decimal)}[0-9]{{1,{_FRACTION_DIGITS}}})?$")
    judge.refuse(~sound, "quantity", f"{label} {{}} is no number with at most {_FRACTION_DIGITS} decimals", column)
    whole, fraction = _split_decimal(column if sound.all() else pc.if_else(pa.array(sound), column, "0"), rule.decimal)
    micro, inexact = to_micro(whole, fraction, rule)
    judge.refuse(inexact, "quantity_inexact", f"{label} {{}} is finer than a millionth of the unit", column)
    too_much = micro > rule.maximum * MICRO
    judge.refuse(too_much, "quantity_range", f"{label} {{}} is more than {rule.maximum} units", column)
    return micro


def _split_decimal(column: pa.Array, decimal: str) -> tuple[Ints, Ints]:
    """Whole part and billionths."""
    if not flags(pc.match_substring(column, decimal)).any():
        return np.asarray(pc.cast(column, pa.int64())), np.zeros(len(column), np.int64)
    parts = pc.split_pattern(pc.binary_join_element_wise(column, "", decimal), decimal, max_splits=2)
    whole = pc.list_element(parts, 0)
    fraction = pc.utf8_rpad(pc.list_element(parts, 1), _FRACTION_DIGITS, "0")
    return np.asarray(pc.cast(whole, pa.int64())), np.asarray(pc.cast(fraction, pa.int64()))


def to_micro(whole: Ints, billionths: Ints, rule: QuantityField) -> tuple[Ints, Flags]:
    """Millionths of (whole + billionths) x multiply / divide, and which rows the rule's rounding refuses.

    What passes MAX_QUANTITY_MICRO comes out as MAX_QUANTITY_MICRO + 1.
    """
    times, over = rule.multiply * MICRO, rule.divide * _FRACTION_UNIT
    common = math.gcd(times, over)
    times, over = times // common, over // common
    # value = (whole * 10^9 + billionths) * times / over; the rows for which 2 * value + over fits 64 bits
    limit = (_MAX_INT64 // 2 - over) // times // _FRACTION_UNIT - 1
    small = whole <= limit
    micro, refused = np.zeros(len(whole), np.int64), np.zeros(len(whole), np.bool_)
    if small.any():
        few = whole[small] * _FRACTION_UNIT + billionths[small]
        values, refused[small] = _scaled(few, times, over, rule.rounding)
        micro[small] = np.minimum(values, MAX_QUANTITY_MICRO + 1)
    if not small.all():
        wide = whole[~small].astype(object) * _FRACTION_UNIT + billionths[~small].astype(object)
        values, bad = _scaled(wide, times, over, rule.rounding)
        micro[~small] = np.minimum(values, MAX_QUANTITY_MICRO + 1).astype(np.int64)
        refused[~small] = bad.astype(np.bool_)
    return micro, refused


def _scaled(value: Any, times: int, over: int, rounding: str) -> tuple[Any, Any]:
    """value * times / over, for 64-bit integers or Python's."""
    product = value * times
    quotient, rest = product // over, product % over
    if rounding == "exact":
        return quotient, rest != 0
    if rounding == "half_away":
        return quotient + (2 * rest >= over), rest < 0
    return quotient + (rest > 0 if rounding == "up" else 0), rest < 0


def _duration(texts: Mapping[str, pa.Array], made: Format, count: int, judge: _ValueChecks) -> Ints:
    if made.duration is None:
        return np.zeros(count, np.int64)
    column = texts[made.duration.column]
    sound = _matches(column, r"^[0-9]{1,9}$")
    judge.refuse(~sound, "duration", f"{made.duration.column} {{}} is no number of whole seconds", column)
    seconds: Ints = np.asarray(pc.cast(pc.if_else(pa.array(sound), column, "0"), pa.int64()))
    too_long = seconds > MAX_DURATION_S
    judge.refuse(too_long, "duration", f"{made.duration.column} {{}} is longer than 31 days", column)
    return np.minimum(seconds, MAX_DURATION_S)


def _destination(texts: Mapping[str, pa.Array], made: Format, count: int, judge: _ValueChecks) -> pa.Array:
    if made.destination is None:
        return _constant("", count)
    column = texts[made.destination.column]
    found = column
    for character in made.destination.strip:
        found = pc.replace_substring(found, character, "")
    bad = ~_matches(found, r"^[!-~]{0,64}$")
    judge.refuse(bad, "destination", f"{made.destination.column} {{}} is not up to 64 ASCII characters", column)
    return found


def _refuse_unratable(item: pa.Array, quantity: Ints, destination: pa.Array, known: Known, judge: _ValueChecks) -> None:
    """What no price could rate would hold up the order it belongs to."""
    if not known.ratable.divisors:
        return
    found = unratable(item, quantity, destination, known.ratable)
    judge.refuse(found.broken_step, "quantity_step", "the quantity is in no whole steps of item {}", item)
    judge.refuse(found.no_number, "destination_number", "the destination {} is no number of digits", destination)
    judge.refuse(found.no_rate, "no_rate", "no price of item {} has a rate for {}", item, destination)


def _key(texts: Mapping[str, pa.Array], made: Format, judge: _ValueChecks) -> pa.Array:
    for name in made.key:
        column = texts[name]
        judge.refuse(flags(pc.equal(column, "")), "key", f"{name} is empty, and it is part of the key")
        control = _matches(column, r"[\x00-\x1f\x7f]")
        judge.refuse(control, "key", f"{name} {{}} holds a control character, and it is part of the key", column)
    key = texts[made.key[0]]
    if len(made.key) > 1:
        key = pc.binary_join_element_wise(*(texts[name] for name in made.key), KEY_SEPARATOR)
    judge.refuse(flags(pc.greater(pc.binary_length(key), MAX_KEY_BYTES)), "key", f"longer than {MAX_KEY_BYTES} bytes")
    return key
