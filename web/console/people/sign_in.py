"""Signing in and out, the language, and one's own password.

Rules. One message for every failed sign-in, so that it tells nobody which logins exist. A session begins with a new
token, and a changed password ends all the others and makes other browsers unknown. The place to go next is always on
this site.

Does not know: how passwords are kept (web/access/users.py), how often one may try (web/access/throttle.py).
"""

from billing.language import N_, languages
from web.access.passwords import MIN_PASSWORD_CHARS
from web.access.rights import Open
from web.access.sessions import begin_session, browser_words, end_session, end_sessions_of, tell_other_sessions
from web.access.throttle import KNOWN_BROWSER_DAYS, TooManyTries, forget_browsers
from web.access.users import (
    TEMPORARY_DAYS,
    PasswordExpired,
    User,
    UserError,
    set_locale,
    set_password,
)
from web.site.page import APPEARANCE, APPEARANCE_COOKIE, LANGUAGE_COOKIE, Page, safe_target
from web.site.site import SignInsBusy

_CHOICE_DAYS = 365
_NEW_BROWSER = N_(
    "Somebody signed in as you with a new browser: %(browser)s, %(address)s. If it was not you, end that session."
)


class SignInPage(Page):
    """/sign-in."""

    needs = Open.TO_EVERYONE

    async def get(self) -> None:
        """The form; those who are in already go on."""
        if self.session is not None:
            self.redirect(safe_target(self.get_query_argument("next", "")))
            return
        await self._ask("", "")

    async def post(self) -> None:
        """Try login and password."""
        login = self.get_body_argument("login", "")[:200]
        password = self.get_body_argument("password", "", strip=False)
        try:
            user, known, browser = await self.site.sign_in(login, password, self.address, self.browser)
        except SignInsBusy:
            await self._refuse(
                503, login, self._("Too many people are signing in at once. Try again in a few seconds.")
            )
            return
        except TooManyTries as error:
            self.set_header("Retry-After", str(error.wait_s))
            await self._refuse(
                429, login, self._("Too many tries. The next one in %(seconds)s s.", seconds=error.wait_s)
            )
            return
        except PasswordExpired:
            await self.record("sign_in_failed", "user", login.strip().lower(), reason="temporary password expired")
            expired = self.spoken.ngettext(
                "The temporary password was good for %(num)s day and has expired. Ask an administrator for a new one.",
                "The temporary password was good for %(num)s days and has expired. Ask an administrator for a new one.",
                TEMPORARY_DAYS,
            )
            await self._refuse(401, login, expired)
            return
        if user is None:
            # The login goes on record only where it exists: people type passwords into the wrong field.
            await self.record("sign_in_failed", "user" if known else "", known.login if known else "")
            await self._refuse(401, login, self._("Login and password do not match."))
            return
        await start_session(self, user, is_new_browser=browser != self.browser)
        self.put_cookie(self.browser_cookie, browser, same_site="Strict", days=KNOWN_BROWSER_DAYS)
        target = safe_target(self.get_body_argument("next", ""))
        typed = self._carried()
        if typed:  # a session ended in mid-form: the person sees what was typed and sends it, or not
            await self.show("send_again.html", target=target, typed=typed)
            return
        self.redirect(target, status=303)

    def _carried(self) -> list[tuple[str, str]]:
        names, values = (self.get_body_arguments(f"typed_{part}", strip=False) for part in ("name", "value"))
        return list(zip(names, values, strict=False))

    async def _refuse(self, status: int, login: str, error: str) -> None:
        self.set_status(status)
        await self._ask(login, error)

    async def _ask(self, login: str, error: str) -> None:
        target = safe_target(self.get_argument("next", ""))
        await self.show("sign_in.html", login=login, error=error, target=target, typed=self._carried())


class SignOutPage(Page):
    """POST /sign-out."""

    needs = Open.TO_EVERYONE

    async def post(self) -> None:
        """End this session; harmless where there is none."""
        if self.session is not None:
            async with self.site.transaction() as cur:
                await self.record("signed_out", "user", self.user.login, cur)
                await end_session(cur, self.session)
        self.clear_cookie(self.session_cookie, path="/")
        self.redirect("/sign-in", status=303)


