"""``kopeck whatif``: a past month of the whole base under a draft of the tariffs, beside the tariffs in force.

Rules. Nothing is written but the files asked for. Status 2 for input that makes no sense, 1 where accounts cannot be
billed under the draft.

Does not know: what a month comes to (billing.simulation.whatif), how it is told (kopeck.cli.billing.whatif_printout).
"""

import json
from datetime import datetime
from pathlib import Path

import click

from billing.simulation.store import month_of
from billing.simulation.whatif_run import compare_base
from kopeck.cli.billing.catalogue import FILE, load_catalogue, refuse_errors
from kopeck.cli.billing.usage_rate import month_progress
from kopeck.cli.billing.whatif_printout import whatif_html, whatif_json, whatif_lines, whatif_svg
from kopeck.cli.context import INSTANT, AliasedOption, Context, pass_context

_WRITTEN = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.option(
    "--catalogue",
    "--catalog",
    "catalogue_file",
    cls=AliasedOption,
    type=FILE,
    required=True,
    help="The draft, a YAML file.",
)
@click.option("--period", required=True, metavar="YYYY-MM", help="A calendar month, in the zone of each order.")
@click.option("--prices-of", "as_of", type=INSTANT, help="Rate by the prices the draft has on this date, not then.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes of this machine; else one a core.")
@click.option("--picture", type=_WRITTEN, help="Write the histogram, as SVG.")
@click.option("--html", "page", type=_WRITTEN, help="Write everything as one page.")
@click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words.")
@pass_context
def whatif(
    context: Context,
    catalogue_file: Path,
    period: str,
    as_of: datetime | None,
    workers: int | None,
    picture: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Rate a month of the whole base again under a draft catalogue: revenue, winners, losers. Nothing is written.

    Takes every period of an order that ended within the month, whole: charges for time (also those billed in
    advance), usage, percentages, promotions, the order's minimum; and one-time orders that began in it. A draft that
    dates its changes into the future changes nothing in a past month: --prices-of rates it as it will be then. Exit
    status: 0, 1 when accounts cannot be billed under the draft, 2 for bad input.
    """
    month = month_of(period)
    draft = load_catalogue(catalogue_file)
    refuse_errors(draft[0], 2)
    as_of_s = None if as_of is None else int(as_of.timestamp())
    name = catalogue_file.name if as_of is None else f"{catalogue_file.name} at the prices of {as_of.date()}"
    with context.stores() as stores, month_progress(f"what if {month.label}", "orders") as progress:
        found = compare_base(stores.dsn, month, draft, as_of_s, workers or 0, progress)
    for file, text in ((picture, whatif_svg), (page, whatif_html)):
        if file is not None:
            file.write_text(text(found, name), "utf-8")
    if as_json:
        click.echo(json.dumps(whatif_json(found, name), ensure_ascii=False, indent=1))
    else:
        for line in whatif_lines(found, name):
            click.echo(line)
        compared = found.compared
        if as_of is None and not compared.up and not compared.down and not compared.after.accounts:
            click.echo(
                "nobody pays more or less; where the draft's changes have later dates, --prices-of rates by them"
            )
        click.echo(f"took {found.took_s:.1f} s: {compared.orders} orders, {compared.events} events")
    raise click.exceptions.Exit(1 if found.compared.after.accounts else 0)
