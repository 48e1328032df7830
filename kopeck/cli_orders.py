"""``kopeck order``: what customers have ordered, from the first day to the last.

Rules. Status 2 for what cannot be, with nothing changed. Repeating a command changes nothing twice. A date stands for
the beginning of that day where the order's days begin; a time without an offset is of that zone too.

Does not know: the rules (billing.orders, billing.order_rules), files of orders (billing.order_import).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import IO, TYPE_CHECKING, Any

import click

from kopeck.cli_context import Context, Day, actor, pass_context, show_table, shown_name, shown_time
from kopeck.cli_customers import AS_JSON, in_store, show_json

if TYPE_CHECKING:
    from billing.import_columns import BadLine, Loaded
    from billing.orders import Order

#: Bad lines of a file told at the terminal; --rejects writes them all.
MAX_TOLD = 200
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
    from billing.orders import WantedOrder, add_order

    async def work(cur: Any) -> Any:
        return await add_order(cur, WantedOrder(**given), actor(), _now_s())

    found, is_new = in_store(context, work)
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
    from billing.orders import events_of, find_order, periods_of_order, suspensions_of, tiles_to_come

    async def work(cur: Any) -> Any:
        found = await find_order(cur, number)
        return (
            found,
            await periods_of_order(cur, found.id, limit),
            await tiles_to_come(cur, found, 3),
            await suspensions_of(cur, found.id),
            await events_of(cur, found.id, limit),
        )

    found, periods, tiles, suspensions, events = in_store(context, work)
    if as_json:
        parts = {
            "billed": [asdict(one) for one in periods],
            "next": [_tile_json(one) for one in tiles],
            "suspensions": [_suspension_json(one) for one in suspensions],
            "events": [asdict(one) for one in events],
        }
        show_json(order_json(found) | parts)
        return
    _tell(found)
    _show_periods(found, periods, tiles)
    zone = found.contents.terms.zone
    for one in suspensions:
        until = "further notice" if one.until_s is None else _shown(one.until_s, zone)
        click.echo(f"{suspended_words(one.reason)} from {_shown(one.from_s, zone)} until {until}")
    rows = [(shown_time(one.at), one.event, _joined(one.details), one.actor) for one in events]
    show_table(("at (UTC)", "event", "details", "by"), rows)


def _shown(time_s: int | None, zone: str) -> str:
    from billing.orders import shown

    return "-" if time_s is None else shown(time_s, zone)


def _joined(details: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in details.items() if value not in ("", None)) or "-"


def _tell(found: "Order") -> None:
    from ratingcore.money import format_minor

    new, terms = found.contents, found.contents.terms
    click.echo(
        f"{found.number}  {terms.what} x {new.quantity}, catalogue {terms.catalogue}, for account {found.account}"
    )
    ends = _shown(new.ends_s, terms.zone) if new.ends_s is not None else "further notice"
    state = ", never begins" if found.never_begins else ", billed to its end" if found.is_settled else ""
    if found.pause is not None:
        state = f", {state_of(found)} since {_shown(found.pause.from_s, terms.zone)}"
    click.echo(f"from {_shown(new.starts_s, terms.zone)} until {ends}, {terms.zone}{state}")
    if terms.kind == "recurring":
        how = "in advance" if terms.in_advance else "in arrears"
        click.echo(f"every {_period(found)} {_anchor(found)}, {how}, broken periods by {terms.proration}")
    else:
        click.echo("billed once")
    said = {
        "trial until": None if new.trial_until_s is None else _shown(new.trial_until_s, terms.zone),
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


def _period(found: "Order") -> str:
    terms = found.contents.terms
    return terms.interval_unit if terms.interval_count == 1 else f"{terms.interval_count} {terms.interval_unit}s"


def _anchor(found: "Order") -> str:
    """Where periods start, in words: a day of the month, or a date where that does not say it."""
    from billing.calendar import period_containing

    terms = found.contents.terms
    if terms.cadence.interval.steps == 1 and terms.interval_unit != "week":
        return f"from day {terms.anchor_day}" if terms.interval_unit == "month" else "from midnight"
    return f"counted from {_shown(period_containing(terms.cadence, found.contents.starts_s)[0], terms.zone)}"


def suspended_words(reason: str) -> str:
    """How a person reads why an order is suspended."""
    said = {"ageing": "for debt", "asked": "on request", "balance": "for lack of money"}.get(reason, f"({reason})")
    return f"suspended {said}"


def state_of(found: "Order") -> str:
    """How an order stands now: open, suspended and why, ended, settled (billed to its end), or taken back."""
    if found.never_begins:
        return "taken back"
    if found.is_settled:
        return "settled"
    if found.pause is not None:
        return suspended_words(found.pause.reason)
    return "open" if found.covers(_now_s()) else "ended"


def _show_periods(found: "Order", periods: Sequence[Any], tiles: Sequence[Any]) -> None:
    from ratingcore.money import format_minor

    zone = found.contents.terms.zone
    rows = [
        (
            *(one.part, _shown(int(one.start.timestamp()), zone), _shown(int(one.end.timestamp()), zone)),
            *(one.outcome if not one.reason else f"{one.outcome}: {one.reason}", f"{one.active_num}/{one.active_den}"),
            *(format_minor(one.amount_minor), one.invoice or "-"),
        )
        for one in periods
    ]
    show_table(("part", "from", "until", "outcome", "share", "amount", "invoice"), rows, right=("share", "amount"))
    coming = [
        (str(one.number), _shown(one.start_s, zone), _shown(one.end_s, zone), _shown(one.due_s, zone)) for one in tiles
    ]
    show_table(("next period", "from", "until", "billed on or after"), coming, right=("next period",))


ORDER_HEADINGS = ("order", "account", "what", "quantity", "from", "until", "every", "state")


def order_row(found: "Order") -> tuple[str, ...]:
    """An order as a row of a list, under ORDER_HEADINGS."""
    new, terms = found.contents, found.contents.terms
    every = _period(found) if terms.kind == "recurring" else "once"
    life = (_shown(new.starts_s, terms.zone), _shown(new.ends_s, terms.zone))
    return (found.number, found.account, terms.what, str(new.quantity), *life, every, state_of(found))


def order_json(found: "Order") -> dict[str, Any]:
    """An order for programs."""
    contents: dict[str, Any] = asdict(found.contents)
    times = {name.removesuffix("_s"): _instant(contents.pop(name)) for name in ("starts_s", "ends_s", "trial_until_s")}
    names = ("account", "payer", "replaces", "replaced_by", "is_settled", "created_at")
    terms: dict[str, Any] = contents.pop("terms")
    now = {"state": state_of(found), "suspension": None if found.pause is None else _suspension_json(found.pause)}
    return terms | contents | times | {name: getattr(found, name) for name in names} | now


def _instant(time_s: int | None) -> datetime | None:
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC)


def _tile_json(one: Any) -> dict[str, Any]:
    return {"number": one.number} | {name: _instant(getattr(one, f"{name}_s")) for name in ("start", "end", "due")}


def _suspension_json(one: Any) -> dict[str, Any]:
    return {"from": _instant(one.from_s), "until": _instant(one.until_s), "reason": one.reason, "actor": one.actor}


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
    from billing.orders import find_order, list_orders

    async def work(cur: Any) -> Any:
        after_id = (await find_order(cur, after)).id if after else 0
        return await list_orders(cur, after=after_id, **wanted)

    found = in_store(context, work)
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
    from billing.orders import find_order, replace_order

    if (when is not None) + bool(text) != 1:
        raise click.UsageError("say one of --now, --at-period-end, --at DATE")

    async def work(cur: Any) -> Any:
        at_s = _at(await find_order(cur, number), when, text)
        return await replace_order(cur, number, at_s, actor(), is_exact=bool(text), **wanted)

    found, is_new = in_store(context, work)
    starts = _shown(found.contents.starts_s, found.contents.terms.zone)
    said = f"order {found.number} replaces {number} from {starts}"
    click.echo(f"{said}{'' if is_new else ' already'}")


def _at(found: "Order", when: str | None, text: str) -> int:
    """The instant that options name."""
    from billing.order_rules import parse_instant
    from billing.orders import end_of_period

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
    from billing.orders import end_order, find_order, withdraw_end

    if (when is not None) + bool(text) + withdraw != 1:
        raise click.UsageError("say one of --now, --at-period-end, --at DATE, --withdraw")

    async def work(cur: Any) -> Any:
        if withdraw:
            return await withdraw_end(cur, number, actor()), await find_order(cur, number)
        at_s = _at(await find_order(cur, number), when, text)
        return await end_order(cur, number, at_s, actor(), why, is_exact=bool(text)), await find_order(cur, number)

    is_new, found = in_store(context, work)
    ends_s = found.contents.ends_s
    said = "goes on" if ends_s is None else f"ends at {_shown(ends_s, found.contents.terms.zone)}"
    click.echo(f"order {number} {said}{'' if is_new else ' already'}")


@order.command()
@click.argument("number")
@click.option("--from", "from_text", default="", metavar="DATE", help="Else from this moment.")
@click.option("--until", "until_text", default="", metavar="DATE", help="Else until `resume`.")
@WHY
@pass_context
def suspend(context: Context, number: str, from_text: str, until_text: str, why: str) -> None:
    """Pause an order: nothing recurring is charged for the time."""
    from billing.orders import find_order, suspend_order

    async def work(cur: Any) -> Any:
        found = await find_order(cur, number)
        until_s = _at(found, None, until_text) if until_text else None
        return await suspend_order(cur, number, _at(found, "now", from_text), until_s, actor(), why)

    is_new = in_store(context, work)
    click.echo(f"order {number} is suspended{'' if is_new else ' already'}")


@order.command()
@click.argument("number")
@click.option("--at", "text", default="", metavar="DATE", help="Else at this moment.")
@pass_context
def resume(context: Context, number: str, text: str) -> None:
    """End the pause of an order, or take back one that has not begun."""
    from billing.orders import find_order, resume_order

    async def work(cur: Any) -> Any:
        return await resume_order(cur, number, _at(await find_order(cur, number), "now", text), actor())

    is_new = in_store(context, work)
    click.echo(f"order {number} {'goes on' if is_new else 'is not suspended'}")


@order.command()
@click.argument("account")
@click.option("--amount", required=True, help="Such as 150.00; -150.00 is a credit.")
@click.option("--description", required=True, help="What the invoice says.")
@click.option("--tax", required=True, metavar="PERCENT", help="0 for none.")
@click.option("--tax-inside/--tax-on-top", default=True, show_default=True, help="Whether the amount contains the tax.")
@click.option("--on", "bill_on", type=Day(), help="With the first run on or after; else today.")
@click.option("--key", required=True, help="Acts once: the same again writes no second line.")
@click.option("--why", required=True, help="For whoever asks; the customer does not see it.")
@pass_context
def charge(context: Context, /, account: str, amount: str, tax: str, bill_on: datetime | None, **given: Any) -> None:
    """Write a line by hand for the next invoice of ACCOUNT (or of who pays for it)."""
    from billing.catalogue_units import PERCENT_DECIMALS, parse_decimal
    from billing.orders import Charge, add_charge
    from ratingcore.money import parse_minor

    try:
        amount_minor = parse_minor(amount.removeprefix("-")) * (-1 if amount.startswith("-") else 1)
        tax_ppm = parse_decimal(tax, PERCENT_DECIMALS)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    day = bill_on.date() if bill_on else None
    wanted = Charge(account=account, amount_minor=amount_minor, tax_ppm=tax_ppm, bill_on=day, **given)

    async def work(cur: Any) -> tuple[date, bool]:
        return await add_charge(cur, wanted, actor())

    found, is_new = in_store(context, work)
    click.echo(
        f"charge {wanted.key} {'is written' if is_new else 'was written already'}, for a run on or after {found}"
    )


@order.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--skip-bad", is_flag=True, help="Load the good lines although others are bad.")
@click.option("--dry-run", is_flag=True, help="Look at everything and keep nothing.")
@click.option("--rejects", type=click.File("w", encoding="utf-8"), help="Write every bad line's reason to this file.")
@AS_JSON
@pass_context
def import_(
    context: Context, file: IO[bytes], skip_bad: bool, dry_run: bool, rejects: IO[str] | None, as_json: bool
) -> None:
    """Add many orders from a CSV file (UTF-8; - reads standard input).

    Columns by name, separated by comma, semicolon or tab: number, account, starts, and any of plan, item, catalogue,
    kind, quantity, ends, trial_until, period, anchor_day, anchor_month, anchor_date, zone, in_advance, proration,
    minimum, price, codes (separated by blanks), note. They mean what the options of `kopeck order add` mean. Any bad
    line, and nothing is loaded, unless --skip-bad. The very same order again is nothing new.
    """
    from billing.order_import import import_orders

    run_import(context, file, import_orders, "orders", skip_bad, dry_run, rejects, as_json)


def run_import(
    context: Context,
    file: IO[bytes],
    load: "Callable[..., Loaded]",
    what: str,
    skip_bad: bool,
    dry_run: bool,
    rejects: IO[str] | None,
    as_json: bool,
) -> None:
    """Load a file of customers or orders and tell what came of it."""
    from billing.import_columns import How, ImportFileError
    from billing.usage_bulk import UsageStoreError
    from kopeck.transactions import CommandFailed

    begun = time.monotonic()
    try:
        with context.stores() as stores, _progress() as progress:
            done = load(stores.dsn, file, How(not dry_run, skip_bad, progress))
    except ImportFileError as error:
        raise click.ClickException(f"{shown_name(file)}: {error}") from error
    except UsageStoreError as error:
        raise CommandFailed(str(error)) from error
    lines = [f"{shown_name(file)}:{one.line}: {one.reason}" for one in done.bad]
    _tell_bad(lines, rejects)
    took_s = time.monotonic() - begun
    if as_json:
        show_json(_loaded_json(done, took_s))
    if done.is_refused:
        raise click.ClickException(f"nothing was loaded: {len(done.bad)} of {done.lines} lines are bad")
    if not as_json:
        said = f"{'would load' if dry_run else 'loaded'} {done.added} {what}, {done.repeated} exist already"
        click.echo(f"{said}, {len(done.bad)} bad, {done.lines} lines; {done.lines / max(0.001, took_s):,.0f} rows/s")


def _tell_bad(lines: Sequence[str], rejects: IO[str] | None) -> None:
    if rejects is not None:
        rejects.writelines(f"{line}\n" for line in lines)
    for line in lines[:MAX_TOLD]:
        click.echo(line, err=True)
    if len(lines) > MAX_TOLD:
        more = "" if rejects else "; --rejects FILE writes them all"
        click.echo(f"... and {len(lines) - MAX_TOLD} more{more}", err=True)


def _loaded_json(done: "Loaded", took_s: float) -> dict[str, Any]:
    def plain(one: "BadLine") -> dict[str, Any]:
        return {"line": one.line, "reason": one.reason}

    return {
        **{name: getattr(done, name) for name in ("lines", "added", "repeated", "is_refused")},
        "bad": [plain(one) for one in done.bad],
        "stages_s": {name: round(spent, 3) for name, spent in done.stages_s.items()},
        "rows_per_s": round(done.lines / max(0.001, took_s)),
    }


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Lines read so far, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _lines: None
        return
    begun = time.monotonic()
    with console.status("reading") as status:

        def show(lines: int) -> None:
            status.update(f"{lines:,} lines, {lines / max(0.001, time.monotonic() - begun):,.0f} rows/s")

        yield show
