"""``kopeck user``: people who sign in to the pages.

Rules. A password is asked for at the terminal, read from standard input where there is none, or made here; never on
the command line, where others could see it.

Does not know: what a role may do.
"""

import sys
from typing import Any

import click

from billing.database.cursors import Cursor
from kopeck.cli.context import Context, actor, pass_context, show_table, shown_time
from web.access.audit import record
from web.access.rights import EVERYTHING
from web.access.sessions import end_sessions_of
from web.access.users import add_user, list_users, set_password, temporary_password

ROLES = ("viewer", "operator", "administrator")


@click.group()
def user() -> None:
    """People who sign in to the pages."""


@user.command()
@click.argument("login")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option("--generate", is_flag=True, help="Make a password, print it, and have it changed at the first sign-in.")
@pass_context
def add(context: Context, login: str, role: str, generate: bool) -> None:
    """Add a person; the password is asked for, or read from standard input."""
    password = temporary_password() if generate else _asked_password()

    async def work(cur: Cursor) -> Any:
        added = await add_user(cur, login, password, role, temporary=generate, by=EVERYTHING, actor=actor())
        await record(cur, actor(), "user_added", "", "user", added.login, role=role)
        return added

    added = context.in_transaction(work)
    click.echo(f"user {added.login} is added as {role}")
    if generate:
        click.echo(password)


@user.command()
@click.argument("login")
@click.option("--generate", is_flag=True, help="Make a password, print it, and have it changed at the next sign-in.")
@pass_context
def passwd(context: Context, login: str, generate: bool) -> None:
    """Replace a password, lift a lock and end the person's sessions."""
    password = temporary_password() if generate else _asked_password()

    async def work(cur: Cursor) -> None:
        changed = await set_password(cur, login, password, temporary=generate)
        await end_sessions_of(cur, changed.id)
        await record(cur, actor(), "user_password_reset", "", "user", changed.login)

    context.in_transaction(work)
    click.echo(f"user {login} has a new password; earlier sign-ins are ended")
    if generate:
        click.echo(password)


@user.command("list")
@pass_context
def list_(context: Context) -> None:
    """List people with role, state and last sign-in."""
    show_table(
        ("login", "role", "state", "last sign-in"),
        [
            (one.login, ", ".join(role.key for role in one.roles), one.state, shown_time(one.signed_in_at))
            for one in context.in_transaction(list_users)
        ],
    )


def _asked_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
