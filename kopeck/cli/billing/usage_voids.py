"""``kopeck usage void``, ``correct`` and ``voids``: usage that was wrong, taken back or put right by append.

Does not know: what may be voided, how (billing.usage.voids), how a cell is read (billing.usage.void_file).
"""

from collections.abc import Callable
from typing import IO, Any

import click

from billing.database.adbc import import_connection
from billing.database.cursors import Cursor
from billing.usage.catalogues_store import ratable_now
from billing.usage.void_file import correction_of, read_corrections
from billing.usage.voids import Correction, Voided, VoidRequest, correct_events, void_events
from billing.usage.voids_store import list_voids
from kopeck.cli.context import Context, pass_context, show_table, shown_name, shown_time
from kopeck.databases.transactions import in_transaction
from web.access.actors import Actor
from web.access.rights import Right

MAX_FILE_BYTES = 64 << 20


def _asked(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--why", required=True, help="Why; kept with the events."),
        click.option("--key", required=True, help="Makes a repeat harmless: the same key acts once."),
        click.option("--file", "file", type=click.File("rb"), help="Many events: a CSV file; - reads standard input."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("ids", metavar="EVENT...", type=click.IntRange(1, 2**63 - 1), nargs=-1)
@_asked
@pass_context
def void(context: Context, ids: tuple[int, ...], file: IO[bytes] | None, key: str, why: str) -> None:
    """Make events count no more: they happened to nobody.

    Failures of a billing run name events by number. A file has an event a line. Events that are billed are refused:
    their invoice needs a credit note.
    """
    if bool(ids) == (file is not None):
        raise click.UsageError("name events, or a --file of them")
    name = shown_name(file) if file is not None else ""
    if file is not None:
        ids = tuple(one.event_id for one in read_corrections(name, file.read(MAX_FILE_BYTES), only_events=True))

    async def work(cur: Cursor, who: Actor) -> Voided:
        return await void_events(cur, ids, VoidRequest(key, why, who.name, name))

    done = context.act(Right.USAGE_CHANGE, work)
    click.echo(f"{done.events} events are void{' already' if done.is_repeat else ''}")


@click.command()
@click.argument("event", metavar="[EVENT]", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--item", help="What was used.")
@click.option("--quantity", help="How much, in the item's unit.")
@click.option("--duration", help="Whole seconds it took.")
@click.option("--destination", help="The number called, digits.")
@_asked
@pass_context
def correct(
    context: Context,
    event: int | None,
    item: str | None,
    quantity: str | None,
    duration: str | None,
    destination: str | None,
    file: IO[bytes] | None,
    key: str,
    why: str,
) -> None:
    """Put another event in the place of one: what is not said stays as it was.

    The first stays on record and is void; the other counts at the same time for the same account. A file has the
    columns event, item, quantity, duration, destination; an empty cell changes nothing. What was billed is refused.
    For another account or time, void the event and import it as it should be under another key.
    """
    said = {"item": item, "quantity": quantity, "duration": duration, "destination": destination}
    if (event is None) == (file is None) or (file is not None and any(value is not None for value in said.values())):
        raise click.UsageError("name one event and what it should say, or a --file of them")
    name = shown_name(file) if file is not None else ""
    with context.stores() as stores:
        who = context.actor(stores, Right.USAGE_CHANGE)
        corrections: list[Correction]
        if file is not None:
            corrections = read_corrections(name, file.read(MAX_FILE_BYTES))
        else:
            corrections = [correction_of({"event": str(event)} | {one: text for one, text in said.items() if text})]
        with import_connection(stores.dsn) as load:
            ratable = ratable_now(load)

        async def work(cur: Cursor) -> Voided:
            return await correct_events(cur, corrections, VoidRequest(key, why, who.name, name), ratable)

        done = in_transaction(stores.dsn, work)
    click.echo(f"{done.events} events are corrected{' already' if done.is_repeat else ''}")
    for old, new in list(done.replaced.items())[:20]:
        click.echo(f"event {old}: event {new} is in its place")


@click.command()
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Newest ones shown.")
@pass_context
def voids(context: Context, limit: int) -> None:
    """List events that are void, newest first, with who did it and why."""
    show_table(
        ("event", "account", "item", "at", "replaced by", "voided", "by", "key", "why"),
        [
            (
                str(one.event_id),
                one.account,
                one.item,
                shown_time(one.at) if one.at is not None else "-",
                str(one.replaced_by or "-"),
                shown_time(one.created_at),
                one.actor,
                one.key,
                one.why,
            )
            for one in context.in_transaction(lambda cur: list_voids(cur, limit))
        ],
        right=("event", "replaced by"),
    )
