"""``kopeck usage rate``: what the imported usage of a month comes to, before anything is billed.

Does not know: how usage is rated (billing.simulation.usage), over which processes (billing.simulation.workers).
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from billing.catalogue.store import catalogue_of
from billing.simulation.store import month_of
from billing.simulation.usage import ItemTotal, Key
from billing.simulation.usage_run import RatedMonth, rate_base
from kopeck.cli.billing.catalogue import FILE, load_catalogue, refuse_errors
from kopeck.cli.context import AliasedOption, Context, pass_context, show_table
from kopeck.cli.progress import progress
from ratingcore.money import format_minor

#: A reason that is no mistake: what is charged for time may be used as well.
_NO_MISTAKE = "not_metered"


@click.command("rate")
@click.option("--period", required=True, metavar="YYYY-MM", help="A calendar month of the catalogue's zone.")
@click.option(
    "--catalogue",
    "--catalog",
    "catalogue_file",
    cls=AliasedOption,
    type=FILE,
    help="A draft instead of the stored catalogue of its name.",
)
@click.option("--plan", default="", help="Whose prices usage has that no order covers; else everybody's.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes of this machine; else one a core.")
@click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words.")
@pass_context
def rate_stored(
    context: Context, period: str, catalogue_file: Path | None, plan: str, workers: int | None, as_json: bool
) -> None:
    """Rate the imported usage of a month; nothing is written.

    Totals by plan and item of what was used: without charges for time, promotions, minimums of orders and tax. Exit
    status: 0, 1 when usage could not be rated, 2 for bad input.
    """

    month = month_of(period)
    draft = load_catalogue(catalogue_file) if catalogue_file else None
    if draft:
        refuse_errors(draft[0], 2)
    with context.stores() as stores, month_progress(f"usage of {month.label}", "rows") as progress:
        rated = rate_base(stores.dsn, month, draft, plan, workers or 0, progress)
    if as_json:
        click.echo(json.dumps(_as_json(rated), ensure_ascii=False, indent=1))
    else:
        _tell(rated, catalogue_file)
    raise click.exceptions.Exit(1 if any(reason != _NO_MISTAKE for reason in rated.rejects) else 0)


def _tell(rated: "RatedMonth", draft: Path | None) -> None:
    click.echo(f"usage of {rated.month.label} ({rated.zone}) under {named_catalogues(rated.catalogues, draft)}")
    right = ("rows", "quantity", "lines", "amount", "not rated")
    headings = ("catalogue", "plan", "item", *right[:4], "currency", right[4])
    units = _units(rated)
    show_table(headings, [_row(key, one, units) for key, one in rated.totals.items()], right=right)
    currencies = sorted({key.currency for key, one in rated.totals.items() if one.lines})
    for currency in currencies:
        amount = sum(one.amount_minor for key, one in rated.totals.items() if key.currency == currency)
        click.echo(f"{currency}: {format_minor(amount)}")
    for reason, count in sorted(rated.rejects.items()):
        click.echo(f"not rated: {count} {reason}")
    total = rated.rated + sum(rated.rejects.values())
    click.echo(f"{total} rows of {rated.accounts} accounts, {rated.rated} rated")
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in rated.seconds.items())
    click.echo(f"took {rated.took_s:.1f} s, {total / max(0.001, rated.took_s):,.0f} rows/s")
    if stages:
        click.echo(f"seconds of all processes: {stages}")


def _row(key: "Key", one: "ItemTotal", units: Mapping[tuple[str, str], tuple[str, int]]) -> tuple[str, ...]:
    unit, decimals = units.get((key.catalogue, key.item), ("", 0))
    quantity = f"{_shown_quantity(one.quantity, decimals)} {unit}".rstrip()
    rejected = " ".join(f"{count} {reason}" for reason, count in sorted(one.rejects.items())) or "-"
    counts = (str(one.rows), quantity, str(one.lines), format_minor(one.amount_minor))
    return (key.catalogue or "-", key.plan or "-", key.item, *counts, key.currency or "-", rejected)


def _shown_quantity(steps: int, decimals: int) -> str:
    whole, rest = divmod(steps, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}" if decimals else str(whole)


def _units(rated: "RatedMonth") -> dict[tuple[str, str], tuple[str, int]]:

    found = {}
    for stored in rated.catalogues:
        for item in catalogue_of(stored.source).items.values():
            found[stored.name, item.number] = item.unit.name, item.unit.decimals
    return found


def _as_json(rated: "RatedMonth") -> dict[str, Any]:
    units = _units(rated)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "period": rated.month.label,
        "zone": rated.zone,
        "catalogues": [{"catalogue": one.name, "version": one.version or None} for one in rated.catalogues],
        "totals": [
            {
                **key._asdict(),
                "unit": units.get((key.catalogue, key.item), ("", 0))[0],
                "rows": one.rows,
                "quantity_steps": one.quantity,
                "lines": one.lines,
                "amount_minor": one.amount_minor,
                "rejects": one.rejects,
            }
            for key, one in rated.totals.items()
        ],
        "rows": rated.rated + sum(rated.rejects.values()),
        "rated": rated.rated,
        "rejects": rated.rejects,
        "accounts": rated.accounts,
        "took_s": round(rated.took_s, 3),
        "worker_seconds": {stage: round(spent, 3) for stage, spent in rated.seconds.items()},
        "peak_bytes": max(peak) * (1 if sys.platform == "darwin" else 1_024),
    }


# ---- what `kopeck whatif` shares


def named_catalogues(stored: Any, draft: Path | None) -> str:
    """Which versions something is rated under, in words."""
    return ", ".join(
        f"{one.name} {'draft ' + draft.name if draft and not one.version else f'version {one.version}'}"
        for one in stored
    )


@contextmanager
def month_progress(what: str, counted: str) -> Iterator[Callable[[int, int, int], None]]:
    """Ranges of accounts done of how many, and what was counted in them."""

    begun = time.monotonic()
    with progress(what, 100) as report:

        def show(done: int, of: int, count: int) -> None:
            pace = count / max(0.001, time.monotonic() - begun)
            report(100 * done // max(1, of), f"{count:,} {counted}, {pace:,.0f}/s")

        yield show
