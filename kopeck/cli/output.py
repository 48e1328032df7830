"""What several commands print: JSON for programs, orders as rows, why an order is suspended.

Does not know: any command; where the records come from.
"""

import json
import time
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import click

from billing.orders.periods import format_instant
from billing.orders.records import Order, Suspension

AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
ORDER_HEADINGS = ("order", "account", "what", "quantity", "from", "until", "every", "state")
_SUSPENDED = {"dunning": "for debt", "asked": "on request", "balance": "for lack of money"}


def show_json(content: Any) -> None:
    """Print JSON for programs; instants in ISO 8601, UTC."""

    def plain(value: Any) -> str:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        assert isinstance(value, date), type(value)
        return value.isoformat()

    click.echo(json.dumps(content, ensure_ascii=False, indent=1, default=plain))


def plain_instant(time_s: int | None) -> datetime | None:
    """Unix seconds as an aware datetime in UTC, for JSON."""
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC)


def shown_or_dash(time_s: int | None, zone: str) -> str:
    """Unix seconds as a date, or an instant, of the zone; a dash for none."""
    return "-" if time_s is None else format_instant(time_s, zone)


def suspended_words(reason: str) -> str:
    """How a person reads why an order is suspended."""
    return f"suspended {_SUSPENDED.get(reason, f'({reason})')}"


def state_of(order: Order) -> str:
    """How an order stands now: open, suspended and why, ended, settled (billed to its end), or taken back."""
    if order.never_begins:
        return "taken back"
    if order.is_settled:
        return "settled"
    if order.pause is not None:
        return suspended_words(order.pause.reason)
    return "open" if order.covers(int(time.time())) else "ended"


def interval_words(order: Order) -> str:
    """The length of an order's periods, such as ``month`` or ``3 months``."""
    terms = order.contents.terms
    return terms.interval_unit if terms.interval_count == 1 else f"{terms.interval_count} {terms.interval_unit}s"


def order_row(order: Order) -> tuple[str, ...]:
    """An order as a row of a list, under ORDER_HEADINGS."""
    contents, terms = order.contents, order.contents.terms
    every = interval_words(order) if terms.kind == "recurring" else "once"
    life = (shown_or_dash(contents.starts_s, terms.zone), shown_or_dash(contents.ends_s, terms.zone))
    return (order.number, order.account, terms.what, str(contents.quantity), *life, every, state_of(order))


def order_json(order: Order) -> dict[str, Any]:
    """An order for programs."""
    contents: dict[str, Any] = asdict(order.contents)
    times = {
        name.removesuffix("_s"): plain_instant(contents.pop(name)) for name in ("starts_s", "ends_s", "trial_until_s")
    }
    names = ("account", "payer", "replaces", "replaced_by", "is_settled", "created_at")
    terms: dict[str, Any] = contents.pop("terms")
    now = {"state": state_of(order), "suspension": None if order.pause is None else suspension_json(order.pause)}
    return terms | contents | times | {name: getattr(order, name) for name in names} | now


def suspension_json(suspension: Suspension) -> dict[str, Any]:
    """A pause of an order for programs."""
    return {
        "from": plain_instant(suspension.from_s),
        "until": plain_instant(suspension.until_s),
        "reason": suspension.reason,
        "actor": suspension.actor,
    }
