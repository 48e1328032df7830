"""``kopeck order``: what customers have ordered, from the first day to the last.

Rules. Status 2 for what cannot be, with nothing changed. Repeating a command changes nothing twice. A date stands for
the beginning of that day where the order's days begin; a time without an offset is of that zone too.

Does not know: the rules (billing.orders.orders, billing.orders.rules), files of orders (billing.orders.importer).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import IO, Any

import click

from billing.calendar import period_containing
from billing.catalogue.units import PERCENT_DECIMALS, parse_decimal
from billing.database.cursors import Cursor
from billing.files.tables import Loaded
from billing.orders.charges import add_charge
from billing.orders.importer import import_orders
from billing.orders.orders import add_order, end_order, replace_order, resume_order, suspend_order, withdraw_end
from billing.orders.periods import end_of_period
from billing.orders.records import ManualCharge, Order, WantedOrder
from billing.orders.rules import parse_instant
from billing.orders.store import events_of, find_order, list_orders, periods_of_order, periods_to_come, suspensions_of
from kopeck.cli.context import (
    CHARSET,
    Context,
    Day,
    pass_context,
    show_table,
    shown_time,
)
from kopeck.cli.importing import run_import
from kopeck.cli.output import (
    AS_JSON,
    ORDER_HEADINGS,
    interval_words,
    order_json,
    order_row,
    plain_instant,
    show_json,
    shown_or_dash,
    state_of,
    suspended_words,
    suspension_json,
)
from ratingcore.money import format_minor, parse_minor
from web.access.actors import Actor
from web.access.rights import Right

WHEN = click.option("--now", "when", flag_value="now", help="From this moment.")
WHEN_PERIOD_ENDS = click.option(
    "--at-period-end", "when", flag_value="period_end", help="When the period that is under way ends."
)
AT = click.option("--at", "text", default="", metavar="DATE", help="Then: a date, or an instant.")
WHY = click.option("--why", default="", help="Kept with the event.")
CODES = click.option("--code", "codes", multiple=True, help="Of a promotion; may be said more than once.")


@click.group()
def order() -> None:
    """Orders: plans and items that customers have ordered. docs/orders.md walks through a whole life."""


@order.command()
@click.argument("account")
@click.option("--plan", default="", help="A plan of the catalogue,")
@click.option("--item", default="", help="or one of its items.")
@click.option("--catalogue", default="", help="Needed where there are several.")
@click.option("--number", default="", help="Yours; the same again makes no second order. Else made from the account's.")
@click.option("--one-time", "kind", flag_value="one_time", help="Billed once, at its start; an item.")
@click.option(
    "--recurring", "kind", flag_value="recurring", default="recurring", help="Billed each period (the default)."
)
@click.option("--quantity", type=int, default=1, show_default=True)
@click.option("--starts", default="", help="A date or an instant; else today's beginning in the account's zone.")
@click.option("--ends", default="")
@click.option("--trial-until", default="", help="Free until then.")
@click.option(
    "--period", default="month", show_default=True, help="month, 3 months, 2 weeks, quarter, year, 10 days ..."
)
@click.option(
    "--anchor-date", default="", metavar="DATE", help="A date on which a period starts; else the day the order does."
)
@click.option("--anchor-day", type=int, help="Instead: the day of the month, or of the week (1 is Monday).")
@click.option("--anchor-month", type=int, help="Instead: a month periods start in, for periods of several months.")
@click.option("--zone", default="", help="Where its days begin; else the account's.")
@click.option(
    "--in-advance/--in-arrears", default=False, help="When recurring charges are billed; usage is never in advance."
)
@click.option("--proration", default="day", show_default=True, help="Of broken periods: none, day or second.")
@click.option("--minimum", default="", help="The least a period costs, such as 500.00, before tax on top.")
@click.option("--price", default="", help="Instead of the catalogue's, for items that allow it.")
@CODES
@click.option("--note", default="")
@pass_context
def add(context: Context, /, **given: Any) -> None:
    """Add an order on a plan or an item for ACCOUNT, by the newest version of the catalogue."""
    found, is_new = context.act(
        Right.ORDERS_CHANGE, lambda cur, who: add_order(cur, WantedOrder(**given), who.name, _now_s())
    )
    click.echo(f"order {found.number} {'is added' if is_new else 'was there already, just so'}")


def _now_s() -> int:
    return int(time.time())


@order.command()
@click.argument("number")
@click.option("--limit", type=click.IntRange(1, 10_000), default=12, show_default=True, help="Newest of each shown.")
@AS_JSON
@pass_context
def show(context: Context, number: str, limit: int, as_json: bool) -> None:
    """Show the life of an order: what was billed, what is due next, pauses, and what people did."""

    async def work(cur: Cursor) -> Any:
        found = await find_order(cur, number)
        return (
            found,
            await periods_of_order(cur, found.id, limit),
            await periods_to_come(cur, found, 3),
            await suspensions_of(cur, found.id),
            await events_of(cur, found.id, limit),
        )

    found, billed, periods, suspensions, events = context.in_transaction(work)
    if as_json:
        parts = {
            "billed": [asdict(one) for one in billed],
            "next": [_period_json(one) for one in periods],
            "suspensions": [suspension_json(one) for one in suspensions],
            "events": [asdict(one) for one in events],
        }
        show_json(order_json(found) | parts)
        return
    _tell(found)
    _show_periods(found, billed, periods)
    zone = found.contents.terms.zone
    for one in suspensions:
        until = "further notice" if one.until_s is None else shown_or_dash(one.until_s, zone)
        click.echo(f"{suspended_words(one.reason)} from {shown_or_dash(one.from_s, zone)} until {until}")
    rows = [(shown_time(one.at), one.event, _joined(one.details), one.actor) for one in events]
    show_table(("at (UTC)", "event", "details", "by"), rows)


def _joined(details: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in details.items() if value not in ("", None)) or "-"


def _tell(found: Order) -> None:
    new, terms = found.contents, found.contents.terms
    click.echo(
        f"{found.number}  {terms.what} x {new.quantity}, catalogue {terms.catalogue}, for account {found.account}"
    )
    ends = shown_or_dash(new.ends_s, terms.zone) if new.ends_s is not None else "further notice"
    state = ", never begins" if found.never_begins else ", billed to its end" if found.is_settled else ""
    if found.pause is not None:
        state = f", {state_of(found)} since {shown_or_dash(found.pause.from_s, terms.zone)}"
    click.echo(f"from {shown_or_dash(new.starts_s, terms.zone)} until {ends}, {terms.zone}{state}")
    if terms.kind == "recurring":
        how = "in advance" if terms.in_advance else "in arrears"
        click.echo(f"every {interval_words(found)} {_anchor(found)}, {how}, broken periods by {terms.proration}")
    else:
        click.echo("billed once")
    said = {
        "trial until": None if new.trial_until_s is None else shown_or_dash(new.trial_until_s, terms.zone),
        "at least": f"{format_minor(new.minimum_minor)} {terms.currency} a period" if new.minimum_minor else None,
        "price": None if new.price_minor is None else f"{format_minor(new.price_minor)} {terms.currency}",
        "codes": ", ".join(new.codes),
        "paid by account": found.payer if found.payer != found.account else None,
        "replaces": found.replaces,
        "replaced by": found.replaced_by,
        "note": new.note,
    }
    for name, value in said.items():
        if value:
            click.echo(f"{name}: {value}")


def _anchor(found: Order) -> str:
    """Where periods start, in words: a day of the month, or a date where that does not say it."""
    terms = found.contents.terms
    if terms.cadence.interval.steps == 1 and terms.interval_unit != "week":
        return f"from day {terms.anchor_day}" if terms.interval_unit == "month" else "from midnight"
    return f"counted from {shown_or_dash(period_containing(terms.cadence, found.contents.starts_s)[0], terms.zone)}"


def _show_periods(found: Order, billed: Sequence[Any], periods: Sequence[Any]) -> None:
    zone = found.contents.terms.zone
    rows = [
        (
            *(one.part, shown_or_dash(int(one.start.timestamp()), zone), shown_or_dash(int(one.end.timestamp()), zone)),
            *(one.outcome if not one.reason else f"{one.outcome}: {one.reason}", f"{one.active_num}/{one.active_den}"),
            *(format_minor(one.amount_minor), one.invoice or "-"),
        )
        for one in billed
    ]
    show_table(("part", "from", "until", "outcome", "share", "amount", "invoice"), rows, right=("share", "amount"))
    coming = [
        (
            str(one.number),
            shown_or_dash(one.start_s, zone),
            shown_or_dash(one.end_s, zone),
            shown_or_dash(one.due_s, zone),
        )
        for one in periods
    ]
    show_table(("next period", "from", "until", "billed on or after"), coming, right=("next period",))


def _period_json(one: Any) -> dict[str, Any]:
    return {"number": one.number} | {name: plain_instant(getattr(one, f"{name}_s")) for name in ("start", "end", "due")}


@order.command("list")
@click.option("--account", help="Only of this account.")
@click.option("--customer", help="Only of this customer.")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not billed to their end.")
@click.option("--after", default="", metavar="NUMBER", help="From the one made after this order.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@AS_JSON
@pass_context
def list_(context: Context, /, after: str, as_json: bool, **wanted: Any) -> None:
    """List orders in the order in which they were made."""

    async def work(cur: Cursor) -> Any:
        after_id = (await find_order(cur, after)).id if after else 0
        return await list_orders(cur, after=after_id, **wanted)

    found = context.in_transaction(work)
    if as_json:
        show_json([order_json(one) for one in found])
        return
    show_table(ORDER_HEADINGS, [order_row(one) for one in found], right=("quantity",))


@order.command("change-plan")
@click.argument("number")
@click.argument("plan")
@WHEN
@WHEN_PERIOD_ENDS
@AT
@click.option("--number", "new_number", default="", help="Of the order that begins; else made from the account's.")
@CODES
@pass_context
def change_plan(
    context: Context, number: str, plan: str, when: str | None, text: str, new_number: str, codes: tuple[str, ...]
) -> None:
    """Let PLAN begin where order NUMBER ends: now, when its period ends, or at a date.

    A date may lie ahead, or in the past as long as nothing after it is billed in arrears. What was billed in advance
    beyond it comes back with the next run.
    """
    _replace(context, number, when, text, plan=plan, new_number=new_number, codes=codes)


@order.command("change-quantity")
@click.argument("number")
@click.argument("quantity", type=click.IntRange(1))
@WHEN
@WHEN_PERIOD_ENDS
@AT
@click.option("--number", "new_number", default="", help="Of the order that begins; else made from the account's.")
@pass_context
def change_quantity(context: Context, number: str, quantity: int, when: str | None, text: str, new_number: str) -> None:
    """Let the same with another QUANTITY begin where order NUMBER ends: now, when its period ends, or at a date."""
    _replace(context, number, when, text, quantity=quantity, new_number=new_number)


def _replace(context: Context, /, number: str, when: str | None, text: str, **wanted: Any) -> None:
    if (when is not None) + bool(text) != 1:
        raise click.UsageError("say one of --now, --at-period-end, --at DATE")

    async def work(cur: Cursor, who: Actor) -> Any:
        at_s = _at(await find_order(cur, number), when, text)
        return await replace_order(cur, number, at_s, who.name, is_exact=bool(text), **wanted)

    found, is_new = context.act(Right.ORDERS_CHANGE, work)
    starts = shown_or_dash(found.contents.starts_s, found.contents.terms.zone)
    said = f"order {found.number} replaces {number} from {starts}"
    click.echo(f"{said}{'' if is_new else ' already'}")


def _at(found: Order, when: str | None, text: str) -> int:
    """The instant that options name."""
    if text:
        return parse_instant(text, found.contents.terms.zone)
    return end_of_period(found, _now_s()) if when == "period_end" else _now_s()


@order.command()
@click.argument("number")
@WHEN
@WHEN_PERIOD_ENDS
@click.option("--at", "text", default="", metavar="DATE", help="Then; an earlier end moves too.")
@click.option("--withdraw", is_flag=True, help="Take back an end that is not billed yet: the order goes on.")
@WHY
@pass_context
def cancel(context: Context, number: str, when: str | None, text: str, withdraw: bool, why: str) -> None:
    """End an order, and what is to replace it.

    What was billed in advance beyond the end comes back with the next run.
    """
    if (when is not None) + bool(text) + withdraw != 1:
        raise click.UsageError("say one of --now, --at-period-end, --at DATE, --withdraw")

    async def work(cur: Cursor, who: Actor) -> Any:
        if withdraw:
            return await withdraw_end(cur, number, who.name), await find_order(cur, number)
        at_s = _at(await find_order(cur, number), when, text)
        return await end_order(cur, number, at_s, who.name, why, is_exact=bool(text)), await find_order(cur, number)

    is_new, found = context.act(Right.ORDERS_CHANGE, work)
    ends_s = found.contents.ends_s
    said = "goes on" if ends_s is None else f"ends at {shown_or_dash(ends_s, found.contents.terms.zone)}"
    click.echo(f"order {number} {said}{'' if is_new else ' already'}")


@order.command()
@click.argument("number")
@click.option("--from", "from_text", default="", metavar="DATE", help="Else from this moment.")
@click.option("--until", "until_text", default="", metavar="DATE", help="Else until `resume`.")
@WHY
@pass_context
def suspend(context: Context, number: str, from_text: str, until_text: str, why: str) -> None:
    """Pause an order: nothing recurring is charged for the time."""

    async def work(cur: Cursor, who: Actor) -> Any:
        found = await find_order(cur, number)
        until_s = _at(found, None, until_text) if until_text else None
        return await suspend_order(cur, number, _at(found, "now", from_text), until_s, who.name, why)

    is_new = context.act(Right.ORDERS_CHANGE, work)
    click.echo(f"order {number} is suspended{'' if is_new else ' already'}")


@order.command()
@click.argument("number")
@click.option("--at", "text", default="", metavar="DATE", help="Else at this moment.")
@pass_context
def resume(context: Context, number: str, text: str) -> None:
    """End the pause of an order, or take back one that has not begun."""

    async def work(cur: Cursor, who: Actor) -> Any:
        return await resume_order(cur, number, _at(await find_order(cur, number), "now", text), who.name)

    is_new = context.act(Right.ORDERS_CHANGE, work)
    click.echo(f"order {number} {'goes on' if is_new else 'is not suspended'}")


@order.command()
@click.argument("account")
@click.option("--amount", required=True, help="Such as 150.00; -150.00 is a credit.")
@click.option("--description", required=True, help="What the invoice says.")
@click.option("--tax", required=True, metavar="PERCENT", help="0 for none.")
@click.option("--tax-inside/--tax-on-top", default=True, show_default=True, help="Whether the amount contains the tax.")
@click.option("--on", "bill_on", type=Day(), help="With the first run on or after; else today.")
@click.option("--key", required=True, help="Acts once: the same again writes no second line.")
@click.option("--why", required=True, help="For the record; the customer does not see it.")
@pass_context
def charge(context: Context, /, account: str, amount: str, tax: str, bill_on: datetime | None, **given: Any) -> None:
    """Write a line by hand for the next invoice of ACCOUNT (or of who pays for it)."""
    try:
        amount_minor = parse_minor(amount.removeprefix("-")) * (-1 if amount.startswith("-") else 1)
        tax_ppm = parse_decimal(tax, PERCENT_DECIMALS)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    day = bill_on.date() if bill_on else None
    wanted = ManualCharge(account=account, amount_minor=amount_minor, tax_ppm=tax_ppm, bill_on=day, **given)

    found, is_new = context.act(Right.ORDERS_CHANGE, lambda cur, who: add_charge(cur, wanted, who.name))
    click.echo(
        f"charge {wanted.key} {'is written' if is_new else 'was written already'}, for a run on or after {found}"
    )


@order.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--skip-bad", is_flag=True, help="Load the good lines although others are bad.")
@click.option("--dry-run", is_flag=True, help="Look at everything and keep nothing.")
@click.option("--rejects", type=click.File("w", encoding="utf-8"), help="Write every bad line's reason to this file.")
@CHARSET
@AS_JSON
@pass_context
def import_(
    context: Context,
    file: IO[bytes],
    skip_bad: bool,
    dry_run: bool,
    rejects: IO[str] | None,
    charset: str,
    as_json: bool,
) -> None:
    """Add many orders from a CSV file (- reads standard input).

    Columns by name, separated by comma, semicolon or tab: number, account, starts, and any of plan, item, catalogue,
    kind, quantity, ends, trial_until, period, anchor_day, anchor_month, anchor_date, zone, in_advance, proration,
    minimum, price, codes (separated by blanks), note. They mean what the options of `kopeck order add` mean. Any bad
    line, and nothing is loaded, unless --skip-bad. The very same order again is nothing new.
    """
    run_import(
        context,
        Right.ORDERS_CHANGE,
        file,
        lambda who: import_orders,
        "orders",
        skip_bad,
        dry_run,
        rejects,
        as_json,
        charset,
    )


def _load(who: Actor) -> Callable[..., Loaded]:
    return import_orders
