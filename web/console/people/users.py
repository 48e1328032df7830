"""Users of these pages: the list, one more, and changes of one.

Rules. A change and its entry in the audit record are one transaction. A password an administrator gives is random,
shown once and replaced at the first sign-in, so nobody knows another person's password. Nobody changes himself here.

Does not know: how passwords are kept, who may give which role (web/access/users.py).
"""

from collections.abc import Iterable, Mapping

from tornado.web import HTTPError

from billing.database.cursors import Cursor
from billing.language import N_, Language
from web.access.rights import Right
from web.access.roles import AccessError, Role, list_roles
from web.access.sessions import end_sessions_of
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
from web.site.words import word


class UsersPage(Page):
    """/users: the list, and one more."""

    needs = Right.USERS_MANAGE
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
                user = await add_user(
                    cur, typed["login"], password, typed["role"], temporary=True, by=self.access, actor=self.user.actor
                )
                await self.record("user_added", "user", user.login, cur, role=user.roles[0].key)
        except (UserError, AccessError) as error:
            self.set_status(400)
            is_role = isinstance(error, AccessError)
            await show_users(self, typed=typed, errors={"role" if is_role else "login": self.refusal(error)})
            return
        await show_users(self, given=(user.login, password))


class UserPage(Page):
    """POST /users/LOGIN: change one."""

    needs = Right.USERS_MANAGE
    section = "users"

    async def get(self, login: str) -> None:
        """There is no page of one user."""
        self.redirect("/users")

    async def post(self, login: str) -> None:
        """role, state or password: what the pressed button is named."""
        try:
            given = await self._change(login, self.get_body_argument("do", ""))
        except (UserError, AccessError) as error:
            self.set_status(400)
            await show_users(self, wrong=self.refusal(error))
            return
        if given is not None:
            await show_users(self, given=given)
            return
        self.redirect("/users", status=303)

    async def _change(self, login: str, what: str) -> tuple[str, str] | None:
        """Do it; returns a new password to show, if one was made."""
        if login == self.user.login:
            raise UserError(N_("You cannot disable or demote yourself: ask another administrator."))
        async with self.site.transaction() as cur:
            if await user_by_login(cur, login) is None:
                raise HTTPError(404)
            if what == "role":
                wanted = [self.get_body_argument("role", "")]
                _, user = await set_roles(cur, login, wanted, by=self.access, actor=self.user.actor)
                await self.record("user_role_set", "user", login, cur, role=user.roles[0].key)
                values: dict[str, str]
                text, values = N_("Role of %(login)s: %(role)s."), {"role": role_words(self.spoken, user.roles)}
            elif what in ("disabled", "active"):
                user = await set_state(cur, login, what, by=self.access)
                await end_sessions_of(cur, user.id)
                await self.record("user_state_set", "user", login, cur, state=what)
                text = (
                    N_("%(login)s is disabled, sessions ended.") if what == "disabled" else N_("%(login)s is enabled.")
                )
                values = {}
            elif what == "password":
                return await self._reset(cur, login)
            else:
                raise HTTPError(400)
        await self.notify(text, login=login, **values)
        return None

    async def _reset(self, cur: Cursor, login: str) -> tuple[str, str]:
        password = temporary_password()
        user: User = await set_password(cur, login, password, temporary=True, by=self.access)
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

    typed, errors: what stands in the form, and what is wrong with it. given: a login and its temporary
    password, to be shown this once. wrong: what failed.
    """
    async with page.site.cursor() as cur:
        users, roles = await list_users(cur), await list_roles(cur)
    values = {"typed": typed or {}, "errors": errors or {}, "given": given, "wrong": wrong}
    names = [(row.role.key, role_words(page.spoken, row.role)) for row in roles]
    choices = role_choices(page.spoken, [row.role for row in roles])
    await page.show("users.html", users=users, role_names=names, role_choices=choices, **values)


def role_choices(language: Language, roles: Iterable[Role]) -> list[tuple[str, str]]:
    """(key, words) of every role that can be given; the system's own say what they may."""
    told = [(role, role_words(language, role)) for role in roles]
    return [
        (role.key, f"{words} — {word(language, 'role_rights', role.code)}" if role.code else words)
        for role, words in told
    ]
