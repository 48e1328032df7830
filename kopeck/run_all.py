"""Composition root of `kopeck run`: databases, schema, demo data, then the processes, until Ctrl-C.

Does not know: how each of them does its work.
"""

import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog

from kopeck import migrate
from kopeck.demo import LOGIN, demo_lines, demo_password, make_demo
from kopeck.embedded import Stores, host_stores
from kopeck.exposure import require_no_failpoints, warn_of_root
from kopeck.settings import Settings
from kopeck.supervisor import Supervisor

#: What to try of billing; the demo's first invoice has that number.
BILLING_LINES = ("invoice list", "invoice pdf I-000001", "invoice explain I-000001")

log = structlog.get_logger("kopeck.run")


def run_all(settings: Settings, config: str | None, demo: bool | None) -> None:
    """Everything on this machine, until SIGINT or SIGTERM.

    demo: fill an empty database with demo data; None does so where PostgreSQL is embedded.
    """
    require_no_failpoints(settings, os.environ)
    warn_of_root(os.geteuid())
    with host_stores(settings) as (stores, servers):
        _bring_up_to_date(stores)
        wants_demo = servers.postgres is not None if demo is None else demo
        if wants_demo and make_demo(settings, stores.dsn):
            log.info("demo_data_made", folder=str(settings.data_path()))
        supervisor = Supervisor(settings, servers, config)
        try:
            if supervisor.start():
                click.echo(f"\nKopeck is running.\n{announcement(settings, config)}")
                supervisor.watch()
        finally:
            log.info("stopping")
            supervisor.stop()


def announcement(settings: Settings, config: str | None = None) -> str:
    """Where everything is, for the person who started it. config: the settings file that was named, if any."""
    web_scheme = "https" if settings.web.tls_cert else "http"
    gateway_scheme = "https" if settings.gateway.tls_cert else "http"
    lines = [
        f"  pages      {web_scheme}://{settings.web.host}:{settings.web.port}/",
        f"  partners   {gateway_scheme}://{settings.gateway.host}:{settings.gateway.port}/pay/CODE",
    ]
    password = demo_password(settings)
    if password:
        check, pay, signed = demo_lines(settings, datetime.now(UTC))
        command = _typed_command(config)
        lines += [
            f"  sign in    {LOGIN} / {password}",
            *(
                ()
                if sys.stdout.isatty()
                else ("  note       this output holds passwords of the demo: keep it to yourself",)
            ),
            "",
            "Play an aggregator. OSMP asks whether an account may be paid, then pays:",
            f"  {check}",
            f"  {pay}",
            "CyberPlat pays, signed with its key:",
            f"  {signed}",
            "",
            "Send a line again: the answer is the same and the money moves once. `kopeck demo` prints fresh lines.",
            "",
            "Last month is billed. Look at its invoices, at one of them on paper, and at where its numbers come from:",
            *(f"  {command} {words}" for words in BILLING_LINES),
        ]
    return "\n".join([*lines, "Ctrl-C stops everything.", ""])


def _typed_command(config: str | None) -> str:
    """How this very command was called, so that a printed line works in the same shell."""
    command = sys.argv[0] if Path(sys.argv[0]).name == "kopeck" else "kopeck"
    return f"{command} --config {shlex.quote(config)}" if config else command


def _bring_up_to_date(stores: Stores) -> None:
    if stores.owner_dsn:
        for name in migrate.migrate(stores.owner_dsn):
            log.info("migrated", migration=name)
    else:
        migrate.require_current(stores.dsn)
