"""``kopeck catalog`` and ``kopeck rate``: look at tariffs, and at what they make of usage.

Rules. Status 2 for a file that cannot be read as what it should be, 1 for findings that forbid publishing (check) and
for rows that were not billed (rate), 0 otherwise. Neither `check` nor `rate` needs a database.

Does not know: the format (billing.catalogue_read), findings (billing.catalogue_check), prices.
"""

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from kopeck.cli_context import shown_name

if TYPE_CHECKING:
    from billing.catalogue import Catalogue
    from billing.catalogue_yaml import Problem

MAX_PRINTED = 200
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def catalog() -> None:
    """Tariffs: items, plans, prices, promotions. The format: docs/tariffs.md."""


@catalog.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def check(file: Path, as_json: bool) -> None:
    """Look a catalogue over before it is published.

    Prints every finding with the place, an example that shows it and a hint. Exit status: 0 good or only warnings,
    1 errors, 2 no catalogue.
    """
    from billing.catalogue_check import check_catalogue

    catalogue = load_catalogue(file, as_json)
    findings = check_catalogue(catalogue)
    errors = sum(one.severity == "error" for one in findings)
    show_problems(findings, as_json, err=False)
    if not as_json:
        counted = f"{len(catalogue.items)} items, {len(catalogue.plans)} plans, {len(catalogue.prices)} price lists"
        click.echo(f"{file.name}: {counted}: {errors} errors, {len(findings) - errors} warnings")
    raise click.exceptions.Exit(1 if errors else 0)


@click.command()
@click.option("--catalog", "catalog_file", type=FILE, required=True, help="The catalogue, a YAML file.")
@click.option("--usage", type=click.File("rb"), required=True, help="Usage, a CSV file; - reads standard input.")
@click.option("--plan", default="", help="For rows that name no plan.")
@click.option("--group", default="", help="For rows that name no customer group.")
@click.option("--currency", default="", help="Of the prices; the catalogue's unless said.")
@click.option("--code", "codes", multiple=True, help="A promotion code the customers have given; may come again.")
@click.option("--since", default="", metavar="YYYY-MM", help="First month of the orders; else that of the first row.")
@click.option("--explain", is_flag=True, help="The derivation of every line.")
@click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words.")
@click.option("--lang", type=click.Choice(("en", "ru")), default="en", show_default=True)
def rate(
    catalog_file: Path,
    usage: IO[bytes],
    plan: str,
    group: str,
    currency: str,
    codes: tuple[str, ...],
    since: str,
    explain: bool,
    as_json: bool,
    lang: str,
) -> None:
    """Rate a usage file under a catalogue file; no database is needed.

    The usage file has a line of column names, account, item, time and quantity among them, and optionally duration,
    destination, plan, group, id (docs/tariffs.md). Exit status: 0, 1 when rows could not be billed, 2 for bad files.
    """
    from billing.catalogue_rate import Terms, rate_usage
    from billing.catalogue_report import as_json as bills_json
    from billing.catalogue_report import report
    from billing.catalogue_usage import read_usage
    from billing.catalogue_yaml import CatalogueError

    catalogue = load_catalogue(catalog_file, False)
    _refuse_errors(catalogue)
    if plan and plan not in catalogue.plans:
        raise click.UsageError(f"there is no plan {plan!r} in {catalog_file.name}")
    terms = Terms(currency or catalogue.currency, codes, _month(since))
    try:
        rows, bad = read_usage(shown_name(usage).rpartition("/")[2], usage, catalogue, plan, group)
    except CatalogueError as error:
        show_problems(error.problems, False, err=True)
        raise click.exceptions.Exit(2) from error
    bills, unrated = rate_usage(catalogue, rows, terms)
    rejected = sorted([*bad, *unrated], key=lambda one: one.place.line)
    if as_json:
        found = bills_json(catalogue, bills, rejected, terms.currency, explain)
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for line in report(catalogue, bills, rejected, terms.currency, lang, explain):
            click.echo(line)
    raise click.exceptions.Exit(1 if rejected else 0)


def load_catalogue(file: Path, as_json: bool) -> "Catalogue":
    """The catalogue in a file; ends the command with status 2 when it is none."""
    from billing.catalogue_read import read_catalogue
    from billing.catalogue_yaml import CatalogueError

    try:
        return read_catalogue(file.name, read_bounded(file), lambda name: read_bounded(file.parent / name))
    except CatalogueError as error:
        show_problems(error.problems, as_json, err=not as_json)
        raise click.exceptions.Exit(2) from error


def read_bounded(file: Path) -> bytes:
    """A file's bytes, no more than just too many: whoever reads them refuses what is too long."""
    from billing.catalogue_steps import MAX_CARD_BYTES

    with file.open("rb") as source:
        return source.read(MAX_CARD_BYTES + 1)


def show_problems(problems: "list[Problem] | tuple[Problem, ...]", as_json: bool, err: bool) -> None:
    """Findings in words or as JSON."""
    if as_json:
        click.echo(json.dumps([_problem_json(one) for one in problems], ensure_ascii=False, indent=1))
        return
    for one in problems[:MAX_PRINTED]:
        click.echo(str(one), err=err)
    if len(problems) > MAX_PRINTED:
        click.echo(f"... and {len(problems) - MAX_PRINTED} more", err=err)


def _problem_json(one: "Problem") -> dict[str, Any]:
    return {
        "file": one.place.file,
        "line": one.place.line,
        "column": one.place.column,
        "severity": str(one.severity),
        "code": one.code,
        "message": one.message,
        "example": one.example,
        "hint": one.hint,
    }


def _refuse_errors(catalogue: "Catalogue") -> None:
    """A catalogue with errors is not rated with: some rows would have no price."""
    from billing.catalogue_check import check_catalogue

    errors = [one for one in check_catalogue(catalogue) if one.severity == "error"]
    if errors:
        show_problems(errors, False, err=True)
        raise click.exceptions.Exit(2)


def _month(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    year, _, month = text.partition("-")
    if not (len(text) == 7 and year.isdigit() and month.isdigit() and 1 <= int(month) <= 12 and int(year) > 1970):
        raise click.UsageError(f"--since is a month such as 2026-01, not {text[:20]!r}")
    return int(year), int(month)
