"""A web process in a thread of its own, on a real port, over the real databases; and a browser that is only HTTP."""

import asyncio
import http.client
import itertools
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import urlencode

import psycopg2
import pytest
from psycopg2 import sql
from tornado.netutil import bind_sockets

from gateway.journal.journal import Journal
from gateway.payments.driver import CoreOptions
from gateway.payments.lanes import Core
from kopeck.databases.postgres import APP, DATABASE, OWNER, SUPERUSER
from tests.web import seed
from web.app import close, make_app, make_server
from web.site.site import WebOptions


@pytest.fixture(autouse=True, scope="session")
def time_enough() -> Iterator[None]:
    """Pages of a slow machine are whole all the same; what a page without time says has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.journal.journal.PAGE_BUDGET_S", 20.0)
        patch.setattr("billing.listing.store.PAGE_TIMEOUT_MS", 20_000)
        patch.setattr("billing.listing.store.COUNT_TIMEOUT_MS", 20_000)
        yield


@dataclass
class Running:
    """A web process. ``call`` runs a coroutine on its loop."""

    port: int
    dsn: str
    owner_dsn: str
    journal: Journal
    loop: asyncio.AbstractEventLoop
    seeded: seed.Seeded
    signed_in: dict[str, "Person"] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)  # type: ignore[arg-type]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.owner_dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(query, values)
            return list(cur.fetchall()) if cur.description else []

    def one(self, query: str, *values: object) -> Any:
        [[value]] = self.rows(query, *values)
        return value

    def person(self, login: str = "") -> "Person":
        """Somebody signed in, sharing his session with other tests; without a login a stranger."""
        if not login:
            return Person(self.port)
        known = self.signed_in.get(login)
        if known is None or known.get("/profile").status != 200:
            known = self.signed_in[login] = self.newcomer(login)
        return replace(known, cookies=dict(known.cookies))

    def newcomer(self, login: str, password: str = seed.PASSWORD) -> "Person":
        """Somebody who signs in now."""
        person = Person(self.port)
        answer = person.sign_in(login, password)
        assert answer.status == 303, answer.words
        return person


@dataclass
class Answer:
    """One response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def words(self) -> str:
        """What a reader of the page reads: no tags, single blanks."""
        plain = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", self.text, flags=re.DOTALL)
        return " ".join(unescape(plain).split())

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    def column(self, title: str) -> list[str]:
        """The cells under a heading of the page's first list, top to bottom, in words."""
        table = self.text.partition('<table class="list')[2].partition("</table>")[0]
        rows = [
            [Answer(200, self.headers, cell.encode()).words for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)]
            for row in table.split("<tr")[1:]
        ]
        if not rows:
            return []
        place = rows[0].index(title)
        return [row[place] for row in rows[1:]]

    def hidden(self, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found, f"no field {name}"
        return unescape(found[1])


@dataclass
class Person:
    """Cookies and a language: what a browser keeps between requests."""

    port: int
    language: str = "ru"
    cookies: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **query: Any) -> Answer:
        return self.ask("GET", path + (f"?{urlencode(query, doseq=True)}" if query else ""))

    def find(self, path: str, **query: Any) -> Answer:
        """GET that follows redirects of this site, as a browser does."""
        answer = self.get(path, **query)
        for _ in range(3):
            if answer.status not in (301, 302, 303):
                return answer
            answer = self.get(answer.location)
        raise AssertionError(f"still redirected: {answer.location}")

    def post(self, path: str, form: dict[str, Any], page: str = "") -> Answer:
        """A form of ``page`` filled in and sent; without a page, as it is given."""
        fields = {"csrf": self.find(page).hidden("csrf"), **form} if page else form
        return self.ask("POST", path, urlencode(fields, doseq=True))

    def sign_in(self, login: str, password: str, target: str = "") -> Answer:
        return self.post("/sign-in", {"login": login, "password": password, "next": target}, "/sign-in")

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        headers = {"Accept-Language": self.language, **self.extra}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, value = cookie.partition(";")[0].split("=", 1)
            self.cookies[name] = value.strip('"')
        return answer


@contextmanager
def running(
    dsn: str,
    owner_dsn: str,
    journal_uri: str,
    journal_name: str,
    payments: int = 0,
    pages_journal: tuple[str, str] | None = None,
    **options: Any,
) -> Iterator[Running]:
    """The process, wired as its composition root does it; ``seed`` fills it first.

    pages_journal: where the pages look for the journal, when that is not where it is.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)  # type: ignore[arg-type]

    async def start() -> tuple[Running, Callable[[], Awaitable[None]]]:
        journal = Journal(journal_uri, journal_name)
        seeded = await seed.fill(dsn, owner_dsn, journal, datetime.now(UTC), payments)
        core_options = CoreOptions(dsn, lanes=1)
        core = Core(core_options)
        core.start()
        shown = Journal(*pages_journal) if pages_journal else journal
        app = make_app(WebOptions(dsn, shown, core, **options))
        server = make_server(app)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)

        async def stop() -> None:
            server.stop()
            await server.close_all_connections()
            await core.stop(5)
            await close(app)
            shown.close()
            journal.close()

        return Running(sockets[0].getsockname()[1], dsn, owner_dsn, journal, loop, seeded), stop

    process, stop = call(start())
    try:
        yield process
    finally:
        call(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


_numbers = itertools.count(1)


def make_database(pg: Any) -> str:
    """The name of a new database, which lives as long as the server."""
    name = f"web_{next(_numbers)}"
    with closing(psycopg2.connect(pg.dsn(SUPERUSER, "postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            parts = [sql.Identifier(part) for part in (name, DATABASE, OWNER)]
            cur.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*parts))
    return name


@pytest.fixture(scope="session")
def site(pg: Any, journal_uri: str) -> Iterator[Running]:
    """A filled provider that all tests of a session look at; those that change something make their own."""
    name = make_database(pg)
    with running(pg.dsn(APP, name), pg.dsn(OWNER, name), journal_uri, name, seed.PAYMENTS) as process:
        yield process


@pytest.fixture
def own_site(database: Any, journal_uri: str, journal_name: str) -> Iterator[Running]:
    """A provider of one test's own, with only the payments that have names."""
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name) as process:
        yield process
