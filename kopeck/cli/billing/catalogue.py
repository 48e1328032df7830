"""``kopeck catalogue`` and ``kopeck rate``: look at tariffs, and at what they make of usage.

Rules. Status 2 for a file that cannot be read as what it should be, 1 for findings that forbid publishing (check, load)
and for rows that were not billed (rate), 0 otherwise. Neither `check` nor `rate` needs a database. A load is one
transaction: the version is there whole, or nothing is.

Does not know: the format (billing.catalogue.reader), findings (billing.catalogue.linter), prices.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import click

from billing.catalogue.diff import (
    Change,
    changes_of_the_past,
    charged_otherwise,
    diff_catalogues,
    plans_changed_at_once,
)
from billing.catalogue.linter import check_catalogue
from billing.catalogue.model import Catalogue
from billing.catalogue.nodes import CatalogueError, Problem, near
from billing.catalogue.reader import read_catalogue
from billing.catalogue.sheet import price_sheet
from billing.catalogue.steps import MAX_CARD_BYTES
from billing.catalogue.store import (
    CatalogueStoreError,
    Source,
    find_version,
    list_versions,
    lock_catalogue,
    now_s,
    read_source,
    read_version,
    save_version,
)
from billing.database.cursors import Cursor
from billing.orders.store import is_sold_in_advance
from billing.rating.bills import Bill, BillTerms, month_of, rate_plan, rate_usage
from billing.rating.bulk import JUDGED_ROWS, rate_in_bulk
from billing.rating.printout import as_json as bills_json
from billing.rating.printout import report
from billing.rating.rated_file import RejectedRow, Usage, read_usage
from kopeck.cli.context import (
    CHARSET,
    INSTANT,
    LANGUAGE,
    AliasedOption,
    Context,
    pass_context,
    show_table,
    shown_name,
    shown_time,
)
from web.access.actors import Actor
from web.access.audit import record_as
from web.access.rights import Right

MAX_PRINTED = 200
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def catalogue() -> None:
    """Tariffs: items, plans, prices, promotions. The format: docs/tariffs.md."""


@catalogue.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def check(file: Path, as_json: bool) -> None:
    """Look a catalogue over before it is published.

    Prints every finding with the place, an example that shows it and a hint. Exit status: 0 good or only warnings,
    1 errors, 2 no catalogue.
    """
    catalogue = load_catalogue(file, as_json)[0]
    findings = check_catalogue(catalogue)
    errors = sum(one.severity == "error" for one in findings)
    show_problems(findings, as_json, err=False)
    if not as_json:
        counted = f"{len(catalogue.items)} items, {len(catalogue.plans)} plans, {len(catalogue.prices)} price lists"
        click.echo(f"{file.name}: {counted}: {errors} errors, {len(findings) - errors} warnings")
    raise click.exceptions.Exit(1 if errors else 0)


@catalogue.command()
@click.argument("file", type=FILE)
@click.option("--note", default="", help="Why, for readers of the list of versions.")
@click.option("--rewrite-past", is_flag=True, help="Also when prices of use before this moment change.")
@click.option("--yes-change-plans", is_flag=True, help="Also when what a plan holds changes, which happens at once.")
@pass_context
def load(context: Context, file: Path, note: str, rewrite_past: bool, yes_change_plans: bool) -> None:
    """Make a catalogue the next version in the database; the same files again are no new version.

    Refused when the check finds errors, and when it would change what was used before now costs (unless
    --rewrite-past): date the change, and prices before it stay as they are. Also refused when a plan loses or gets
    items or pools, or goes (unless --yes-change-plans): what plans hold has no dates, so every bill made from then on
    is made with the new contents, those of periods before included. While orders pay in advance, an item cannot turn
    from a price by the period to one by use, or back: sell it under another number.
    """
    catalogue, source = load_catalogue(file)
    refuse_errors(catalogue, 1)

    async def work(cur: Cursor, who: Actor) -> Any:
        await lock_catalogue(cur, catalogue.name)
        newest = await find_version(cur, catalogue.name)
        before = await read_version(cur, newest) if newest else catalogue
        changes = diff_catalogues(before, catalogue)
        turned = charged_otherwise(before, catalogue) if await is_sold_in_advance(cur, catalogue.name) else []
        if turned:
            raise _RefusedError(
                f"orders pay in advance, and items turn from a price by the period to one by use or back: "
                f"{', '.join(turned)}; periods paid already would be billed wrong. Give what is new another item",
                changes,
            )
        past = [] if rewrite_past else changes_of_the_past(changes, now_s())
        if past:
            raise _RefusedError("this would change what earlier use costs; --rewrite-past does it all the same", past)
        plans = [] if yes_change_plans else plans_changed_at_once(changes)
        if plans:
            raise _RefusedError(f"{_at_once(plans)}; --yes-change-plans does it", changes)
        saved, is_new = await save_version(cur, source, catalogue, who.name, note[:500])
        if is_new:
            facts = {"version": saved.version, "sha256": saved.sha256, "differences": len(changes)}
            await record_as(cur, who, "catalogue_loaded", "catalogue", saved.name, None, **facts)
        return saved, is_new, changes

    try:
        saved, is_new, changes = context.act(Right.CATALOGUE_CHANGE, work)
    except _RefusedError as refused:
        _show_changes(refused.changes, err=True)
        click.echo(f"kopeck: nothing was loaded: {refused}", err=True)
        raise click.exceptions.Exit(1) from refused
    _show_changes(changes)
    click.echo(f"catalogue {saved.name} has version {saved.version}{'' if is_new else ', as before'}")


@catalogue.command()
@click.argument("file", type=FILE)
@click.option("--version", type=click.IntRange(1), help="Compare with this version; else with the newest.")
@pass_context
def diff(context: Context, file: Path, version: int | None) -> None:
    """Show what loading a catalogue would change, for whom and from when."""
    catalogue, _ = load_catalogue(file)

    async def work(cur: Cursor) -> Any:
        found = await find_version(cur, catalogue.name, version)
        if found is None:
            raise CatalogueStoreError(f"there is no catalogue {catalogue.name!r}{_of(version)} to compare with")
        return found, diff_catalogues(await read_version(cur, found), catalogue)

    found, changes = context.in_transaction(work)
    _show_changes(changes)
    if plans := plans_changed_at_once(changes):
        click.echo(_at_once(plans))
    click.echo(f"{len(changes)} changes against {found.name} version {found.version}")


@catalogue.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="Else the newest.")
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True)
@click.option("--force", is_flag=True, help="Overwrite files that hold something else.")
@pass_context
def export(context: Context, name: str, version: int | None, folder: Path, force: bool) -> None:
    """Write the files of a version into a folder, to the byte."""

    async def work(cur: Cursor) -> Any:
        found = await find_version(cur, name, version)
        if found is None:
            raise CatalogueStoreError(f"there is no catalogue {name!r}{_of(version)}")
        return found, await read_source(cur, found)

    found, source = context.in_transaction(work)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in source.files.items():
        target = folder / file
        if target.exists() and target.read_bytes() != content and not force:
            raise click.ClickException(f"{target} holds something else; --force overwrites it")
    for file, content in source.files.items():
        (folder / file).write_bytes(content)
        click.echo(str(folder / file))
    click.echo(f"catalogue {found.name} version {found.version}, main file {found.main_file}")


@catalogue.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="Else the newest.")
@click.option("--at", type=INSTANT, help="Prices in force at this instant; else now.")
@LANGUAGE
@pass_context
def show(context: Context, name: str, version: int | None, at: datetime | None, language: str) -> None:
    """Show what a catalogue sells: items, plans, and prices in force. `export` writes its files."""

    async def work(cur: Cursor) -> Any:
        found = await find_version(cur, name, version)
        if found is None:
            raise CatalogueStoreError(f"there is no catalogue {name!r}{_of(version)}")
        return found, await read_version(cur, found)

    found, catalogue = context.in_transaction(work)
    sheet = price_sheet(catalogue, int(at.timestamp()) if at else now_s(), language)
    click.echo(f"catalogue {found.name} version {found.version}, {catalogue.currency}, zone {catalogue.zone}")
    click.echo("")
    show_table(("item", "name", "unit", "tax"), sheet.items)
    click.echo("")
    show_table(("plan", "name", "items", "grants"), sheet.plans)
    click.echo("")
    show_table(("price of", "for", "from", "price", "currency"), sheet.prices)


@catalogue.command("list")
@click.argument("name", required=False)
@pass_context
def list_(context: Context, name: str | None) -> None:
    """List catalogues and their versions, the newest of each first."""
    show_table(
        ("catalogue", "version", "loaded", "by", "sha256", "note"),
        [
            (one.name, str(one.version), shown_time(one.loaded_at), one.actor, one.sha256[:12], one.note)
            for one in context.in_transaction(lambda cur: list_versions(cur, name))
        ],
        right=("version",),
    )


class _RefusedError(Exception):
    """A load that has to be meant; rolls the transaction back. changes: why."""

    def __init__(self, why: str, changes: list[Change]) -> None:
        super().__init__(why)
        self.changes = changes


def _at_once(plans: list[str]) -> str:
    return f"contents of plans have no dates and change at once, for open periods too: {', '.join(plans)}"


def _of(version: int | None) -> str:
    return "" if version is None else f" version {version}"


def _show_changes(changes: list[Change], err: bool = False) -> None:
    for one in changes:
        whom = f" ({one.whom})" if one.whom else ""
        click.echo(f"{one.what}: {one.change}{whom}", err=err)
        if one.example:
            click.echo(f"    example: {one.example}", err=err)


@click.command()
@click.option(
    "--catalogue",
    "--catalog",
    "catalogue_file",
    cls=AliasedOption,
    type=FILE,
    required=True,
    help="The catalogue, a YAML file.",
)
@click.option("--usage", type=click.File("rb"), help="Usage, a CSV file; - reads standard input.")
@CHARSET
@click.option("--plan", default="", help="For rows that name no plan; without --usage: price this plan.")
@click.option("--group", default="", help="For rows that name no customer group.")
@click.option("--currency", default="", help="Of the prices; the catalogue's unless said.")
@click.option("--code", "codes", multiple=True, help="A promotion code the customers have given; may come again.")
@click.option("--since", default="", metavar="YYYY-MM", help="First month of the orders; else that of the first row.")
@click.option("--explain", is_flag=True, help="The derivation of every line.")
@click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words.")
@LANGUAGE
def rate(
    catalogue_file: Path,
    usage: IO[bytes] | None,
    charset: str,
    plan: str,
    group: str,
    currency: str,
    codes: tuple[str, ...],
    since: str,
    explain: bool,
    as_json: bool,
    language: str,
) -> None:
    """Rate a usage file under a catalogue file, or price a plan in a month without use; no database is needed.

    The usage file has a line of column names, account, item, time and quantity among them, and optionally duration,
    destination, plan, group, id (docs/tariffs.md). Exit status: 0, 1 when rows could not be billed, 2 for bad files.
    """
    catalogue = load_catalogue(catalogue_file)[0]
    refuse_errors(catalogue, 2)
    if plan and plan not in catalogue.plans:
        raise click.UsageError(f"there is no plan {plan!r} in {catalogue_file.name}")
    _check_terms(catalogue, codes, currency)
    terms = BillTerms(currency or catalogue.currency, codes, _month(since))
    if usage is None:
        if not plan:
            raise click.UsageError("name a usage file with --usage, or a plan to price without use with --plan")
        _show_bills(catalogue, [_priced(catalogue, plan, group, terms)], [], terms, explain, as_json, language)
        return
    try:
        rows, bad = read_usage(shown_name(usage).rpartition("/")[2], usage, catalogue, plan, group, charset)
    except CatalogueError as error:
        show_problems(error.problems, False, err=True)
        raise click.exceptions.Exit(2) from error
    _check_since(rows, terms.first_month, catalogue.zone)
    if explain and len(rows) > JUDGED_ROWS:
        message = f"--explain derives every row, of {JUDGED_ROWS:,} at most; {len(rows):,} are in {shown_name(usage)}"
        raise click.ClickException(f"{message}: explain a part of the file, or leave --explain out")
    bills, unrated = (rate_in_bulk if len(rows) > JUDGED_ROWS else rate_usage)(catalogue, rows, terms)
    rejected = sorted([*bad, *unrated], key=lambda one: one.place.line)
    _show_bills(catalogue, bills, rejected, terms, explain, as_json, language)
    if not rows and not rejected:
        click.echo("hint: the file has no rows; --plan NAME without --usage prices a plan without use", err=True)
    if unrated and not plan and catalogue.plans and not as_json:
        plans = ", ".join(catalogue.plans)[:200]
        click.echo(f"hint: rows that name no plan are of none; --plan says of which: {plans}")
    raise click.exceptions.Exit(1 if rejected else 0)


def _show_bills(
    catalogue: Catalogue,
    bills: list[Bill],
    rejected: list[RejectedRow],
    terms: BillTerms,
    explain: bool,
    as_json: bool,
    language: str,
) -> None:
    if as_json:
        found = bills_json(catalogue, bills, rejected, terms.currency, explain)
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    for line in report(catalogue, bills, rejected, terms.currency, language, explain):
        click.echo(line)


def _priced(catalogue: Catalogue, plan: str, group: str, terms: BillTerms) -> Bill:
    """The bill of a plan without use: in its first month, which is this one unless --since says another."""
    month = terms.first_month or month_of(min(max(now_s(), catalogue.start_s), catalogue.end_s - 1), catalogue.zone)
    bill = rate_plan(catalogue, plan, group, terms, month)
    if not bill.lines:
        raise click.ClickException(f"plan {plan} has no prices in {terms.currency} in {bill.period.label}")
    return bill


def load_catalogue(file: Path, as_json: bool = False) -> tuple[Catalogue, Source]:
    """The catalogue in a file, and all files it is made of; ends the command with status 2 when it is none."""
    files = {file.name: read_bounded(file)}

    def beside(name: str) -> bytes:
        return files.setdefault(name, read_bounded(file.parent / name))

    try:
        return read_catalogue(file.name, files[file.name], beside), Source(file.name, files)
    except CatalogueError as error:
        show_problems(error.problems, as_json, err=not as_json)
        raise click.exceptions.Exit(2) from error


def read_bounded(file: Path) -> bytes:
    """A file's bytes, no more than just too many: the reader refuses what is too long."""
    with file.open("rb") as source:
        return source.read(MAX_CARD_BYTES + 1)


