"""``kopeck serve``: one process with the roles that are named.

Does not know: what a role does (kopeck.serve.roles).
"""

import click

from kopeck.cli.context import Context, pass_context
from kopeck.logs import configure_logs
from kopeck.serve.roles import ROLES, serve_roles


class RoleHelp(click.Command):
    """`--help` with the table of roles."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, after the options."""
        with formatter.section("Roles"):
            formatter.write_dl([(name, f"{role.does}; uses {role.uses}") for name, role in ROLES.items()])


@click.command(cls=RoleHelp)
@click.argument("roles", metavar="ROLE...", nargs=-1, required=True, type=click.Choice(tuple(ROLES)))
@click.option("--index", type=click.IntRange(0, 999), default=0, help="Which gateway of this host: its metrics port.")
@pass_context
def serve(context: Context, roles: tuple[str, ...], index: int) -> None:
    """Run one process with one or more roles, for a service manager. `kopeck run` runs them all.

    Several roles share one event loop and one port for health and metrics, that of the first role named. SIGTERM drains
    all of them.
    """
    named = tuple(dict.fromkeys(roles))
    configure_logs(context.settings.log, "+".join(f"{role}-{index}" if role == "gateway" else role for role in named))
    serve_roles(context.settings, named, index)
