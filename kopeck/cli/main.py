"""The ``kopeck`` command: everything an operator does without a browser.

Rules. One clear sentence on standard error for what went wrong, never a traceback: status 2 when the input was wrong
(`Refusal`), 1 when the work failed (`Unavailable`). Results go to standard output. A command's module is imported when
the command is called (kopeck.cli.lazy), so that ``--help`` is quick.

Does not know: SQL, protocols; each command calls the room that does.
"""

import sys
from collections.abc import Sequence
from typing import Final

import click

from billing.refusals import Refusal, Unavailable
from kopeck.cli.context import Context
from kopeck.cli.lazy import Lazy, LazyGroup

#: Every command: where it stands, and its line in `kopeck --help`. Without a line: an alias.
COMMANDS: Final = {
    # money.py hangs further commands on the group of accounts.py, so the group is taken from there
    "account": Lazy("kopeck.cli.payments.money:account", "Subscribers' accounts, and money posted by hand."),
    "approval": Lazy("kopeck.cli.people.approvals:approval", "What waits for a second person: see, approve, refuse."),
    "attempts": Lazy("kopeck.cli.payments.attempts:attempts", "Calls that changed no payment: delete old ones."),
    "bill": Lazy("kopeck.cli.billing.bill:bill", "The billing cycle: orders become invoices."),
    "catalog": Lazy("kopeck.cli.billing.catalogue:catalogue"),
    "catalogue": Lazy("kopeck.cli.billing.catalogue:catalogue", "Tariffs: items, plans, prices, promotions."),
    "customer": Lazy("kopeck.cli.people.customers:customer", "Customers: who buys, who pays, who sells to them."),
    "delivery": Lazy("kopeck.cli.system.deliveries:delivery", "Deliveries: webhooks and mail, their queues and log."),
    "demo": Lazy("kopeck.cli.system.demo:demo", "What runs here: processes, addresses, requests to try."),
    "dunning": Lazy("kopeck.cli.billing.dunning:dunning", "What happens to those who do not pay."),
    "invoice": Lazy("kopeck.cli.billing.invoices:invoice", "Invoices and credit notes."),
    "job": Lazy("kopeck.cli.system.jobs:jobs", "Background jobs: how they go, what they told and made."),
    "journal": Lazy("kopeck.cli.payments.journal:journal", "The payment journal that people search."),
    "mail": Lazy("kopeck.cli.system.webhooks:mail", "Mail: send a letter to try the mail server."),
    "migrate": Lazy("kopeck.cli.system.migrate:migrate", "Bring the database to the schema of this program."),
    "order": Lazy("kopeck.cli.people.orders:order", "Orders: plans and items that customers have ordered."),
    "partner": Lazy("kopeck.cli.partners.partners:partner", "Partners: their contracts and keys."),
    "rate": Lazy("kopeck.cli.billing.catalogue:rate", "Rate a usage file under a catalogue file."),
    "role": Lazy("kopeck.cli.system.users:role", "Roles: which rights people have."),
    "run": Lazy("kopeck.cli.system.run:run", "Run everything on this machine."),
    "schedule": Lazy("kopeck.cli.system.schedules:schedule", "When jobs begin by themselves."),
    "serve": Lazy("kopeck.cli.system.serve:serve", "Run one process with the roles named."),
    "settings": Lazy("kopeck.cli.system.settings:settings", "Show every setting with its present value."),
    "usage": Lazy("kopeck.cli.billing.usage:usage", "Files of usage: what subscribers used."),
    "user": Lazy("kopeck.cli.system.users:user", "People who sign in to the pages."),
    "verify": Lazy("kopeck.cli.system.verify:verify", "Check that money, usage and the journal add up."),
    "webhook": Lazy("kopeck.cli.system.webhooks:webhook", "Endpoints that are told of events by webhooks."),
    "whatif": Lazy("kopeck.cli.billing.whatif:whatif", "Rate a month again under a draft catalogue."),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--config", metavar="FILE", help="Settings file (TOML); else KOPECK_CONFIG, else ./kopeck.toml.")
@click.option(
    "--as",
    "login",
    metavar="LOGIN",
    envvar="KOPECK_ACTOR",
    help="Act as this user of the pages; else KOPECK_ACTOR, else the user of the token in KOPECK_TOKEN.",
)
@click.version_option(package_name="kopeck", message="kopeck %(version)s")
@click.pass_context
def cli(context: click.Context, config: str | None, login: str | None) -> None:
    """Kopeck accepts payments from aggregators and bills subscribers.

    `kopeck run` starts everything on this machine: gateways for partners, one process of back-office work, one of
    pages, and the databases that settings do not name; `kopeck demo` says what runs. Settings: docs/operators.md.
    """
    context.obj = Context(config, login)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``kopeck`` command; ``arguments`` stand in for those of the process. Always exits."""
    try:
        sys.exit(cli.main(arguments, prog_name="kopeck", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.UsageError as error:
        error.show()  # with the command's usage
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left
        sys.exit(1)
    except Refusal as error:
        _fail(str(error), 2)
    except (Unavailable, OSError) as error:
        _fail(str(error), 1)
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        _fail(f"internal error, please report it: {type(error).__name__} at {_place(error)}: {error}", 1)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _fail(message: str, status: int) -> None:
    click.echo(f"kopeck: {message}", err=True)
    sys.exit(status)
