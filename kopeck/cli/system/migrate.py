"""``kopeck migrate``: the database's schema.

Does not know: what a migration holds.
"""

import click

from kopeck.cli.context import Context, pass_context
from kopeck.databases import migrate as migrations
from kopeck.databases.stores import open_stores
from kopeck.logs import configure_logs


@click.command()
@click.option("--status", "only_status", is_flag=True, help="Only say what is applied and what is pending.")
@pass_context
def migrate(context: Context, only_status: bool) -> None:
    """Bring the database to the schema this program needs. Needs database.owner_dsn."""
    configure_logs(context.settings.log, "cli")
    with open_stores(context.settings, may_make=True) as stores:
        if only_status:
            status = migrations.status(stores.owner_dsn or stores.dsn)
            for name in status.applied:
                click.echo(f"applied  {name}")
            for name in status.pending:
                click.echo(f"pending  {name}")
            for name in status.unknown:
                click.echo(f"unknown  {name}  (applied by a newer Kopeck)")
            return
        if not stores.owner_dsn:
            raise click.UsageError("database.owner_dsn is not set: migrations run as the owner (docs/operators.md)")
        for name in migrations.migrate(stores.owner_dsn):
            click.echo(f"applied  {name}")
        click.echo("the database is up to date")
