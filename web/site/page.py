"""What every page does before and around its own work: who asks, what his roles allow, the language, the headers.

Rules. A POST without the session's token is refused, whatever the route. A page names the right it needs, or to whom it
is open; nothing is open by forgetting, for the default is open to nobody. Nothing a person types is ever sent back
unescaped, and no page needs anything from outside this server (Content-Security-Policy says so to the browser). A page
that cannot reach a database says which one and what that means for payments.

Does not know: payments, partners, users' passwords.
"""

import hmac
import logging
import re
import secrets
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode

from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from billing.database.cursors import Cursor
from billing.language import N_, Formats, Language, choose_language, language_of
from gateway.journal.search import JournalAway, JournalBusy
from web.access import audit
from web.access.actors import Actor, actor_of
from web.access.rights import NOTHING, Access, Need, Open, Right
from web.access.roles import AccessError
from web.access.sessions import Session, clear_notice, set_notice
from web.access.users import User, UserError
from web.site import formatting as shown
from web.site import navigation, vendored
from web.site.site import DATABASE_ERRORS, SignInsBusy, Site
from web.site.words import word

log = logging.getLogger(__name__)

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Server": "kopeck",
}
_HSTS: Final = "max-age=31536000"
#: Fields that are not carried over a sign-in.
_SECRET_FIELD: Final = re.compile(r"(?i)passw|current|repeat|token|secret")
#: Where a notice keeps its tone, among its values.
_TONE: Final = "tone"
LANGUAGE_COOKIE: Final = "kopeck_language"
#: How pages look in one browser: cookie -> what it may hold; anything else is as the system has it.
APPEARANCE: Final = {"theme": ("light", "dark"), "density": ("compact",)}
APPEARANCE_COOKIE: Final = "kopeck_"
MAX_TARGET_CHARS: Final = 2_000

#: What is expected to pass by itself: answered 503 and logged without a traceback.
UNAVAILABLE: Final = (JournalAway, SignInsBusy, *DATABASE_ERRORS)


#: Titles of pages that tell what went wrong, by status, and what to do about it.
_ERRORS: Final = {
    400: (N_("The request was not understood"), ""),
    403: (
        N_("Access denied"),
        N_("Your role does not allow this. If your work needs it, ask an administrator."),
    ),
    404: (N_("There is no such page"), N_("Check the address or go back to payments.")),
    405: (N_("The page cannot be opened this way"), ""),
}


_JOURNAL_BUSY: Final = N_(
    "The selection is too large: narrow the period or add a condition. Accepting payments does not depend on this."
)
_JOURNAL_AWAY: Final = N_(
    "Payments are still being accepted and nothing is lost: search will catch up by itself when the journal is "
    "back. A single payment can be opened by its number even now."
)
_DATABASE_AWAY: Final = N_(
    "The pages come back with the database. Partners get the temporary refusal and will repeat their payments."
)


class Refused(HTTPError):
    """What a page does not do, with a sentence for people. text: marked for translation; values: what it names."""

    def __init__(self, status: int, text: str, **values: object) -> None:
        super().__init__(status, text)
        self.text = text
        self.values = values


