"""Users of these pages: the list, one more, and one of them with roles, sessions and state.

Rules. A change and its entry in the audit record are one transaction. A password an administrator gives is random,
shown once and replaced at the first sign-in, so nobody knows another person's password. Nobody changes himself here.

Does not know: how passwords are kept, who may give which role (web/access/users.py).
"""

from collections.abc import Mapping
from typing import Any

from tornado.web import HTTPError

from billing.database.cursors import Cursor
from billing.language import N_
from web.access.audit import changed_facts
from web.access.rights import Right
from web.access.roles import AccessError, list_roles
from web.access.sessions import end_session_of, end_sessions_of, list_sessions
from web.access.users import (
    User,
    UserError,
    add_user,
    list_users,
    set_password,
    set_roles,
    set_state,
    temporary_password,
    user_by_login,
)
from web.site.page import Page
from web.site.templates import role_words

_NOT_YOURSELF = N_("You cannot disable or demote yourself: ask another administrator.")


class UsersPage(Page):
    """/users: the list, and one more."""

    needs = Right.USERS_MANAGE
    section = "users"

    async def get(self) -> None:
        """The list."""
        async with self.site.cursor() as cur:
            await self.record("users_listed", "", "", cur)
        await self._show()

    async def post(self) -> None:
        """Add a user with a temporary password, shown on the page that answers and never again."""
        login, roles = self.get_body_argument("login", "")[:100], self.get_body_arguments("role")
        password = temporary_password()
        try:
            async with self.site.transaction() as cur:
                by = self.access
                user = await add_user(cur, login, password, roles, temporary=True, by=by, actor=self.actor.name)
                changes = changed_facts({}, {"roles": keys(user)})
                await self.record("user_added", "user", user.login, cur, changes=changes)
        except (UserError, AccessError) as error:
            self.set_status(400)
            field = "role" if isinstance(error, AccessError) else "login"
            await self._show(typed=(login, roles), errors={field: self.refusal(error)})
            return
        await self._show(given=(user.login, password))

    async def _show(
        self,
        *,
        typed: tuple[str, list[str]] = ("", []),
        errors: Mapping[str, str] | None = None,
        given: tuple[str, str] | None = None,
    ) -> None:
        """typed, errors: what stands in the form, and what is wrong with it. given: a login and its new password."""
        async with self.site.cursor() as cur:
            users, rows = await list_users(cur), await list_roles(cur)
        roles = [row.role for row in rows]
        values: dict[str, Any] = {"typed": typed, "errors": errors or {}, "given": given}
        await self.show("users.html", users=users, roles=roles, **values)


class UserPage(Page):
    """/users/LOGIN: one of them, and changes of it."""

    needs = Right.USERS_MANAGE
    section = "users"

    async def get(self, login: str) -> None:
        """Roles, state and sessions."""
        await self._show(login)

    async def post(self, login: str) -> None:
        """roles, active, disabled, password or sessions: what the pressed button is named."""
        try:
            password = await self._change(login, self.get_body_argument("do", ""))
        except (UserError, AccessError) as error:
            self.set_status(400)
            await self._show(login, wrong=self.refusal(error))
            return
        if password is not None:
            await self._show(login, password=password)
            return
        self.redirect(f"/users/{login}", status=303)

    async def _change(self, login: str, what: str) -> str | None:
        """Do it; returns a new password to show, if one was made."""
        if login == self.user.login:
            raise UserError(_NOT_YOURSELF)
        values: dict[str, str] = {}
        async with self.site.transaction() as cur:
            if await user_by_login(cur, login) is None:
                raise HTTPError(404)
            if what == "roles":
                text, values = await self._set_roles(cur, login)
            elif what in ("disabled", "active"):
                text = await self._set_state(cur, login, what)
            elif what == "sessions":
                text = await self._end_sessions(cur, login)
            elif what == "password":
                return await self._reset(cur, login)
            else:
                raise HTTPError(400)
        await self.notify(text, login=login, **values)
        return None

    async def _set_roles(self, cur: Cursor, login: str) -> tuple[str, dict[str, str]]:
        wanted = self.get_body_arguments("role")
        had = self.get_body_arguments("had") or None
        before, after = await set_roles(cur, login, wanted, by=self.access, actor=self.actor.name, had=had)
        changes = changed_facts({"roles": keys(before)}, {"roles": keys(after)})
        await self.record("user_role_set", "user", login, cur, changes=changes)
        return N_("Roles of %(login)s: %(role)s."), {"role": role_words(self.spoken, after.roles)}

    async def _set_state(self, cur: Cursor, login: str, state: str) -> str:
        user = await set_state(cur, login, state, by=self.access)
        await end_sessions_of(cur, user.id)
        await self.record("user_state_set", "user", login, cur, state=state)
        return N_("%(login)s is disabled, sessions ended.") if state == "disabled" else N_("%(login)s is enabled.")

    async def _end_sessions(self, cur: Cursor, login: str) -> str:
        await self.demand(Right.SESSIONS_MANAGE)
        user = await user_by_login(cur, login)
        assert user is not None
        number = self.get_body_argument("session", "")
        if number.isascii() and number.isdecimal() and len(number) < 19:
            await end_session_of(cur, user.id, int(number))
        else:
            await end_sessions_of(cur, user.id)
        await self.record("sessions_ended", "user", login, cur, sessions=number or "all")
        return N_("Sessions of %(login)s are ended.")

    async def _reset(self, cur: Cursor, login: str) -> str:
        password = temporary_password()
        user = await set_password(cur, login, password, temporary=True, by=self.access)
        await end_sessions_of(cur, user.id)
        await self.record("user_password_reset", "user", login, cur)
        return password

    async def _show(self, login: str, *, wrong: str = "", password: str = "") -> None:
        """wrong: what failed. password: a new one, to be shown this once."""
        async with self.site.cursor() as cur:
            person, rows = await user_by_login(cur, login), await list_roles(cur)
            if person is None:
                raise HTTPError(404)
            sees = self.may(Right.SESSIONS_MANAGE)
            sessions = await list_sessions(cur, person.id, self.site.options.idle_minutes) if sees else []
        roles = [row.role for row in rows]
        values = {"sessions": sessions, "wrong": wrong, "password": password}
        await self.show("user.html", person=person, roles=roles, is_me=person.id == self.user.id, **values)


def keys(user: User) -> list[str]:
    """Names of a user's roles, in order."""
    return sorted(role.key for role in user.roles)
