"""What the pages of one process share: settings, database connections, the journal, the gateway's core.

Rules. One `Site` per process, made by the composition root and closed by it. A connection is lent for one short piece
of work; work that changes two things asks for `transaction`. Everything that waits has a limit. Addresses of
clients are believed from trusted proxies only.

Does not know: pages, languages, what is asked of the stores.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg2
from tornado.httputil import HTTPServerRequest

from billing.database.aiopg import cancelled_is_away, create_pool
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.database.session import IDLE_WEB_S
from billing.refusals import Unavailable
from gateway.journal.journal import Journal
from gateway.payments.lanes import Core
from gateway.port.connections import client_ip
from web.access.approval_kinds import approval_kinds
from web.access.sessions import Session, read_session
from web.access.throttle import network_of, take_try_of_session, trust_browser
from web.access.users import User, authenticate, is_password_of, user_by_login
from web.site.figures import Figures
from web.site.templates import Templates

#: Connections of one web process; pages hold one for milliseconds.
POOL_MAX: Final = 8
POOL_WAIT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 20.0
#: argon2id takes 64 MiB and tens of milliseconds of a core; more at once only makes everyone slower.
SIGN_INS_AT_ONCE: Final = 2
SIGN_INS_WAITING: Final = 32
SIGN_INS_WAITING_PER_ADDRESS: Final = 4

#: Modes of a transaction whose statements all see one instant.
SNAPSHOT: Final = "ISOLATION LEVEL REPEATABLE READ"
READ_ONLY_SNAPSHOT: Final = f"{SNAPSHOT} READ ONLY"

#: What aiopg raises when PostgreSQL cannot be reached, went away, or does not answer in time.
DATABASE_ERRORS: Final = (DatabaseAway, psycopg2.OperationalError, psycopg2.InterfaceError, TimeoutError)


class SignInsBusy(Unavailable):
    """Too many sign-ins wait already."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """What a composition root hands to `web.app.make_app`.

    core: the gateway's, started; people's cancels go through it. None: this process shows no cancel button.
    secure_cookies: None follows each request: Secure under TLS, and behind a trusted proxy that says https.
    trusted_proxies: networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed.
    second_person_above_minor: money by hand of more than this waits for a second person; minor units.
    session_hours, idle_minutes: a session's whole life, and the longest pause in it.
    event_source: the CloudEvents source of events, for the test event of an endpoint.
    """

    dsn: str
    journal: Journal
    core: Core | None = None
    secure_cookies: bool | None = None
    session_hours: int = 12
    idle_minutes: int = 60
    trusted_proxies: tuple[str, ...] = ()
    time_zone: str = "Europe/Moscow"
    pool_max: int = POOL_MAX
    second_person_above_minor: int = 5_000_000
    event_source: str = "urn:kopeck"


class Site:
    """The shared part of one process. Connections are made at the first request and given back by `close`."""

    def __init__(self, options: WebOptions) -> None:
        self.options = options
        self.journal = options.journal
        self.core = options.core
        self.kinds = approval_kinds(options.second_person_above_minor)
        self.zone = ZoneInfo(options.time_zone)
        self.templates = Templates(self.zone)
        self.figures = Figures()
        self._proxies = [ipaddress.ip_network(network) for network in options.trusted_proxies]
        self._pool: Any = None
        self._pool_made = asyncio.Lock()
        self._sign_ins = asyncio.Semaphore(SIGN_INS_AT_ONCE)
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def cursor(self) -> AsyncIterator[Any]:
        """A cursor on a connection of its own; every statement commits by itself."""
        pool = await self._connected()
        connection = await asyncio.wait_for(pool.acquire(), POOL_WAIT_S)
        try:
            async with connection.cursor() as cur:
                with cancelled_is_away():
                    yield cur
        finally:
            await pool.release(connection)

    @asynccontextmanager
    async def transaction(self, mode: str = "") -> AsyncIterator[Any]:
        """A cursor inside BEGIN (with ``mode``) and COMMIT; any exception rolls back."""
        async with self.cursor() as cur:
            await cur.execute(f"BEGIN {mode}")
            try:
                yield cur
            except BaseException:
                await _roll_back(cur)
                raise
            await cur.execute("COMMIT")

    async def session(self, token: str) -> Session | None:
        """The session of a cookie's token. The first statement of a request: if the pool's connection was dead (the
        server was restarted), it is thrown away and another one asked."""
        try:
            async with self.cursor() as cur:
                return await read_session(cur, token, self.options.idle_minutes)
        except DATABASE_ERRORS:
            if self._pool is not None:
                await self._pool.clear()
        async with self.cursor() as cur:
            return await read_session(cur, token, self.options.idle_minutes)

    async def sign_in(
        self, login: str, password: str, address: str, browser: str
    ) -> tuple[User | None, User | None, str]:
        """(the user if the password is right, the user of that login if there is one, the browser's token to keep).

        Raises:
            SignInsBusy: nothing was looked at and nothing counted.
            TooManyTries, PasswordExpired: as `web.access.users.authenticate`.
        """
        async with self._hashing(address), self.cursor() as cur:
            user = await authenticate(cur, login, password, address, browser)
            if user is None:
                return None, await user_by_login(cur, login), ""
            return user, user, await trust_browser(cur, user.id, browser)

    async def check_password(self, session: Session, password: str, address: str) -> bool:
        """Whether a signed-in person's own password is this one.

        Raises:
            SignInsBusy: nothing was looked at and nothing counted.
            TooManyTries: the session has tried too often.
        """
        async with self._hashing(address), self.cursor() as cur:
            await take_try_of_session(cur, session.token_hash)
            return await is_password_of(cur, session.user, password)

    @asynccontextmanager
    async def _hashing(self, address: str) -> AsyncIterator[None]:
        """A turn at hashing. One address waits with a share of the places, so it cannot keep all others out."""
        place = network_of(address)
        if sum(self._waiting.values()) >= SIGN_INS_WAITING or self._waiting[place] >= SIGN_INS_WAITING_PER_ADDRESS:
            raise SignInsBusy
        self._waiting[place] += 1
        try:
            async with self._sign_ins:
                yield
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._waiting[place]

    def client_address(self, request: HTTPServerRequest) -> str:
        """The client's address, with trusted proxies peeled off from the right of X-Forwarded-For."""
        forwarded = {"x-forwarded-for": request.headers.get("X-Forwarded-For", "")}
        return client_ip(request.remote_ip or "", forwarded, self._proxies)

    def is_secure(self, request: HTTPServerRequest) -> bool:
        """Whether cookies of this request carry Secure."""
        if self.options.secure_cookies is not None:
            return self.options.secure_cookies
        is_proxied = self.client_address(request) != request.remote_ip
        said = request.headers.get("X-Forwarded-Proto", "") if is_proxied else ""
        return (said or request.protocol) == "https"

    async def close(self) -> None:
        """Give the connections back; the journal and the core belong to the composition root."""
        if self._pool is not None:
            self._pool.terminate()
            await self._pool.wait_closed()

    async def _connected(self) -> Any:
        async with self._pool_made:
            if self._pool is None:
                self._pool = await create_pool(
                    self.options.dsn,
                    name="kopeck-web",
                    size_max=self.options.pool_max,
                    statement_timeout_s=STATEMENT_TIMEOUT_S,
                    idle_transaction_s=IDLE_WEB_S,
                )
        return self._pool


async def _roll_back(cur: Cursor) -> None:
    try:
        await cur.execute("ROLLBACK")
    except (psycopg2.Error, TimeoutError, RuntimeError):  # RuntimeError: aiopg, of a connection broken in mid-call
        await cur.connection.close()  # the server rolls back what a closed connection left open
