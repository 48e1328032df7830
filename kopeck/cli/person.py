"""Who acts at the terminal: a user of ours, by password or token, or the owner of this machine.

What is proven. With ``--as LOGIN`` (or KOPECK_ACTOR) the login and the password of an active user: as sure as a sign-in
to the pages, with the same count of wrong tries. With KOPECK_TOKEN a token of one: his rights, and of them those the
token was given. Without either only what the operating system says of this process, its user id: who may become that
user (root may become any) acts under its name. So without a person only the owner of the data folder acts, or root; and
with ``access.person_required`` only as long as no user administers. Environment variables prove nothing beyond the
token; ``SUDO_USER`` is kept in the audit record as a claim. None of this binds a person who holds the database's own
password.

Does not know: what the person does.
"""

import os
import pwd
import secrets
import sys
from typing import Any

import click

from billing.database.cursors import Cursor
from kopeck.databases.transactions import in_transaction
from kopeck.settings import Settings
from web.access.actors import Actor, actor_of, machine
from web.access.audit import record
from web.access.roles import AccessError, hold_access
from web.access.throttle import TooManyTries
from web.access.tokens import person_of_token
from web.access.users import PasswordExpired, User, UserError, authenticate, user_by_login

AS_LOGIN = click.option(
    "--as", "login", metavar="LOGIN", help="Act as this user; the password is asked for, or read from standard input."
)
TOKEN_VARIABLE = "KOPECK_TOKEN"


def os_actor() -> str:
    """How records name the operating system's user of this process; by its id, which no environment changes."""
    return f"system:cli:{_name_of(os.getuid())}"


def actor_at(settings: Settings, dsn: str, login: str | None) -> Actor:
    """Who acts; a user after his password or token was right. Commits what it counts before it answers.

    Raises:
        UserError: wrong login, password or token, or a password that has to be replaced first.
        AccessError: nobody is named, and who runs this is not the owner of the machine.
    """
    request_id = f"cli-{secrets.token_hex(6)}"
    if login:
        user = _proven(dsn, login)
        return actor_of(user, "password", request_id=request_id)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token:
        found = in_transaction(dsn, lambda cur: person_of_token(cur, token, "terminal"))
        if found is None:
            raise UserError(f"the token of {TOKEN_VARIABLE} is unknown, expired or revoked")
        return found
    _refuse_strangers(settings, dsn)
    return machine(os_actor(), request_id, claims())


def claims() -> dict[str, str]:
    """What the environment says of the person, for the audit record: nothing of it is proven."""
    told = {"os": os_actor(), "sudo_user": os.environ.get("SUDO_USER", "")[:64]}
    return {name: value for name, value in told.items() if value}


def typed_line() -> str:
    """A line of standard input, such as a password; what follows it is left to whoever reads on."""
    return sys.stdin.buffer.readline().decode("utf-8", "replace").rstrip("\r\n")


def _refuse_strangers(settings: Settings, dsn: str) -> None:
    folder, uid = settings.data_path(), os.geteuid()
    owner = folder.stat().st_uid if folder.exists() else uid
    if uid not in (0, owner):
        raise AccessError(
            f"{folder} belongs to {_name_of(owner)}: act as a user of the pages with --as LOGIN, or as its owner"
        )
    if settings.access.person_required and in_transaction(dsn, hold_access):
        raise AccessError("access.person_required is set: act as a user of the pages with --as LOGIN")


def _proven(dsn: str, login: str) -> User:
    password = _asked_password(login)
    try:
        user: User | None = in_transaction(dsn, lambda cur: _signed_in(cur, login, password))
    except TooManyTries as error:
        raise UserError(f"too many tries: the next one in {error.wait_s} s") from error
    except PasswordExpired as error:
        raise UserError(f"the temporary password of {login} has expired") from error
    if user is None:
        raise UserError("login or password is wrong, or the login is disabled")
    if user.password_is_temporary:
        raise UserError(f"{user.login} has to replace the temporary password at a sign-in first")
    return user


async def _signed_in(cur: Cursor, login: str, password: str) -> Any:
    user = await authenticate(cur, login, password, "terminal")
    if user is None:
        known = await user_by_login(cur, login)  # a login that is none may be a password typed into the wrong place
        await record(cur, os_actor(), "sign_in_failed", "", "user" if known else "", known.login if known else "")
    return user


def _asked_password(login: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {login}", hide_input=True, err=True))
    return typed_line()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an id without a name, as in some containers
        return f"uid-{uid}"
