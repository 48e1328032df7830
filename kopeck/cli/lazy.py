"""A group of commands each of which is imported when it is called: click's documented LazyGroup.

Rules. A table names each command's place (``module:attribute``) and its short help, so `kopeck --help` imports no
command. A name without a short help is an alias: it works and is not listed. A test holds the table against the
commands.

Does not know: the commands.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """A command that is not imported yet. place: ``module:attribute``. help: one line; empty for an alias."""

    place: str
    help: str = ""

    def load(self) -> Any:
        """Import what stands at the place."""
        module, _, attribute = self.place.partition(":")
        return getattr(import_module(module), attribute)


class LazyGroup(click.Group):
    """A group whose commands stand in a table."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names without aliases, in order."""
        return sorted(name for name, lazy in self._table.items() if lazy.help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None when there is none."""
        lazy = self._table.get(cmd_name)
        if lazy is None:
            return None
        command = lazy.load()
        assert isinstance(command, click.Command), lazy.place
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands for `--help`, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name].help) for name in self.list_commands(ctx)])
