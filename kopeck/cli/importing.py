"""Imports of customers and orders at the terminal: progress, bad lines, and what was loaded.

Does not know: what a line means; the importer of billing that is handed in does.
"""

import time
from collections.abc import Callable, Sequence
from typing import IO, Any

import click

from billing.files.tables import BadLine, How, ImportFileError, Loaded
from kopeck.cli.context import CHARSET_HINT, NOT_UTF_8, Context, shown_name
from kopeck.cli.output import show_json
from kopeck.cli.progress import progress, size_of
from web.access.actors import Actor
from web.access.rights import Right

#: Bad lines of a file told at the terminal; --rejects writes them all.
MAX_TOLD = 200


def run_import(
    context: Context,
    right: Right,
    file: IO[bytes],
    load: Callable[[Actor], Callable[..., Loaded]],
    what: str,
    skip_bad: bool,
    dry_run: bool,
    rejects: IO[str] | None,
    as_json: bool,
    charset: str,
) -> None:
    """Load a file of customers or orders, as who holds the right, and tell what came of it."""
    begun = time.monotonic()
    try:
        with context.stores() as stores:
            who = context.actor(stores, right)
            with progress(f"import of {what}", size_of(file)) as report:

                def told(lines: int) -> None:
                    pace = lines / max(0.001, time.monotonic() - begun)
                    report(file.tell() if file.seekable() else 0, f"{lines:,} lines, {pace:,.0f} rows/s")

                done = load(who)(stores.dsn, file, How(not dry_run, skip_bad, told, charset))
    except ImportFileError as error:
        hint = f"\n{CHARSET_HINT}" if NOT_UTF_8 in str(error) else ""
        raise click.ClickException(f"{shown_name(file)}: {error}{hint}") from error
    lines = [f"{shown_name(file)}:{bad.line}: {bad.reason}" for bad in done.bad]
    _tell_bad(lines, rejects)
    if any(bad.reason.startswith(NOT_UTF_8) for bad in done.bad):
        click.echo(CHARSET_HINT, err=True)
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


def _loaded_json(done: Loaded, took_s: float) -> dict[str, Any]:
    def plain(bad: BadLine) -> dict[str, Any]:
        return {"line": bad.line, "reason": bad.reason}

    return {
        **{name: getattr(done, name) for name in ("lines", "added", "repeated", "is_refused")},
        "bad": [plain(bad) for bad in done.bad],
        "stages_s": {name: round(spent, 3) for name, spent in done.stages_s.items()},
        "rows_per_s": round(done.lines / max(0.001, took_s)),
    }
