"""``kopeck demo``: what runs here, and requests to try.

Does not know: how demo data is made (kopeck.local.demo).
"""

import click

from kopeck.cli.context import Context, pass_context
from kopeck.databases.stores import attach
from kopeck.local.run import announcement


@click.command()
@pass_context
def demo(context: Context) -> None:
    """Print what runs here: processes with their ports and memory, addresses, the demo's login, requests to try."""
    stores = attach(context.settings)  # or there is nothing to play with
    click.echo(announcement(context.settings, stores, context.config))
