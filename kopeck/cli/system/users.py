"""``kopeck user`` and ``kopeck role``: people who sign in to the pages, and what their roles let them do.

Rules. A password is asked for at the terminal, read from standard input where there is none, or made here; never on
the command line, where others could see it.

Does not know: who may give which role (web.access).
"""

import secrets
import sys
from datetime import UTC, datetime
from typing import Any

import click

from billing.database.cursors import Cursor
from kopeck.cli.context import Context, pass_context, show_table, shown_time
from kopeck.cli.person import typed_line
from ratingcore.money import format_minor, parse_minor
from web.access.actors import Actor
from web.access.approval_kinds import ROLE, approval_kinds
from web.access.approvals import Ending, Outcome, request_or_act
from web.access.audit import changed_facts, record_as
from web.access.rights import RIGHTS, Right, right_of
from web.access.roles import AccessError, RoleRow, list_roles
from web.access.sessions import end_sessions_of
from web.access.users import User, add_user, list_users, set_password, set_roles, set_state, temporary_password

ROLES_OPTION = click.option(
    "--role", "roles", multiple=True, default=("viewer",), show_default=True, help="By name; several add up."
)


@click.group()
def user() -> None:
    """People who sign in to the pages."""


@user.command()
@click.argument("login")
@ROLES_OPTION
@click.option("--generate", is_flag=True, help="Make a password, print it, and have it changed at the first sign-in.")
@pass_context
def add(context: Context, login: str, roles: tuple[str, ...], generate: bool) -> None:
    """Add a person; the password is asked for, or read from standard input."""

    async def work(cur: Cursor, who: Actor) -> User:
        added = await add_user(cur, login, password, roles, temporary=generate, by=who.access, actor=who.name)
        changes = changed_facts({}, {"roles": _keys(added)})
        await record_as(cur, who, "user_added", "user", added.login, changes)
        return added

    with context.stores() as stores:  # who acts is asked for his password before the new one is
        context.actor(stores, Right.USERS_MANAGE)
        password = temporary_password() if generate else _asked_password()
    added = context.act(Right.USERS_MANAGE, work)
    click.echo(f"user {added.login} is added as {', '.join(_keys(added))}")
    if generate:
        click.echo(password)


@user.command()
@click.argument("login")
@click.option("--generate", is_flag=True, help="Make a password, print it, and have it changed at the next sign-in.")
@pass_context
def passwd(context: Context, login: str, generate: bool) -> None:
    """Replace a password, lift a lock and end the person's sessions."""

    async def work(cur: Cursor, who: Actor) -> None:
        changed = await set_password(cur, login, password, temporary=generate, by=who.access)
        await end_sessions_of(cur, changed.id)
        await record_as(cur, who, "user_password_reset", "user", changed.login)

    with context.stores() as stores:
        context.actor(stores, Right.USERS_MANAGE)
        password = temporary_password() if generate else _asked_password()
    context.act(Right.USERS_MANAGE, work)
    click.echo(f"user {login} has a new password; earlier sign-ins are ended")
    if generate:
        click.echo(password)


@user.command()
@click.argument("login")
@click.argument("roles", metavar="ROLE...", nargs=-1, required=True)
@pass_context
def roles(context: Context, login: str, roles: tuple[str, ...]) -> None:
    """Give a person these roles and no others; from the next request on."""

    async def work(cur: Cursor, who: Actor) -> User:
        before, after = await set_roles(cur, login, roles, by=who.access, actor=who.name)
        changes = changed_facts({"roles": _keys(before)}, {"roles": _keys(after)})
        await record_as(cur, who, "user_role_set", "user", after.login, changes)
        return after

    changed = context.act(Right.USERS_MANAGE, work)
    click.echo(f"user {changed.login} has the roles {', '.join(_keys(changed))}")


@user.command()
@click.argument("login")
@pass_context
def disable(context: Context, login: str) -> None:
    """Let a person sign in no more, and end his sessions; tokens open nothing meanwhile."""
    _set_state(context, login, "disabled")


@user.command()
@click.argument("login")
@pass_context
def enable(context: Context, login: str) -> None:
    """Let a person sign in again."""
    _set_state(context, login, "active")


def _set_state(context: Context, login: str, state: str) -> None:
    async def work(cur: Cursor, who: Actor) -> None:
        changed = await set_state(cur, login, state, by=who.access)
        await end_sessions_of(cur, changed.id)
        await record_as(cur, who, "user_state_set", "user", changed.login, state=state)

    context.act(Right.USERS_MANAGE, work)
    click.echo(f"user {login} is {state}")