def show_problems(problems: list[Problem] | tuple[Problem, ...], as_json: bool, err: bool) -> None:
    """Findings in words or as JSON."""
    if as_json:
        click.echo(json.dumps([_problem_json(one) for one in problems], ensure_ascii=False, indent=1))
        return
    for one in problems[:MAX_PRINTED]:
        click.echo(str(one), err=err)
    if len(problems) > MAX_PRINTED:
        click.echo(f"... and {len(problems) - MAX_PRINTED} more", err=err)


def _problem_json(one: Problem) -> dict[str, Any]:
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


def refuse_errors(catalogue: Catalogue, status: int) -> None:
    """End the command when some order could not be billed under this catalogue."""
    errors = [one for one in check_catalogue(catalogue) if one.severity == "error"]
    if errors:
        show_problems(errors, False, err=True)
        raise click.exceptions.Exit(status)


def _check_terms(catalogue: Catalogue, codes: tuple[str, ...], currency: str) -> None:
    known = sorted({one.code for one in catalogue.promotions if one.code})
    for code in codes:
        if code not in known:
            raise click.UsageError(f"no promotion has the code {code[:40]!r}; {near(code, known) or 'none has any'}")
    sold = sorted({one.currency for one in catalogue.prices})
    if currency and currency not in sold:
        raise click.UsageError(f"there is no price in {currency[:40]!r}: prices are in {', '.join(sold)}")


def _check_since(rows: list[Usage], first_month: tuple[int, int] | None, zone: str) -> None:
    """Orders begin before they are used."""
    early = [one for one in rows if first_month is not None and month_of(one.time_s, zone) < first_month]
    if early:
        place = min((one.place for one in early), key=lambda place: place.line)
        others = f", and {len(early) - 1} more rows are" if len(early) > 1 else ""
        raise click.UsageError(f"{place.file}:{place.line}: is before the orders begin, by --since{others}")


def _month(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    year, _, month = text.partition("-")
    if not (
        len(text) == 7
        and text.isascii()
        and year.isdigit()
        and month.isdigit()
        and 1 <= int(month) <= 12
        and int(year) > 1970
    ):
        raise click.UsageError(f"--since is a month such as 2026-01, not {text[:20]!r}")
    return int(year), int(month)
