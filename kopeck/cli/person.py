"""Who acts at the terminal: a user of ours who gives a password, or the operating system's user.

What is proven. With ``--as LOGIN`` the login and the password of an active user: as sure as a sign-in to the pages,
with the same count of wrong tries. Without it only what the operating system says of this process, its user id: who may
become that user (root may become any) acts under its name. Environment variables prove nothing; ``SUDO_USER`` is kept
in the audit record as a claim. Neither binds a person who holds the database's own password.

Does not know: what the person does.
"""

import os
import pwd
import sys
from typing import Any

import click

from billing.database.cursors import Cursor
from billing.ledger.posting_requests import Person
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import in_transaction
from web.access.audit import record
from web.access.rights import Right
from web.access.throttle import TooManyTries
from web.access.users import PasswordExpired, UserError, authenticate, user_by_login

AS_LOGIN = click.option(
    "--as", "login", metavar="LOGIN", help="Act as this user; the password is asked for, or read from standard input."
)


def os_actor() -> str:
    """How records name the operating system's user of this process; by its id, which no environment changes."""
    try:
        return f"system:cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # an id without a name, as in some containers
        return f"system:cli:uid-{os.getuid()}"


def person_at(stores: Stores, login: str | None, right: Right) -> Person:
    """The person who acts; with a login after its password was right. Commits what it counts before it answers.

    Raises:
        UserError: wrong login or password, a password that has to be replaced first, or no role with the right.
    """
    if login is None:
        return Person(os_actor(), "os")
    password = _asked_password(login)
    try:
        user = in_transaction(stores.dsn, lambda cur: _signed_in(cur, login, password))
    except TooManyTries as error:
        raise UserError(f"too many tries: the next one in {error.wait_s} s") from error
    except PasswordExpired as error:
        raise UserError(f"the temporary password of {login} has expired") from error
    if user is None:
        raise UserError("login or password is wrong, or the login is disabled")
    if user.password_is_temporary:
        raise UserError(f"{user.login} has to replace the temporary password at a sign-in first")
    if not user.access.may(right):
        raise UserError(f"{user.login} has no role with the right {right.value}")
    return Person(user.actor, "password")


def claims() -> dict[str, str]:
    """What the environment says of the person, for the audit record: nothing of it is proven."""
    told = {"os": os_actor(), "sudo_user": os.environ.get("SUDO_USER", "")[:64]}
    return {name: value for name, value in told.items() if value}


async def _signed_in(cur: Cursor, login: str, password: str) -> Any:
    user = await authenticate(cur, login, password, "terminal")
    if user is None:
        known = await user_by_login(cur, login)  # a login that is none may be a password typed into the wrong place
        await record(cur, os_actor(), "sign_in_failed", "", "user" if known else "", known.login if known else "")
    return user


def _asked_password(login: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {login}", hide_input=True))
    return sys.stdin.readline().rstrip("\r\n")
