"""What is a person's own: sessions and tokens, on the profile's page.

Rules. One ends and revokes what is one's own and nothing else. A token is shown once, on the page that answers, and
never again.

Does not know: the password (web/console/people/sign_in.py), what a token opens (web/access/tokens.py).
"""

from collections.abc import Mapping
from typing import Any

from tornado.web import HTTPError

from billing.language import N_
from web.access.rights import RIGHTS, Open
from web.access.roles import AccessError
from web.access.sessions import end_other_sessions, end_session_of, list_sessions
from web.access.tokens import list_tokens, make_token, revoke_token
from web.site.page import Page

_MAX_ID_DIGITS = 18


class OwnSessionsPage(Page):
    """/profile/sessions: where one is signed in."""

    needs = Open.TO_SIGNED_IN
    section = "profile"

    async def get(self) -> None:
        """The list."""
        async with self.site.cursor() as cur:
            sessions = await list_sessions(cur, self.user.id, self.site.options.idle_minutes)
        await self.show("own_sessions.html", sessions=sessions, here_id=self.user_session.id)

    async def post(self) -> None:
        """End one, or all but this one."""
        number = self.get_body_argument("session", "")
        async with self.site.transaction() as cur:
            if number == "others":
                await end_other_sessions(cur, self.user_session)
            elif _is_number(number):
                await end_session_of(cur, self.user.id, int(number))
            else:
                raise HTTPError(400)
            await self.record("sessions_ended", "user", self.user.login, cur, sessions=number)
        if number != str(self.user_session.id):
            await self.notify(N_("Sessions ended."))
        self.redirect("/profile/sessions", status=303)


class OwnTokensPage(Page):
    """/profile/tokens: what the command and programs sign in with."""

    needs = Open.TO_SIGNED_IN
    section = "profile"

    async def get(self) -> None:
        """The list and the form."""
        await self._show()

    async def post(self) -> None:
        """Make one, or revoke one."""
        number = self.get_body_argument("revoke", "")
        if number:
            await self._revoke(number)
            return
        typed = {name: self.get_body_argument(name, "")[:200] for name in ("name", "days")}
        rights, days = self.get_body_arguments("right"), typed["days"]
        try:
            async with self.site.transaction() as cur:
                given_days = int(days) if days.isascii() and days.isdecimal() and len(days) < 6 else 0
                text, token = await make_token(cur, self.user, typed["name"], rights, given_days)
                told: dict[str, Any] = {"token": token.prefix, "rights": list(token.rights)}
                told["expires_at"] = token.expires_at.isoformat()
                await self.record("token_made", "user", self.user.login, cur, **told)
        except AccessError as error:
            self.set_status(400)
            await self._show(typed=typed, rights=rights, errors={error.field or "name": self.refusal(error)})
            return
        await self._show(given=text)

    async def _revoke(self, number: str) -> None:
        if not _is_number(number):
            raise HTTPError(400)
        try:
            async with self.site.transaction() as cur:
                token = await revoke_token(cur, self.user.id, int(number), self.actor.name)
                await self.record("token_revoked", "user", self.user.login, cur, token=token.prefix)
        except AccessError as error:
            raise HTTPError(404) from error
        await self.notify(N_("Token revoked."))
        self.redirect("/profile/tokens", status=303)

    async def _show(
        self,
        *,
        typed: Mapping[str, str] | None = None,
        rights: list[str] | None = None,
        errors: Mapping[str, str] | None = None,
        given: str = "",
    ) -> None:
        async with self.site.cursor() as cur:
            tokens = await list_tokens(cur, self.user.id)
        choices = {right: note for right, note in RIGHTS.items() if self.access.may(right)}
        values = {"typed": typed or {"days": "90"}, "chosen": rights or [], "errors": errors or {}, "given": given}
        await self.show("own_tokens.html", tokens=tokens, choices=choices, **values)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_ID_DIGITS
