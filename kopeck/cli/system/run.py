"""``kopeck run``: everything on this machine.

Does not know: which processes there are (kopeck.local.supervisor).
"""

import click

from kopeck.cli.context import Context, pass_context
from kopeck.local.run import run_all
from kopeck.logs import configure_logs


@click.command()
@click.option("--demo/--no-demo", default=None, help="Fill an empty embedded database with demo data (the default).")
@pass_context
def run(context: Context, demo: bool | None) -> None:
    """Run gateways, back-office work and pages on this machine, and the embedded databases.

    Databases that settings do not name are embedded, with their data under data_dir. It says which process does what,
    on which port and in how much memory, and `kopeck demo` says it again later. Ctrl-C stops everything.
    """
    configure_logs(context.settings.log, "run")
    run_all(context.settings, context.config, demo=demo)