@user.command("list")
@pass_context
def list_(context: Context) -> None:
    """List people with roles, state and last sign-in."""
    show_table(
        ("login", "roles", "state", "last sign-in"),
        [
            (person.login, ", ".join(_keys(person)), person.state, shown_time(person.signed_in_at))
            for person in context.in_transaction(list_users)
        ],
    )


@click.group()
def role() -> None:
    """Roles: which rights people have, and which of them wait for a second person."""


@role.command("list")
@pass_context
def list_roles_(context: Context) -> None:
    """List roles with the number of people who have them."""
    show_table(
        ("role", "rights", "people", "version", "changed by", "changed"),
        [
            (
                *(row.role.key, str(len(row.role.rights)), str(row.people), str(row.version)),
                *(row.changed_by, shown_time(row.changed_at)),
            )
            for row in context.in_transaction(list_roles)
        ],
        right=("rights", "people", "version"),
    )


@role.command()
@click.argument("name", required=False)
@pass_context
def show(context: Context, name: str | None) -> None:
    """Show what a role grants; without NAME, every right there is."""
    row = context.in_transaction(lambda cur: _role_named(cur, name)) if name else None
    show_table(
        ("right", "menu", "what it allows", "second person"),
        [
            (right.value, note.menu, note.words, _limit_words(row, right))
            for right, note in RIGHTS.items()
            if row is None or right in row.role.rights
        ],
    )


@role.command("set")
@click.argument("name")
@click.option("--right", "rights", multiple=True, help="Every right it shall grant; `kopeck role show` lists them.")
@click.option(
    "--above",
    "limits",
    multiple=True,
    metavar="RIGHT=SUM",
    help="A second person above it; 0: always.",
)
@click.option("--legal-entity", "entities", multiple=True, metavar="NUMBER", help="Only for this one; several may be.")
@click.option("--why", default="by the command", help="The reason, for a second person and the record.")
@pass_context
def set_role(
    context: Context,
    name: str,
    rights: tuple[str, ...],
    limits: tuple[str, ...],
    entities: tuple[str, ...],
    why: str,
) -> None:
    """Make a role, or change what it grants to exactly this."""
    wanted = {"name": name, "rights": rights, "limits": _limits(limits), "entities": entities}
    _write(context, name, wanted, why)


@role.command("remove")
@click.argument("name")
@click.option("--why", default="by the command", help="The reason, for a second person and the record.")
@pass_context
def remove_role(context: Context, name: str, why: str) -> None:
    """Remove a role that nobody has."""
    _write(context, name, {"remove": True, "name": name}, why)


def _write(context: Context, name: str, wanted: dict[str, Any], why: str) -> None:
    async def work(cur: Cursor, who: Actor) -> Outcome:
        row = next((row for row in await list_roles(cur) if row.role.key == name), None)
        if row is None and wanted.get("remove"):
            raise AccessError(f"there is no role {name[:40]!r}")
        arguments = {"role": row and row.role.id, "version": row and row.version, **wanted}
        kinds = approval_kinds(context.settings.billing.second_person_above_minor)
        key = secrets.token_hex(16)
        return await request_or_act(cur, kinds, ROLE, arguments, who, key=key, why=why, now=datetime.now(UTC))

    outcome = context.act(Right.ROLES_MANAGE, work)
    if outcome.ending is Ending.WAITS and outcome.approval is not None:
        number = outcome.approval.id
        click.echo(f"request {number} waits for a second person: kopeck --as LOGIN approval approve {number}")
        return
    click.echo(f"role {name} is {'removed' if wanted.get('remove') else 'set'}")


async def _role_named(cur: Cursor, name: str) -> RoleRow:
    rows = {row.role.key: row for row in await list_roles(cur)}
    if name not in rows:
        raise AccessError(f"there is no role {name[:40]!r}; there are {', '.join(rows)}")
    return rows[name]


def _limits(pairs: tuple[str, ...]) -> dict[str, int]:
    limits = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or right_of(name) is None:
            raise click.UsageError(f"{pair[:60]!r} is not RIGHT=SUM, such as money.post=5000")
        try:
            limits[name] = int(parse_minor(text))
        except ValueError as error:
            raise click.UsageError(f"{pair[:60]!r}: {error}") from error
    return limits


def _limit_words(row: RoleRow | None, right: Right) -> str:
    above = row.role.limits.get(right) if row else None
    if above is None:
        return ""
    return f"above {format_minor(above)}" if above else "always"


def _keys(person: User) -> list[str]:
    return sorted(role.key for role in person.roles)


def _asked_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return typed_line()
