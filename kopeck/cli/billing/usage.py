"""``kopeck usage``: import files of events, look at imports, correct what was rejected and feed it again.

Does not know: how files are read and kept (billing.usage.mediation, billing.usage.importer).
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import click

from billing.database.cursors import Cursor
from billing.usage.format import MAX_FORMAT_BYTES, Format, FormatError, parse_format
from billing.usage.importer import ImportResult, Refeed, import_file, read_corrected, refeed_as_they_are, refeed_lines
from billing.usage.load_store import LoadCounts, NewImport
from billing.usage.mediation import mediate
from billing.usage.store import (
    PAGE_MAX,
    ImportFormat,
    KeptReject,
    count_reasons,
    drop_rejects,
    import_format,
    list_imports,
    list_rejects,
)
from billing.usage.values import MICRO, Known
from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.billing.usage_open import reopen, unbilled
from kopeck.cli.billing.usage_rate import rate_stored
from kopeck.cli.billing.usage_voids import correct, void, voids
from kopeck.cli.context import Context, pass_context, show_table, shown_name, shown_time
from kopeck.cli.progress import progress, size_of
from kopeck.databases.transactions import in_transaction
from kopeck.work.kinds.usage_import import unpacked
from web.access.rights import Right

MAX_CORRECTED_BYTES = 1 << 30
_SAMPLE_ROWS = 5


@click.group()
def usage() -> None:
    """Files of usage: what subscribers used, to be rated and billed. docs/usage.md describes formats."""


for _command in (rate_stored, void, correct, voids, unbilled, reopen):
    usage.add_command(_command)


@usage.command()
@pass_context
def formats(context: Context) -> None:
    """List the formats in the folder usage.formats_dir."""
    folder = _folder(context)
    rows: list[tuple[str, ...]] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            made, _ = _read_format(path)
            rows.append((path.stem, made.kind, made.source, ", ".join(made.key), "good"))
        except FormatError as error:
            rows.append((path.stem, "-", "-", "-", str(error)))
    if not rows:
        raise click.ClickException(f"no formats (*.toml) in {folder}; usage.formats_dir names the folder")
    show_table(("format", "kind", "source", "key", "state"), rows)


@usage.command("check-format")
@click.argument("name", metavar="FORMAT")
@click.argument("sample", type=click.File("rb"), required=False)
@pass_context
def check_format(context: Context, name: str, sample: IO[bytes] | None) -> None:
    """Check a format (a name, or a file *.toml), and read a SAMPLE file by it without any database.

    Status 2 when the format is wrong, 1 when lines of the sample would be rejected.
    """
    made, _, path = _find_format(context, name)
    click.echo(f"{path}: a good format of kind {made.kind}, source {made.source}")
    if sample is not None:
        _show_sample(made, sample)


def _show_sample(made: Format, sample: IO[bytes]) -> None:
    zone = ZoneInfo(made.time.zone)
    read = rejected = shown = 0
    with unpacked(sample, shown_name(sample)) as source:
        for part in mediate(source, made, made.late, Known(int(time.time()))):
            read, rejected = read + part.lines, rejected + len(part.rejects)
            for row in part.events.slice(0, max(0, _SAMPLE_ROWS - shown)).to_pylist():
                whole, rest = divmod(row["quantity_micro"], MICRO)
                row["quantity"] = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
                fields = ("line", "account", "item", "quantity", "duration_s", "destination")
                at = row["at"].astimezone(zone)
                click.echo(f"{at:%Y-%m-%d %H:%M:%S%z}  " + "  ".join(f"{name}={row[name]}" for name in fields))
                shown += 1
            for reject in part.rejects[: max(0, 20 - rejected + len(part.rejects))]:
                click.echo(f"{shown_name(sample)}:{reject.line}: {reject.reason}: {reject.detail}", err=True)
    click.echo(f"{read} lines, {read - rejected} good, {rejected} rejected")
    if rejected:
        sys.exit(1)


@usage.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--format", "name", required=True, metavar="FORMAT", help="A name, or a file *.toml.")
@click.option(
    "--late", type=click.Choice(["accept", "reject"]), help="Events of closed periods; else as the format says."
)
@click.option("--again", is_flag=True, help="Read the file although the same was imported before.")
@click.option("--json", "as_json", is_flag=True, help="What came of it as JSON.")
@BACKGROUND
@pass_context
def import_(
    context: Context, file: IO[bytes], name: str, late: str | None, again: bool, as_json: bool, background: bool
) -> None:
    """Import a FILE of events (.gz is unpacked; - reads standard input).

    All good lines of it or none, each once by its key however often it comes. Rejected lines are kept:
    `kopeck usage rejects`. Status 0 also where lines were rejected. Ends by telling the seconds of each stage; the
    next lines are read while the database takes those before.
    """
    made, text, path = _find_format(context, name)
    if background:
        given = {"file": Path(shown_name(file)).name, "format": path.stem, "format_text": text, "again": again}
        given["late"] = late or made.late
        queue_job(context, Right.USAGE_CHANGE, "usage.import", given, file, as_json=as_json)
        return
    with context.stores() as stores:
        who = context.actor(stores, Right.USAGE_CHANGE)
        new = NewImport(made.source, path.stem, text, shown_name(file), late or made.late, who.name)
        with unpacked(file, shown_name(file)) as source, _progress(file) as progress:
            begun = time.monotonic()
            outcome = import_file(stores.dsn, source, made, new, again=again, progress=progress)
    if as_json:
        click.echo(json.dumps(_as_json(outcome, time.monotonic() - begun), indent=1))
        return
    if outcome.same_as is not None:
        click.echo(f"this very file is import {outcome.same_as} already: nothing to do (--again reads it again)")
        return
    _tell(outcome, time.monotonic() - begun)


@usage.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest imports shown.")
@pass_context
def imports(context: Context, limit: int) -> None:
    """List imports, newest first."""
    found = context.in_transaction(lambda cur: list_imports(cur, limit))
    numbers = ("import", "lines", "accepted", "repeated", "rejected", "late", "open")
    show_table(
        ("import", "at", "source", "file", "state", *numbers[1:], "failure"),
        [
            (
                str(one.id),
                shown_time(one.started_at),
                one.source,
                one.file_name,
                one.state,
                *map(str, (one.lines, one.accepted, one.repeated, one.rejected, one.late, one.open_rejects)),
                one.failure or "-",
            )
            for one in found
        ],
        right=numbers,
    )


@usage.group()
def rejects() -> None:
    """Lines that were not accepted: list, export, correct and refeed, drop."""


@rejects.command("list")
@click.argument("import_id", metavar="IMPORT", type=int)
@click.option("--state", type=click.Choice(["open", "refed", "dropped"]), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@pass_context
def list_(context: Context, import_id: int, state: str, limit: int) -> None:
    """List rejects of an import in order of their lines, after how many open ones have which reason."""

    async def work(cur: Cursor) -> Any:
        await import_format(cur, import_id)
        return await count_reasons(cur, import_id), await list_rejects(cur, import_id, state, limit)

    reasons, found = context.in_transaction(work)
    for reason, count in reasons:
        click.echo(f"{count} open: {reason}")
    rows = [(str(one.id), str(one.line), one.reason, one.detail, _shown_raw(one)) for one in found]
    show_table(("reject", "line", "reason", "detail", "text"), rows, right=("reject", "line"))


@rejects.command()
@click.argument("import_id", metavar="IMPORT", type=int)
@click.option("--output", type=click.File("wb"), default="-", help="A file instead of standard output.")
@pass_context
def export(context: Context, import_id: int, output: IO[bytes]) -> None:
    """Write the open rejects of an import as lines `reject|text as it came`, for correction and `refeed`.

    Lines that begin with #| say what is wrong and are passed over. A line left out stays open.
    """

    async def work(cur: Cursor) -> None:
        how = await import_format(cur, import_id)
        charset = parse_format(how.format_text, how.format_name).charset
        output.write(_comment(f"rejects of import {import_id}; columns: {how.header}", charset))
        last = 0
        while page := await list_rejects(cur, import_id, "open", PAGE_MAX, last):
            last = page[-1].line
            for one in page:
                cut = " (only its beginning was kept)" if one.raw_is_cut else ""
                output.write(_comment(f"line {one.line}: {one.detail}{cut}", charset))
                output.write(b"%d|%s\n" % (one.id, one.raw))

    context.in_transaction(work)


def _comment(text: str, charset: str) -> bytes:
    return b"#|" + text.replace("\n", " ").encode(charset, "backslashreplace") + b"\n"


@rejects.command()
@click.argument("import_id", metavar="IMPORT", type=int)
@click.argument("file", type=click.File("rb"), required=False)
@pass_context
def refeed(context: Context, import_id: int, file: IO[bytes] | None) -> None:
    """Feed rejects of an import again: from a corrected export, or without FILE all that are open, as they are.

    The latter is for causes outside the file, such as an account that has been opened since.
    """
    with context.stores() as stores:
        who = context.actor(stores, Right.USAGE_CHANGE)
        how: ImportFormat = in_transaction(stores.dsn, lambda cur: import_format(cur, import_id))
        made = parse_format(how.format_text, how.format_name)
        name = shown_name(file) if file else f"rejects of import {import_id}"
        new = NewImport(how.source, how.format_name, how.format_text, name, how.late, who.name, import_id)
        begun = time.monotonic()
        if file is None:
            outcome = refeed_as_they_are(stores.dsn, import_id, made, how.header, new)
        else:
            ids, lines = read_corrected(file.read(MAX_CORRECTED_BYTES))
            outcome = refeed_lines(stores.dsn, Refeed(import_id, ids), lines, made, how.header, new)
    if outcome is None:
        click.echo(f"import {import_id} has no open rejects that could be fed again as they are")
        return
    _tell(outcome, time.monotonic() - begun)


@rejects.command()
@click.argument("import_id", metavar="IMPORT", type=int)
@click.argument("ids", metavar="REJECT...", type=int, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All open rejects of the import.")
@click.option("--why", required=True, help="Why these lines are given up; kept with them.")
@pass_context
def drop(context: Context, import_id: int, ids: tuple[int, ...], all_: bool, why: str) -> None:
    """Give up rejects. They are kept, with who did it and why."""
    if bool(ids) == all_:
        raise click.UsageError("name rejects, or say --all")

    dropped = context.act(
        Right.USAGE_CHANGE,
        lambda cur, who: drop_rejects(cur, import_id, None if all_ else ids, why, who.name),
    )
    click.echo(f"{dropped} rejects dropped")


def _shown_raw(reject: KeptReject) -> str:
    text = reject.raw[:200].decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _folder(context: Context) -> Path:
    return Path(context.settings.usage.formats_dir).expanduser()


def _find_format(context: Context, name: str) -> tuple[Format, str, Path]:
    """The format with this name or in this file, its text and its file."""
    path = Path(name) if name.endswith(".toml") else _folder(context) / f"{name}.toml"
    return *_read_format(path), path


def _read_format(path: Path) -> tuple[Format, str]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FORMAT_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise FormatError(f"cannot read format {path}: {error.strerror}; see `kopeck usage formats`") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}:1: not UTF-8") from error
    return parse_format(text, str(path)), text


@contextmanager
def _progress(file: IO[bytes]) -> Iterator[Callable[[int, LoadCounts], None]]:
    """Rows, rows/s and the share of the file, which of a packed one is not known."""
    begun = time.monotonic()
    with progress("import of usage", None if shown_name(file).endswith(".gz") else size_of(file)) as report:

        def show(read_bytes: int, counts: LoadCounts) -> None:
            pace = counts.lines / max(0.001, time.monotonic() - begun)
            report(read_bytes, f"{counts.lines:,} rows, {pace:,.0f} rows/s, {counts.rejected:,} rejected")

        yield show


def _tell(outcome: ImportResult, took_s: float) -> None:
    counts = outcome.counts
    late = f"{counts.late} late, billed as of the open period" if counts.late else "0 late"
    click.echo(
        f"import {outcome.import_id}: {counts.lines} lines, {counts.accepted} accepted ({late}), "
        f"{counts.repeated} repeated, {counts.rejected} rejected; {counts.lines / max(0.001, took_s):,.0f} rows/s"
    )
    stages = outcome.stages
    click.echo(
        f"{took_s:.1f} s: waited for lines {stages.waited_s:.1f} (read in {stages.read_s:.1f}), "
        f"keys {stages.keys_s:.1f}, events {stages.events_s:.1f}, commit {stages.commit_s:.1f}"
    )
    if counts.rejected:
        click.echo(f"see: kopeck usage rejects list {outcome.import_id}")


def _as_json(outcome: ImportResult, took_s: float) -> dict[str, Any]:
    seconds = {name: round(value, 3) for name, value in (*asdict(outcome.stages).items(), ("took_s", took_s))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
    counts = {"import": outcome.import_id, "same_as": outcome.same_as, **asdict(outcome.counts)}
    return {**counts, **seconds, "peak_bytes": peak}
