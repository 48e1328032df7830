"""A billing run in words for the terminal, and in integers for programs.

Does not know: how a run is done, where its text goes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from billing.cycle.run import RunResult
from billing.cycle.summary import MoneyTotals, Reconciled, Summary
from kopeck.cli.context import shown_time
from ratingcore.money import format_minor


def outcome_lines(outcome: RunResult, took_s: float) -> Iterator[str]:
    """What a run came to, in words."""
    summary = outcome.summary
    yield from summary_lines(summary)
    yield f"took {took_s:.1f} s, {summary.payers / max(0.001, took_s):,.0f} accounts/s"
    if outcome.seconds:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in outcome.seconds.items())
        yield f"seconds of all workers: {stages}"
    if outcome.reconciled is not None:
        yield from _reconciled_lines(outcome.reconciled)
    told = {number for number, _ in summary.failed_shards}
    for one in outcome.troubles:
        if one.shard_no not in told:
            yield f"shard {one.shard_no} is not done ({one.state}): {one.why or 'another session holds it'}"


def summary_lines(summary: Summary) -> Iterator[str]:
    """A run as it stands, in words."""
    whom = f" for {summary.account}" if summary.account else ""
    what = {"post": "run", "review": "review"}[summary.kind]
    yield f"{what} {summary.run_id} of {summary.bill_on}{whom}: {summary.state}"
    ended = f", finished {shown_time(summary.finished_at)}" if summary.finished_at else ""
    yield f"by {summary.actor}, started {shown_time(summary.started_at)}{ended}"
    if summary.abandoned_by:
        yield f"given up by {summary.abandoned_by}: {summary.abandoned_why}; what was left is due again"
    yield "shards: " + ", ".join(f"{getattr(summary, name)} {name}" for name in ("due", "drafted", "posted", "failed"))
    yield (
        f"{summary.payers} paying accounts, {summary.orders} orders, {summary.events} events, "
        f"{summary.periods} periods; {summary.invoices} invoices, {summary.lines} lines"
    )
    for money in summary.money:
        yield f"{money.currency}: {_sums(money)}"
    yield from _before_lines(summary)
    if summary.waived:
        yield "waived periods: " + ", ".join(f"{count} {reason}" for reason, count in summary.waived)
    yield from _failure_lines(summary)


def _before_lines(summary: Summary) -> Iterator[str]:
    before = summary.before
    if before is None:
        return
    now = {money.currency: money.total_minor for money in summary.money}
    then = {money.currency: money.total_minor for money in before.money}
    yield f"compared with run {before.run_id} of {before.bill_on}: {summary.invoices - before.invoices:+d} invoices"
    for currency in sorted(now | then):
        change = now.get(currency, 0) - then.get(currency, 0)
        yield f"  {currency}: {signed(change)} ({percent_of(change, then.get(currency, 0))})"


def signed(amount_minor: int) -> str:
    """A change of money, with its sign."""
    return f"{'+' if amount_minor >= 0 else ''}{format_minor(amount_minor)}"


def percent_of(change: int, of: int) -> str:
    """A change in percent of what was before, to a tenth, by integers."""
    if of == 0:
        return "nothing to compare with"
    tenths = (abs(change) * 1000 + abs(of) // 2) // abs(of)
    sign = "-" if (change < 0) != (of < 0) and tenths else "+"
    return f"{sign}{tenths // 10}.{tenths % 10} %"


def _failure_lines(summary: Summary) -> Iterator[str]:
    for number, why in summary.failed_shards:
        yield f"shard {number} failed: {why}"
    if not summary.failures:
        return
    reasons = ", ".join(f"{count} {reason} ({accounts} accounts)" for reason, count, accounts in summary.reasons)
    yield f"failures: {summary.failures}: {reasons}"
    for one in summary.listed:
        order = f" order {one.order}" if one.order is not None else ""
        period = f" {one.part} from {shown_time(one.period_start)}" if one.period_start is not None else ""
        yield f"  {one.account}{order}{period}: {one.reason}: {one.detail}"
    if summary.failures > len(summary.listed):
        yield f"  and {summary.failures - len(summary.listed)} more"


def _reconciled_lines(reconciled: Reconciled) -> Iterator[str]:
    compared: list[tuple[str, Iterable[MoneyTotals]]] = [("lines", reconciled.lines), ("invoices", reconciled.invoices)]
    if reconciled.transfers is not None:
        compared.append(("transfers", reconciled.transfers))
    names = " = ".join(name for name, _ in compared)
    if reconciled.agrees:
        yield f"reconciled: {names}"
        return
    yield f"DOES NOT RECONCILE: {names}"
    for name, sums in compared:
        yield f"  {name}: " + ("; ".join(f"{money.currency} {_sums(money)}" for money in sums) or "nothing")


def _sums(money: MoneyTotals) -> str:
    net, tax, total = (format_minor(value) for value in (money.net_minor, money.tax_minor, money.total_minor))
    return f"net {net}, tax {tax}, total {total}"


def outcome_json(outcome: RunResult, took_s: float) -> dict[str, Any]:
    """What a run came to, in integers (seconds are fractions)."""
    found = summary_json(outcome.summary) | {
        "stopped": outcome.stopped,
        "took_s": round(took_s, 3),
        "worker_seconds": {stage: round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        "troubles": [{"shard": one.shard_no, "state": one.state, "why": one.why} for one in outcome.troubles],
        "reconciled": None,
    }
    if outcome.reconciled is not None:
        reconciled = outcome.reconciled
        found["reconciled"] = {
            "agrees": reconciled.agrees,
            "lines": _money_json(reconciled.lines),
            "invoices": _money_json(reconciled.invoices),
            "transfers": None if reconciled.transfers is None else _money_json(reconciled.transfers),
        }
    return found


def summary_json(summary: Summary) -> dict[str, Any]:
    """A run as it stands, in integers."""
    before = summary.before
    return {
        "run": summary.run_id,
        "date": summary.bill_on.isoformat(),
        "kind": summary.kind,
        "state": summary.state,
        "account": summary.account,
        "by": summary.actor,
        "started_at": summary.started_at.isoformat(),
        "finished_at": summary.finished_at.isoformat() if summary.finished_at else None,
        "abandoned_by": summary.abandoned_by or None,
        "abandoned_why": summary.abandoned_why or None,
        "shards": {name: getattr(summary, name) for name in ("due", "drafted", "posted", "failed")},
        **{name: getattr(summary, name) for name in ("payers", "orders", "events", "periods", "invoices", "lines")},
        "money": _money_json(summary.money),
        "waived": dict(summary.waived),
        "failures": summary.failures,
        "failed_shards": [{"shard": number, "why": why} for number, why in summary.failed_shards],
        "reasons": [{"reason": reason, "count": count, "accounts": some} for reason, count, some in summary.reasons],
        "listed": [
            {
                "account": one.account,
                "order": one.order,
                "period_start": one.period_start.isoformat() if one.period_start else None,
                "part": one.part,
                "reason": one.reason,
                "detail": one.detail,
            }
            for one in summary.listed
        ],
        "before": before
        and {
            "run": before.run_id,
            "date": before.bill_on.isoformat(),
            "invoices": before.invoices,
            "money": _money_json(before.money),
        },
    }


def _money_json(every: Iterable[MoneyTotals]) -> list[dict[str, Any]]:
    return [
        {
            "currency": money.currency,
            "net_minor": money.net_minor,
            "tax_minor": money.tax_minor,
            "total_minor": money.total_minor,
        }
        for money in every
    ]