class LanguagePage(Page):
    """POST /language."""

    needs = Open.TO_EVERYONE

    async def post(self) -> None:
        """Remember the language: in the user's row, and in a cookie for the sign-in page."""
        language = self.get_body_argument("language", "")
        if language in [known.code for known in languages()]:
            if self.session is not None:
                async with self.site.cursor() as cur:
                    await set_locale(cur, self.user.id, language)
            self.put_cookie(LANGUAGE_COOKIE, language, days=_CHOICE_DAYS)
        self.redirect(back_target(self.get_body_argument("next", "")), status=303)


class AppearancePage(Page):
    """POST /appearance."""

    needs = Open.TO_EVERYONE

    async def post(self) -> None:
        """Remember the colours or the height of lines, in this browser; what is no choice is as the system has it."""
        for of, choices in APPEARANCE.items():
            chosen = self.get_body_argument(of, "")
            if chosen in choices:
                self.put_cookie(APPEARANCE_COOKIE + of, chosen, days=_CHOICE_DAYS)
            elif chosen:
                self.clear_cookie(APPEARANCE_COOKIE + of, path="/")
        self.redirect(back_target(self.get_body_argument("next", "")), status=303)


class ProfilePage(Page):
    """/profile: one's own password."""

    needs = Open.TO_SIGNED_IN
    allows_temporary = True
    section = "profile"

    async def get(self) -> None:
        """Who I am, and the form."""
        await self._ask({})

    async def post(self) -> None:
        """Change the password; this browser gets a new session and every other one ends."""
        current, new, repeat = (
            self.get_body_argument(name, "", strip=False) for name in ("current", "password", "repeat")
        )
        errors = {"repeat": self._("The passwords differ")} if new != repeat else {}
        if new and new == current:
            errors["password"] = self._("The new password is the current one")
        user = None
        if not errors:
            try:
                if await self.site.check_password(self.user_session, current, self.address):
                    user = self.user
                else:
                    errors["current"] = self._("The current password does not match")
                    await self.record("password_change_failed", "user", self.user.login)
            except TooManyTries:
                await self._end("password_change_failed")
                return
        if user is not None:
            try:
                async with self.site.transaction() as cur:
                    user = await set_password(cur, user.login, new)
                    await end_sessions_of(cur, user.id)
                    await forget_browsers(cur, user.id)
                    await self.record("password_changed", "user", user.login, cur)
            except UserError as error:
                errors["password"] = self.refusal(error)
                user = None
        if errors or user is None:
            self.set_status(400)
            await self._ask(errors)
            return
        await start_session(self, user)
        await self.notify(N_("Password changed, other sessions ended."))
        self.redirect("/payments", status=303)

    async def _end(self, action: str) -> None:
        """A session that guesses its own password is over."""
        async with self.site.transaction() as cur:
            await self.record(action, "user", self.user.login, cur, reason="too many tries, signed out")
            await end_session(cur, self.user_session)
        self.clear_cookie(self.session_cookie, path="/")
        self.redirect("/sign-in", status=303)

    async def _ask(self, errors: dict[str, str]) -> None:
        await self.show("profile.html", errors=errors, chars=MIN_PASSWORD_CHARS)


def back_target(target: str) -> str:
    """Back to where a switch stood; the sign-in page is such a place too, though no target after signing in.

    >>> back_target("/sign-in?next=/audit"), back_target("//evil.example")
    ('/sign-in', '/payments')
    """
    return "/sign-in" if target.startswith("/sign-in") else safe_target(target)


async def start_session(page: Page, user: User, *, is_new_browser: bool = False) -> None:
    """A session with a new token for this browser; the one it had ends.

    is_new_browser: the user never signed in with it before. His other sessions are told, in case it was not he.
    """
    agent = page.request.headers.get("User-Agent", "")
    async with page.site.transaction() as cur:
        if page.session is not None:
            await end_session(cur, page.session)
        token, page.session = await begin_session(
            cur, user, page.site.options.session_hours, page.address, agent, is_new_browser
        )
        told = {"browser": browser_words(agent), "address": page.address}
        if is_new_browser:
            await tell_other_sessions(cur, page.session, _NEW_BROWSER, {**told, "tone": "warn"})
        marks = {"browser": told["browser"], "is_new_browser": True} if is_new_browser else {}
        await page.record("signed_in", "user", user.login, cur, **marks)
    page.put_cookie(page.session_cookie, token)
