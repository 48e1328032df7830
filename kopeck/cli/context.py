"""What the modules of the ``kopeck`` command share: the context, a table, an instant, the person at the terminal.

Does not know: any command.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from billing.database.cursors import Cursor
from billing.language import codes
from kopeck.cli.person import actor_at, os_actor
from kopeck.databases.stores import Stores, open_stores
from kopeck.databases.transactions import in_transaction
from kopeck.logs import configure_logs
from kopeck.settings import Settings, load_settings
from web.access.actors import Actor
from web.access.rights import Right

T = TypeVar("T")


class Context:
    """What every command gets: where settings come from, read when first asked for."""

    def __init__(self, config: str | None, login: str | None = None) -> None:
        self.config = config
        self.login = login
        self._settings: Settings | None = None
        self._actor: Actor | None = None

    @property
    def settings(self) -> Settings:
        """The settings. Raises SettingsError."""
        if self._settings is None:
            self._settings = load_settings(self.config)
        return self._settings

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        """The databases the settings name, for one command; what it logs goes to the error output."""
        configure_logs(self.settings.log, "cli")
        with open_stores(self.settings) as stores:
            yield stores

    def actor(self, stores: Stores, right: Right | None = None, login: str | None = None) -> Actor:
        """Who acts, once proven, and whether he may. login: of an option of the command, before that of `kopeck --as`.

        Raises:
            UserError, AccessError: not who he says, not on this machine, or without the right.
        """
        named = login or self.login
        if self._actor is None or named not in (None, self._actor.login):
            self._actor = actor_at(self.settings, stores.dsn, named)
        if right is not None:
            self._actor.demand(right)
        return self._actor

    def act(self, right: Right | None, work: Callable[[Cursor, Actor], Awaitable[T]], login: str | None = None) -> T:
        """Run an async function of a cursor and who acts in one transaction, if he holds the right."""
        with self.stores() as stores:
            who = self.actor(stores, right, login)
            return in_transaction(stores.dsn, lambda cur: work(cur, who))

    def in_transaction(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """Run an async function of a cursor in one transaction on the database the settings name."""
        with self.stores() as stores:
            return in_transaction(stores.dsn, work)


pass_context = click.make_pass_decorator(Context)


class Day(click.DateTime):
    """A date such as 2026-01-31, given as its first instant; the sentence for what is none says what one is."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Text to an instant without a zone."""
        try:
            found: datetime = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{str(value)[:40]!r} is no date such as 2026-01-31", param, ctx)
        return found


class Instant(click.ParamType):  # type: ignore[type-arg]
    """An ISO 8601 date or date with time; without a zone it is UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Text to an aware datetime."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2026-12-31 or 2026-12-31T18:00:00+03:00", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


INSTANT = Instant()


class AliasedOption(click.Option):
    """An option with one name in `--help` and older names that go on working."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of `--help`, with the first name alone."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        names, meaning = record
        return names.replace("".join(f", {name}" for name in self.opts[1:]), ""), meaning


#: Languages there are: English and those that have a file, without which no text is read.
LANGUAGES = codes()
#: Of what is printed.
LANGUAGE = click.option(
    "--language", "--lang", cls=AliasedOption, type=click.Choice(LANGUAGES), default="en", show_default=True
)

#: Of files that people write; those of usage say it in their format (billing.usage.format.CHARSETS).
CHARSETS = ("utf-8", "cp1251", "cp866", "koi8-r", "iso-8859-5")
#: What messages say of a file that is in another charset than was said.
NOT_UTF_8 = "not utf-8"
CHARSET_HINT = "hint: the file is not UTF-8; one that Excel wrote in Russia is read with --charset cp1251"
CHARSET = click.option(
    "--charset", type=click.Choice(CHARSETS), default="utf-8", show_default=True, help="Of the file; Excel: cp1251."
)


def actor() -> str:
    """How records name the operating system's user. Commands that change something ask `Context.act` instead."""
    return os_actor()


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table, or its cells with tabs between them where nobody looks at it (a pipe): row by row as they come."""
    console = Console()
    if not console.is_terminal:
        click.echo("\t".join(headings))
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a name in square brackets is no markup
    console.print(table)


def shown_time(moment: datetime | None) -> str:
    """An instant for a table, in UTC; a dash for none."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else "-"


def shown_name(file: IO[bytes]) -> str:
    """How messages call a file that was named on the command line."""
    name = getattr(file, "name", "<stdin>")
    return "standard input" if name == "<stdin>" else str(name)