class Page(RequestHandler):
    """A handler of this site. Subclasses set ``needs``: a right, or `Open` for a page that needs none."""

    needs: Need = Open.TO_NOBODY
    #: Whether a user whose password is temporary may come here before replacing it.
    allows_temporary = False
    #: The entry of the navigation this page belongs to.
    section = ""

    site: Site
    session: Session | None = None

    def initialize(self, site: Site) -> None:
        """Tornado's place for the route's arguments."""
        self.site = site

    def set_default_headers(self) -> None:
        """Tornado calls this before anything else, and again before an error page."""
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")
        if self.application.settings["site"].is_secure(self.request):
            self.set_header("Strict-Transport-Security", _HSTS)

    async def prepare(self) -> None:
        """Who asks, and whether his roles allow it. Ends the request if not."""
        self.address = self.site.client_address(self.request)
        self.set_header("X-Request-Id", self.request_id)
        token = self.get_cookie(self.session_cookie)
        if token:
            self.session = await self.site.session(token[:200])
        if self.needs is not Open.TO_EVERYONE and self.session is None:
            await self._ask_to_sign_in()
            return
        if self.request.method == "POST":
            self._check_csrf()
        if self.needs is Open.TO_EVERYONE or self.session is None:
            return
        if isinstance(self.needs, Right):
            await self.demand(self.needs)
        elif self.needs is not Open.TO_SIGNED_IN:
            raise HTTPError(403)
        if self.session.user.password_is_temporary and not self.allows_temporary:
            self._leave("/profile")

    @cached_property
    def request_id(self) -> str:
        """What the audit record calls this request; the client is told it too (X-Request-Id)."""
        return secrets.token_hex(8)

    @property
    def actor(self) -> Actor:
        """Who asks: with the rights of this request; a stranger has none."""
        if self.session is None:
            return Actor("anonymous", NOTHING, "os", self.address, self.request_id)
        return actor_of(self.session.user, "password", self.address, self.request_id)

    @property
    def access(self) -> Access:
        """What who is signed in may do, as of this request."""
        return self.session.user.access if self.session is not None else NOTHING

    def may(self, right: Right | str) -> bool:
        """Whether who is signed in holds a right; ValueError for one that there is not."""
        return self.access.may(Right(right))

    async def demand(self, right: Right, entity: int | None = None, *, anywhere: bool = True) -> None:
        """Refuse, on record, who lacks a right.

        Args:
            entity: id of the legal entity of what is asked for, with ``anywhere=False``; None: it has none. With
                ``anywhere`` the right may be limited to any legal entities: the page then shows only theirs.

        Raises:
            HTTPError: 403.
        """
        if not (self.access.may(right) if anywhere else self.access.may_for(right, entity)):
            await self.record("denied", path=self.request.path, right=right.value)
            raise HTTPError(403)

    @property
    def user(self) -> User:
        """Who is signed in; only for pages that are not open to everyone."""
        if self.session is None:
            raise HTTPError(403)
        return self.session.user

    @property
    def user_session(self) -> Session:
        """The session of who is signed in; only for pages that are not open to everyone."""
        if self.session is None:
            raise HTTPError(403)
        return self.session

    @property
    def language(self) -> str:
        """The code of the page's language."""
        chosen = self.session.user.locale if self.session else None
        return choose_language(
            chosen, self.get_cookie(LANGUAGE_COOKIE), self.request.headers.get("Accept-Language", "")
        )

    @property
    def session_cookie(self) -> str:
        """Under TLS the prefix keeps neighbours of the domain from setting it (RFC 6265bis, section 4.1.3.2)."""
        return "__Host-kopeck" if self.site.is_secure(self.request) else "kopeck"

    @property
    def form_cookie(self) -> str:
        """The token of forms that are filled in before signing in."""
        return f"{self.session_cookie}-form"

    @property
    def browser_cookie(self) -> str:
        """The token of a browser in which a user signed in before."""
        return f"{self.session_cookie}-browser"

    @property
    def browser(self) -> str:
        """The token in the browser's cookie, or ""."""
        return (self.get_cookie(self.browser_cookie) or "")[:200]

    @property
    def csrf(self) -> str:
        """The token every form of this page carries."""
        if self.session is not None:
            return self.session.csrf
        token = self.get_cookie(self.form_cookie) or ""
        if len(token) < 32:
            token = getattr(self, "_new_form_token", "") or secrets.token_urlsafe(32)
            self._new_form_token = token
            self.put_cookie(self.form_cookie, token, same_site="Strict")
        return token

    @property
    def arguments(self) -> dict[str, list[str]]:
        """The query string's arguments."""
        return {name: self.get_query_arguments(name) for name in self.request.query_arguments}

    def appearance(self, of: str) -> str:
        """What the browser chose of ``theme`` or ``density``; "" is as the system has it."""
        chosen = self.get_cookie(APPEARANCE_COOKIE + of) or ""
        return chosen if chosen in APPEARANCE[of] else ""

    @property
    def spoken(self) -> Language:
        """The page's language: its texts and its formats."""
        return language_of(self.language)

    @property
    def formats(self) -> Formats:
        """How the page's language writes numbers, sums and times."""
        return self.spoken.formats

    def _(self, text: str, /, **values: object) -> str:
        """A text in the page's language."""
        return self.spoken.gettext(text, **values)

    def refusal(self, error: UserError | AccessError) -> str:
        """The sentence of a refusal in the page's language."""
        return self._(error.message, **error.values)

    def word(self, table: str, code: str, /, **values: object) -> str:
        """The word of a code (web.site.words)."""
        return word(self.spoken, table, code, **values)

    def put_cookie(self, name: str, value: str, same_site: str = "Lax", days: int | None = None) -> None:
        """A cookie no script can read."""
        self.set_cookie(
            name, value, expires_days=days, path="/", httponly=True, samesite=same_site,
            secure=self.site.is_secure(self.request),
        )  # fmt: skip

    async def record(
        self, action: str, kind: str = "", object_id: str = "", cur: Cursor | None = None, /, **detail: Any
    ) -> None:
        """Write to the audit record, in the caller's transaction if one is given; ``changes`` as of `record_as`."""
        if cur is not None:
            await audit.record_as(cur, self.actor, action, kind, object_id, **detail)
            return
        async with self.site.cursor() as own:
            await audit.record_as(own, self.actor, action, kind, object_id, **detail)

    async def notify(self, text: str, tone: str = "good", /, **values: str) -> None:
        """Leave a message for the next page this person opens. tone: good, info, warn or bad."""
        if self.session is not None:
            async with self.site.cursor() as cur:
                await set_notice(cur, self.session, text, {**values, _TONE: tone})

    async def show(self, template: str, **values: Any) -> None:
        """Render a page with what every template needs."""
        notice = None
        if self.session is not None and self.session.notice is not None:
            text, told = self.session.notice
            notice = (told.get(_TONE, "good"), self._(text, **told))
            async with self.site.cursor() as cur:
                await clear_notice(cur, self.session)
        self.finish(self.render_string(template, notice=notice, **self._shared(), **values))

    def render_string(self, template_name: str, **kwargs: Any) -> bytes:
        """The page as bytes, in the language of who asks."""
        return self.site.templates.render(template_name, self.language, kwargs).encode()

    def _shared(self) -> dict[str, Any]:
        return {
            "static_url": self.static_url,
            "vendored": lambda name, file: self.static_url(vendored.path_of(name, file)),
            "theme": self.appearance("theme"),
            "density": self.appearance("density"),
            "is_inside": self.session is not None and not self.session.user.password_is_temporary,
            "navigation": navigation.shown_groups(self.may),
            "has_search": self.application.settings["has_search"],
            "user": self.session.user if self.session else None,
            "may": self.may,
            "section": self.section,
            "csrf": self.csrf,
            "now": self.now,
            "zone_name": shown.zone_name(self.site.zone, self.now),
            "here": self.request.uri if self.request.method == "GET" else self.request.path,
        }

    @property
    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """A database that is away is not a mistake of ours: 503, and the page says which and what it means."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, UNAVAILABLE):
            status_code = 503
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The error page; never a traceback."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        title, hint, away = self._said(status_code, error)
        self.set_header("Cache-Control", "no-store")
        if away:
            self.set_header("Retry-After", "10")
        shared = self._shared()
        self.finish(self.render_string("error.html", notice=None, title=title, hint=hint, away=away, **shared))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """One line for what is expected, a traceback with a number for what is not."""
        if isinstance(value, UNAVAILABLE):
            log.warning("page_unavailable", extra={"path": self.request.path, "error": str(value)})
        elif isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        else:
            log.error("page_failed %s", self._number, exc_info=(typ, value, tb))

    def _said(self, status_code: int, error: BaseException | None) -> tuple[str, str, str]:
        """(title, hint, which database is away or "")."""
        if isinstance(error, JournalBusy):
            return self._("The journal did not answer in time"), self._(_JOURNAL_BUSY), "journal"
        if isinstance(error, JournalAway):
            return self._("The payment journal is away"), self._(_JOURNAL_AWAY), "journal"
        if isinstance(error, DATABASE_ERRORS):
            return self._("The main database is away"), self._(_DATABASE_AWAY), "database"
        if isinstance(error, SignInsBusy):
            return (
                self._("That did not work"),
                self._("Too many people are signing in at once. Try again in a few seconds."),
                "",
            )
        if isinstance(error, Refused):
            return self._("That did not work"), self._(error.text, **error.values), ""
        if status_code in _ERRORS:
            title, hint = _ERRORS[status_code]
            return self._(title), self._(hint) if hint else "", ""
        hint = self._("It is in the server's log under %(id)s. Payments are not affected.", id=self._number)
        return self._("Our mistake"), hint, ""

    @property
    def _number(self) -> str:
        if not hasattr(self, "_error_number"):
            self._error_number = secrets.token_hex(4)
        return self._error_number

    def _check_csrf(self) -> None:
        expected = self.session.csrf if self.session is not None else self.get_cookie(self.form_cookie) or ""
        given = self.get_body_argument("csrf", "") or self.request.headers.get("X-CSRF-Token", "")
        if len(expected) < 32 or not hmac.compare_digest(expected.encode(), given.encode()):
            raise Refused(403, N_("The page is out of date. Open it again and repeat."))

    async def _ask_to_sign_in(self) -> None:
        """To the sign-in page, and from there back. What was typed into a form is asked to be sent again then."""
        typed = self._fields_to_carry() if self.request.method == "POST" else []
        if typed:
            self.set_status(401)
            target = safe_target(self.request.path)
            await self.show("sign_in.html", login="", error="", target=target, typed=typed)
            return
        wanted = self.request.uri if self.request.method == "GET" else "/payments"
        query = urlencode({"next": safe_target(wanted or "")})
        self._leave(f"/sign-in?{query}")

    def _fields_to_carry(self) -> list[tuple[str, str]]:
        """What a form says, without what is secret or its session's own."""
        names = [name for name in self.request.body_arguments if not _SECRET_FIELD.search(name) and name != "csrf"]
        return [(name, value) for name in names for value in self.get_body_arguments(name, strip=False)]

    def _leave(self, path: str) -> None:
        """Send the whole page elsewhere. htmx would put the answer of a redirect into a part of the page, so it is told
        by its own header."""
        if self.request.headers.get("HX-Request") == "true":
            self.set_status(401)
            self.set_header("HX-Redirect", path)
            self.finish()
            return
        self.redirect(path, status=303)


