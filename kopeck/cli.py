"""The ``kopeck`` command: everything an operator does without a browser.

Rules. One clear sentence on standard error for what went wrong, never a traceback: status 2 when the input was wrong,
1 when the work failed. Results go to standard output. Nothing heavy is imported before it is needed, so that
``--help`` is quick.

Does not know: SQL, protocols; each command calls the room that does.
"""

import sys
from collections.abc import Sequence

import click

from kopeck.cli_context import Context, pass_context
from kopeck.settings import Settings, SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", metavar="FILE", help="Settings file (TOML); else KOPECK_CONFIG, else ./kopeck.toml.")
@click.version_option(package_name="kopeck", message="kopeck %(version)s")
@click.pass_context
def cli(context: click.Context, config: str | None) -> None:
    """Kopeck accepts payments from aggregators and bills subscribers.

    `kopeck run` starts everything on this machine. Settings: docs/operators.md.
    """
    context.obj = Context(config)


@cli.command()
@click.option("--demo/--no-demo", default=None, help="Fill an empty embedded database with demo data (the default).")
@pass_context
def run(context: Context, demo: bool | None) -> None:
    """Run gateways, relay and pages on this machine, and the embedded databases.

    Databases that settings do not name are embedded, with their data under data_dir. Ctrl-C stops everything.
    """
    from kopeck.run_all import run_all

    _logs(context.settings, "run")
    run_all(context.settings, context.config, demo=demo)


@cli.command()
@click.option("--status", "only_status", is_flag=True, help="Only say what is applied and what is pending.")
@pass_context
def migrate(context: Context, only_status: bool) -> None:
    """Bring the database to the schema this program needs. Needs database.owner_dsn."""
    from kopeck import migrate as migrations
    from kopeck.embedded import open_stores

    _logs(context.settings, "cli")
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


@cli.group()
def serve() -> None:
    """Run one process; for a service manager. `kopeck run` runs them all."""


@serve.command("gateway")
@click.option("--index", type=click.IntRange(0, 999), default=0, help="Which gateway of this host: its metrics port.")
@pass_context
def serve_gateway(context: Context, index: int) -> None:
    """The partner port. Several may run on one host and port."""
    _logs(context.settings, f"gateway-{index}")
    from kopeck.run_gateway import run_gateway

    run_gateway(context.settings, index)


@serve.command("web")
@pass_context
def serve_web(context: Context) -> None:
    """The pages for people."""
    _logs(context.settings, "web")
    from kopeck.run_web import run_web

    run_web(context.settings)


@serve.command("relay")
@pass_context
def serve_relay(context: Context) -> None:
    """The way from the database to the journal. Several may run."""
    _logs(context.settings, "relay")
    from kopeck.run_relay import run_relay

    run_relay(context.settings)


@cli.command()
@pass_context
def demo(context: Context) -> None:
    """Print addresses of the Kopeck that runs here, the demo's login, and three requests with fresh ids."""
    from kopeck.embedded import attach
    from kopeck.run_all import announcement

    attach(context.settings)  # or there is nothing to play with
    click.echo(announcement(context.settings, context.config))


@cli.command()
@click.option("--markdown", is_flag=True, help="The table of docs/operators.md instead, with the defaults.")
@pass_context
def settings(context: Context, markdown: bool) -> None:
    """Show every setting with its present value."""
    from kopeck.cli_context import show_table
    from kopeck.settings import documented_settings, effective_settings

    if markdown:
        click.echo("| setting | environment | default | meaning |\n| --- | --- | --- | --- |")
        for doc in documented_settings():
            click.echo(f"| `{doc.name}` | `{doc.environment}` | {doc.default} | {doc.meaning} |")
        return
    show_table(("setting", "value", "meaning"), [tuple(row) for row in effective_settings(context.settings)])


def register() -> None:
    """Hang the groups of the other modules on the command."""
    from kopeck.cli_accounts import account
    from kopeck.cli_ageing import ageing
    from kopeck.cli_attempts import attempts
    from kopeck.cli_bill import bill
    from kopeck.cli_catalog import catalog, rate
    from kopeck.cli_customers import customer
    from kopeck.cli_invoices import invoice
    from kopeck.cli_journal import journal, verify
    from kopeck.cli_orders import order
    from kopeck.cli_partners import partner
    from kopeck.cli_usage import usage
    from kopeck.cli_users import user
    from kopeck.cli_whatif import whatif

    people, money = (account, customer, order, partner, user), (ageing, bill, catalog, invoice, rate, usage, whatif)
    for command in (*people, *money, attempts, verify, journal):
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``kopeck`` command; ``arguments`` stand in for those of the process. Always exits."""
    register()
    try:
        sys.exit(cli.main(arguments, prog_name="kopeck", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except SettingsError as error:
        _fail(str(error), 2)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        _fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """A sentence and an exit status for what a command raised; imports only what has been imported anyway."""
    from billing.accounts import AccountError
    from billing.invoices import InvoiceError
    from gateway.contracts import ContractError
    from kopeck.embedded_postgres import EmbeddedError
    from kopeck.migrate import MigrateError
    from kopeck.process import ProcessError
    from kopeck.transactions import CommandFailed
    from web.users import UserError

    if isinstance(error, AccountError | ContractError | InvoiceError | UserError):
        return str(error), 2
    if isinstance(error, EmbeddedError | MigrateError | ProcessError | CommandFailed):
        return str(error), 1
    if isinstance(error, OSError):
        return str(error), 1
    place = f"{type(error).__name__} at {_place(error)}"
    return f"internal error, please report it: {place}: {error}", 1


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _fail(message: str, status: int) -> None:
    click.echo(f"kopeck: {message}", err=True)
    sys.exit(status)


def _logs(settings: Settings, process: str) -> None:
    from kopeck.logs import configure_logs

    configure_logs(settings.log, process)
