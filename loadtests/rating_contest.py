"""The same charges by the kernel, NumPy, DuckDB and Polars on the same arrays: equal first, then fast.

``python -m loadtests.rating_contest THREADS EVENTS ROUNDS`` prints its outcomes as JSON. A process of its own, because
Polars takes the number of its threads once and for all from POLARS_MAX_THREADS, which this process sets.

Rules. Every contender gives int64 amounts, one an event; one amount that is not the kernel's ends the contest. What
can be prepared before usage comes is prepared and not timed: tables of tiers, prefixes as ranges, columns in the
contender's own form, a native table for DuckDB. So is what comes after: DuckDB and Polars may leave amounts in any
order, with their place beside them. Rounds go in turn and each contender's best counts, so that a moment of other load
on the machine is nobody's disadvantage. The kernel alone also checks every event and gives versions, tiers and rates.

Forms that were tried and lost (one thread, 2 M events): graduated, Polars ``cum_sum().over(account)`` 1.8 to 3.5 M/s
where sorting took 9 to 14, DuckDB with sums of clipped slices 1.7 where CASE took 3.3; calls, DuckDB with one join a
prefix length 3.6 and by text 1.4 where ASOF took 5.3, Polars ``search_sorted`` 7.0 where ``join_asof`` took 10.7.

Does not know: which outcome is good enough.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np

from loadtests.figures import BenchError
from loadtests.rating_usage import (
    MINUTE,
    PREFIXES,
    TIERS,
    Case,
    Usage,
    cases,
    events_of,
    lines_of,
    random_rates,
    random_usage,
)
from ratingcore.arrays import Ints
from ratingcore.compile import ranges_of
from ratingcore.digits import pack_numbers
from ratingcore.rate import new_accumulators, rate_events
from ratingcore.tariff import PerUnit, Rate

KERNEL: Final = "kernel"
TERMS: Final = ("price", "per", "fee", "minimum", "first", "next", "grace")


class Outcome(msgspec.Struct, frozen=True):
    """How fast one contender was, at its best."""

    charge: str
    contender: str
    per_s: float
    shown: str


@dataclass(frozen=True, slots=True)
class Contender:
    """run: computes, timed; read: the amounts in the order of events, not timed."""

    name: str
    run: Callable[[], Any]
    read: Callable[[Any], Ints]


@dataclass(frozen=True, slots=True)
class Slice:
    """One tier: quantities up to ``upper`` (None: all) cost ``below + price * (quantity - lower)`` per MINUTE."""

    upper: int | None
    lower: int
    price: int
    below: int


def hold(charge: str, contenders: Sequence[Contender], shown: str, rounds: int) -> Iterator[Outcome]:
    """Compare all contenders with the first, then time them in turn.

    Raises:
        BenchError: an amount that is not the first one's.
    """
    amounts = contenders[0].read(contenders[0].run())
    for contender in contenders[1:]:
        found = contender.read(contender.run())
        if found.dtype != amounts.dtype or not np.array_equal(found, amounts):
            raise BenchError(f"{charge}: {contender.name} and {contenders[0].name} give other amounts")
    best = dict.fromkeys([contender.name for contender in contenders], float("inf"))
    for _ in range(rounds):
        for contender in contenders:
            started_at = time.perf_counter()
            contender.run()
            best[contender.name] = min(best[contender.name], time.perf_counter() - started_at)
    return (Outcome(charge, name, len(amounts) / seconds, shown) for name, seconds in best.items())


def slices() -> list[Slice]:
    """The tiers as slices, worked out here and not by the compiler that is on trial."""
    found, lower, below = [], 0, 0
    for tier in TIERS:
        found.append(Slice(tier.upto, lower, tier.price_micro, below))
        below += tier.price_micro * ((tier.upto or lower) - lower)
        lower = tier.upto or lower
    return found


def kernel(case: Case, usage: Usage, threads: int) -> Contender:
    """Ours. Accumulators are new every time: making them is timed too."""
    lines, events = lines_of(case, usage.accounts), events_of(case, usage)
    return Contender(
        KERNEL,
        lambda: rate_events(lines, new_accumulators(lines), events, threads),
        lambda rated: np.where(rated.reject == 0, rated.amount_micro, -1),
    )


# ---- NumPy


def _numpy(run: Callable[[], Ints]) -> Contender:
    return Contender("numpy", run, lambda amounts: amounts)


def numpy_curve(usage: Usage, total: Callable[[Ints], Ints]) -> Contender:
    """total(after) - total(before), quantities added up over each account in event order."""

    def run() -> Ints:
        order = np.argsort(usage.account, kind="stable")
        account, quantity = usage.account[order], usage.quantity[order]
        after = np.cumsum(quantity)
        first = np.flatnonzero(np.diff(account, prepend=-1))
        after -= np.repeat(after[first] - quantity[first], np.diff(np.append(first, len(account))))
        amounts = np.empty(len(account), np.int64)
        amounts[order] = total(after) - total(after - quantity)
        return amounts

    return _numpy(run)


def numpy_graduated(usage: Usage) -> Contender:
    parts = slices()
    upper = np.array([part.upper for part in parts[:-1]])
    lower, price, below = (np.array([getattr(part, name) for part in parts]) for name in ("lower", "price", "below"))

    def total(quantity: Ints) -> Ints:
        at = np.searchsorted(upper, quantity)
        owed: Ints = (below[at] + price[at] * (quantity - lower[at]) + MINUTE // 2) // MINUTE
        return owed

    return numpy_curve(usage, total)


def numpy_volume(usage: Usage) -> Contender:
    parts = slices()
    upper, price = np.array([part.upper for part in parts[:-1]]), np.array([part.price for part in parts])
    return numpy_curve(
        usage, lambda quantity: (price[np.searchsorted(upper, quantity)] * quantity + MINUTE // 2) // MINUTE
    )


def numpy_per_unit(usage: Usage, price_micro: int) -> Contender:
    """Nothing to remember and nothing to round: one product an event."""
    return _numpy(lambda: usage.quantity * price_micro)


def numpy_calls(usage: Usage, rates: Sequence[Rate]) -> Contender:
    start, terms = card_columns(rates)

    def run() -> Ints:
        at = np.searchsorted(start, usage.destination, side="right") - 1
        price, per, fee, minimum, first, following, grace = (terms[name][at] for name in TERMS)
        more = (np.maximum(usage.quantity - first, 0) + following - 1) // following * following
        owed = np.maximum(((first + more) * price + per // 2) // per + fee, minimum)
        return np.where(usage.quantity <= grace, 0, owed)

    return _numpy(run)


def card_columns(rates: Sequence[Rate]) -> tuple[Any, dict[str, Ints]]:
    """A card as ranges of packed numbers: where each starts, and the terms of its longest prefix."""
    spans = ranges_of(rates)
    start = np.array([low for low, _ in spans], np.uint64)
    used = [rates[index] for _, index in spans]
    rows = [(r.price_micro, r.per, r.fee_micro, r.minimum_micro, r.first, r.next, r.grace) for r in used]
    return start, dict(zip(TERMS, np.array(rows).T.copy(), strict=True))


# ---- DuckDB


def _duckdb(tables: dict[str, dict[str, Any]], threads: int, question: str) -> Contender:
    """A question about native tables made of these columns, answered in Arrow: (place, amount) in any order."""
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET preserve_insertion_order = false")
    for name, columns in tables.items():
        connection.register("given", pa.table(columns))
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        connection.unregister("given")
    return Contender("duckdb", lambda: connection.sql(question).to_arrow_table(), _in_order)


def _in_order(answer: Any) -> Ints:
    """Amounts of a table of place and amount, in the order of places."""
    amounts = np.full(len(answer["place"]), -1)
    amounts[answer["place"].to_numpy()] = answer["amount"].to_numpy()
    return amounts


def _sql_total(quantity: str) -> str:
    """One CASE over the tiers."""
    terms = [f"({s.below} + {s.price} * ({quantity} - {s.lower}) + {MINUTE // 2}) // {MINUTE}" for s in slices()]
    arms = [f"WHEN {quantity} <= {s.upper} THEN {t}" for s, t in zip(slices()[:-1], terms[:-1], strict=True)]
    return f"CASE {' '.join(arms)} ELSE {terms[-1]} END"


def duckdb_graduated(usage: Usage, threads: int) -> Contender:
    """A running sum over each account."""
    question = f"""
        WITH reached AS (
            SELECT place, quantity, CAST(sum(quantity) OVER (
                PARTITION BY account ORDER BY place ROWS UNBOUNDED PRECEDING) AS bigint) AS after
            FROM usage)
        SELECT place, {_sql_total("after")} - {_sql_total("(after - quantity)")} AS amount FROM reached"""
    place = np.arange(len(usage.account))
    columns = {"place": place, "account": usage.account, "quantity": usage.quantity}
    return _duckdb({"usage": columns}, threads, question)


def duckdb_calls(usage: Usage, rates: Sequence[Rate], threads: int) -> Contender:
    """An ASOF join to the ranges of the card."""
    start, terms = card_columns(rates)
    more = 'CASE WHEN quantity <= "first" THEN 0 ELSE (quantity - "first" + "next" - 1) // "next" * "next" END'
    owed = f'greatest((("first" + {more}) * price + per // 2) // per + fee, minimum)'
    question = f"""
        SELECT place, CASE WHEN quantity <= grace THEN 0 ELSE {owed} END AS amount
        FROM usage ASOF JOIN card ON usage.destination >= card.start"""
    place = np.arange(len(usage.account))
    columns = {"place": place, "destination": usage.destination, "quantity": usage.quantity}
    return _duckdb({"usage": columns, "card": {"start": start, **terms}}, threads, question)


# ---- Polars


def polars_graduated(usage: Usage) -> Contender:
    """Sorted by account, one running sum over all, and what the sum was when the account began taken off."""
    import polars as pl

    frame = pl.DataFrame({"account": usage.account, "quantity": usage.quantity}).with_row_index("place")
    account, quantity = pl.col("account"), pl.col("quantity")

    def total(reached: pl.Expr) -> pl.Expr:
        parts = slices()
        terms = [(s.below + s.price * (reached - s.lower) + MINUTE // 2) // MINUTE for s in parts]
        chosen = terms[-1]
        for part, term in zip(parts[-2::-1], terms[-2::-1], strict=True):
            chosen = pl.when(reached <= part.upper).then(term).otherwise(chosen)
        return chosen

    begins = (account != account.shift(1)).fill_null(True)
    question = (
        frame.lazy()
        .sort("account", maintain_order=True)
        .with_columns(running=quantity.cum_sum(), begins=begins)
        .with_columns(held=pl.when("begins").then(pl.col("running") - quantity).forward_fill())
        .with_columns(after=pl.col("running") - pl.col("held"))
        .select("place", amount=total(pl.col("after")) - total(pl.col("after") - quantity))
    )
    return Contender("polars", question.collect, _in_order)


def polars_calls(usage: Usage, rates: Sequence[Rate]) -> Contender:
    """An as-of join to the ranges of the card."""
    import polars as pl

    start, terms = card_columns(rates)
    frame = pl.DataFrame({"destination": usage.destination, "quantity": usage.quantity}).with_row_index("place")
    card = pl.DataFrame({"start": start, **terms}).with_columns(pl.col("start").set_sorted())
    quantity, first, following, per = pl.col("quantity"), pl.col("first"), pl.col("next"), pl.col("per")
    more = pl.when(quantity <= first).then(0).otherwise((quantity - first + following - 1) // following * following)
    price = ((first + more) * pl.col("price") + per // 2) // per + pl.col("fee")
    owed = pl.max_horizontal(price, pl.col("minimum"))
    question = (
        frame.lazy()
        .sort("destination")
        .join_asof(card.lazy(), left_on="destination", right_on="start")
        .select("place", amount=pl.when(quantity <= pl.col("grace")).then(0).otherwise(owed))
    )
    return Contender("polars", question.collect, _in_order)


# ---- the contest


def charges(events: int, prefixes: int, threads: int) -> Iterator[tuple[str, list[Contender], str]]:
    """(charge, who computes it, what it is made of). NumPy has one thread, so it is asked where there is one."""
    rates = random_rates(prefixes)
    every = cases(rates)
    usage = random_usage(events, events // 2, pack_numbers([rate.prefix for rate in rates]))
    alone = threads == 1
    for name, given in (("graduated", usage), ("graduated_sorted", replace(usage, account=np.sort(usage.account)))):
        case = every["graduated"]
        who = [kernel(case, given, threads), duckdb_graduated(given, threads), polars_graduated(given)]
        yield name, who + [numpy_graduated(given)] * alone, f"{case.what}; {given.shown}"
    case = every["calls"]
    who = [kernel(case, usage, threads), duckdb_calls(usage, rates, threads), polars_calls(usage, rates)]
    yield "calls", who + [numpy_calls(usage, rates)] * alone, f"{case.what}; {usage.shown}"
    if alone:
        case = every["volume"]
        yield "volume", [kernel(case, usage, 1), numpy_volume(usage)], f"{case.what}; {usage.shown}"
        case, price = every["per_unit"], every["per_unit"].tariff.steps[0]
        assert isinstance(price, PerUnit)
        who = [kernel(case, usage, 1), numpy_per_unit(usage, price.price_micro)]
        yield "per_unit", who, f"{case.what}; {usage.shown}"


def main() -> None:
    threads, events, rounds = (int(text) for text in sys.argv[1:])
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    outcomes: list[Outcome] = []
    try:
        for name, contenders, shown in charges(events, PREFIXES, threads):
            outcomes += hold(name, contenders, shown, rounds)
    except BenchError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))


if __name__ == "__main__":
    main()