class NotFound(Page):
    """Every address that is no page; says so to everyone, so that addresses do not tell who may see what."""

    needs = Open.TO_EVERYONE

    async def get(self) -> None:
        """404."""
        raise HTTPError(404)

    post = get


class Files(StaticFileHandler):
    """The style sheet and the script, with the same headers as the pages, on errors too."""

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        """Seconds a file may be kept without asking. A vendored file never changes: its version is in its path."""
        if path.startswith("vendor/"):
            return self.CACHE_MAX_AGE
        return super().get_cache_time(path, modified, mime_type)

    def set_default_headers(self) -> None:
        """Tornado calls this before anything else, and again before an error."""
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        if self.application.settings["site"].is_secure(self.request):
            self.set_header("Strict-Transport-Security", _HSTS)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Tornado asks the file system about the path, which has no names with NUL in them."""
        if "\0" in absolute_path:
            raise HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)


def safe_target(target: str) -> str:
    """A place on this site to go to next; anything that could lead elsewhere becomes the list of payments.

    Browsers read ``//host``, ``/\\host`` and addresses with control characters as other sites.

    >>> safe_target("/payments?q=1"), safe_target("//evil.example"), safe_target("https://evil.example")
    ('/payments?q=1', '/payments', '/payments')
    """
    plain = target.isascii() and target.isprintable() and " " not in target and len(target) <= MAX_TARGET_CHARS
    if plain and target.startswith("/") and not target.startswith(("//", "/\\", "/sign-")) and "\\" not in target:
        return target
    return "/payments"
