"""Users of these pages: the list, one more, and changes of one.

Rules. An administrator's alone. A change and its entry in the audit record are one transaction. A password an
administrator gives is random, shown once and replaced at the first sign-in, so nobody knows another person's password.

Does not know: how passwords are kept.
"""

from collections.abc import Mapping

from tornado.web import HTTPError

from billing.database.cursors import Cursor
from web.access.sessions import end_sessions_of
from web.access.users import (
    Role,
    User,
    UserError,
    add_user,
    list_users,
    set_password,
    set_role,
    set_state,
    temporary_password,
    user_by_login,
)
from web.site.page import Page


class UsersPage(Page):
    """/users: the list, and one more."""

    needs = Role.ADMINISTRATOR
    section = "users"

    async def get(self) -> None:
        """The list."""
        async with self.site.cursor() as cur:
            await self.record("users_listed", "", "", cur)
        await show_users(self)

    async def post(self) -> None:
        """Add a user with a temporary password, shown on the page that answers and never again."""
        typed = {name: self.get_body_argument(name, "")[:100] for name in ("login", "role")}
        password = temporary_password()
        try:
            async with self.site.transaction() as cur:
                user = await add_user(cur, typed["login"], password, typed["role"], temporary=True)
                await self.record("user_added", "user", user.login, cur, role=user.role.value)
        except UserError as error:
            self.set_status(400)
            errors = {"role" if error.key == "user.error.role" else "login": error.key}
            await show_users(self, typed=typed, errors=errors)
            return
        await show_users(self, given=(user.login, password))


class UserPage(Page):
    """POST /users/LOGIN: change one."""

    needs = Role.ADMINISTRATOR
    section = "users"

    async def get(self, login: str) -> None:
        """There is no page of one user."""
        self.redirect("/users")

    async def post(self, login: str) -> None:
        """role, state or password: what the pressed button is named."""
        try:
            given = await self._change(login, self.get_body_argument("do", ""))
        except UserError as error:
            self.set_status(400)
            await show_users(self, wrong=error.key)
            return
        if given is not None:
            await show_users(self, given=given)
            return
        self.redirect("/users", status=303)

    async def _change(self, login: str, what: str) -> tuple[str, str] | None:
        if login == self.user.login:
            raise UserError("users.not_yourself", "an administrator does not change himself")
        async with self.site.transaction() as cur:
            if await user_by_login(cur, login) is None:
                raise HTTPError(404)
            if what == "role":
                user = await set_role(cur, login, self.get_body_argument("role", ""))
                await self.record("user_role_set", "user", login, cur, role=user.role.value)
                told = ("users.role_set", {"role": self.t(f"role.{user.role.value}")})
            elif what in ("disabled", "active"):
                user = await set_state(cur, login, what)
                await end_sessions_of(cur, user.id)
                await self.record("user_state_set", "user", login, cur, state=what)
                told = ("users.disabled" if what == "disabled" else "users.enabled", {})
            elif what == "password":
                return await self._reset(cur, login)
            else:
                raise HTTPError(400)
        await self.notify(told[0], login=login, **told[1])
        return None

    async def _reset(self, cur: Cursor, login: str) -> tuple[str, str]:
        password = temporary_password()
        user: User = await set_password(cur, login, password, temporary=True)
        await end_sessions_of(cur, user.id)
        await self.record("user_password_reset", "user", login, cur)
        return login, password


async def show_users(
    page: Page,
    *,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    given: tuple[str, str] | None = None,
    wrong: str = "",
) -> None:
    """The list of users with the form.

    typed, errors: what stands in the form, and text keys of what is wrong with it. given: a login and its temporary
    password, to be shown this once. wrong: the text key of what failed.
    """
    async with page.site.cursor() as cur:
        users = await list_users(cur)
    values = {"typed": typed or {}, "errors": errors or {}, "given": given, "wrong": wrong}
    choices = [(role.value, f"{page.t(f'role.{role.value}')} — {page.t(f'role.{role.value}.may')}") for role in Role]
    await page.show("users.html", users=users, roles=list(Role), role_choices=choices, **values)
