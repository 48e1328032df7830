"""Figures of the search page over many payments on the embedded journal, and of the relay beside the gateways.

One installation for all of it. Payments, events, transfers and attempts are written by SQL (`bench_search.sql`), their
documents by `kopeck journal rebuild`: the real rendering, the real indexes. A view is asked for over HTTP by a person
who is signed in, so a figure is what a browser waits for. A page that answers anything but 200 ends the bench; a page
that ran out of time answers 200 and is counted (`search_unfinished_ratio`).

Does not know: which figures are good enough.
"""

import contextlib
import http.client
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import psutil
import psycopg2

from adapters.messages import Pay
from loadtests.bench_payments import CONNECTIONS, GOOD, drive
from loadtests.figures import BenchError, Figure, Setting
from loadtests.partners import build_query, http_request, open_line, osmp_partner
from loadtests.stand import Stand, new_folder
from ratingcore.money import Minor

ACCOUNTS: Final = 60_000
FIRST_ACCOUNT: Final = 79160000000
PARTNERS: Final = ("search-first", "search-second", "search-small")
LOGIN: Final = "bench"
PASSWORD: Final = "correct horse 42 of figures"
PARTNER_PASSWORD: Final = "aggregators-password"
SAMPLES: Final = 20
#: A connection that was not used for so long may have been closed by the server.
IDLE_S: Final = 5.0
#: Requests prepared for each second of the relay's run.
PREPARED_PER_S: Final = 3_000
NAMES: Final = ("Иванов", "Петрова", "Сидоров", "Кузнецова", "Ёлкин", "Константинопольская", "Ли", "Анненков")
FIRST_NAMES: Final = ("Анна", "Пётр", "Сергей", "Мария", "Александр", "Ольга")

#: (name, path and query, what it is). {account}, {key}, {id}: of one payment in the middle.
VIEWS: Final = (
    ("search_default", "/payments", "the list as it opens: 30 days, newest first"),
    ("search_year", "/payments?period=year", "a year"),
    ("search_one_state", "/payments?state=refused", "one state of twenty"),
    ("search_rare_state", "/payments?state=reversed", "one state of a thousand"),
    ("search_two_states", "/payments?state=refused&state=reversed", "two states"),
    ("search_partner", "/payments?partner=search-second", "one partner"),
    ("search_partner_state", "/payments?state=refused&partner=search-small", "a small partner's refusals"),
    ("search_sums", "/payments?min=4900&max=5000", "a range of sums"),
    ("search_one_sum", "/payments?min=1234,56&max=1234,56", "one sum"),
    ("search_key", "/payments?q={key}", "a partner's key"),
    ("search_id", "/payments?q={id}", "our number"),
    ("search_phone", "/payments?q={account}", "a whole account number"),
    ("search_fragment", "/payments?q={fragment}", "six digits of an account"),
    ("search_four_digits", "/payments?q={four}", "four digits"),
    ("search_beginning", "/payments?q=7916", "the beginning of every account"),
    ("search_name", "/payments?q=" + quote("кузнецова"), "a name"),
    ("search_two_words", "/payments?q=" + quote("анненков мар"), "a name and a beginning"),
    ("search_typed_sum", "/payments?q=1234,56", "a sum in the box"),
    ("search_nothing", "/payments?q=4815162342", "a number that nobody has"),
    ("attempts_default", "/attempts", "attempts as they open"),
    ("attempts_kind", "/attempts?kind=refusal", "attempts of one kind"),
    ("attempts_account", "/attempts?q={account}", "attempts of an account"),
)


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    with Stand(new_folder(setting.folder), gateways=2) as stand:
        partners = [osmp_partner(code, PARTNER_PASSWORD) for code in PARTNERS]
        stand.connect(partners)
        stand.open_accounts(
            [str(FIRST_ACCOUNT + 1 + index) for index in range(ACCOUNTS)],
            [_name(index) for index in range(ACCOUNTS)],
        )
        _write_payments(stand, setting.payments)
        began = time.monotonic()
        stand.do("journal", "rebuild", timeout_s=24 * 3600)
        documents = setting.payments * 1.1
        what = "payments and attempts rendered and written by `kopeck journal rebuild`, one writer"
        yield Figure("search_rebuild_documents_per_s", documents / (time.monotonic() - began), "documents/s", what)
        stand.do("user", "add", LOGIN, "--role", "operator", text=PASSWORD + "\n")
        yield from _pages(stand, setting)
        yield from _relay(stand, setting)
        server = _journal_server(stand)
        yield Figure("search_journal_server_mb", server.memory_info().rss / 1e6, "MB", f"memory of {server.name()}")


def _name(index: int) -> str:
    return f"{NAMES[index % len(NAMES)]} {FIRST_NAMES[index % len(FIRST_NAMES)]} {index:05d}"


def _write_payments(stand: Stand, payments: int) -> None:
    statement = Path(__file__).with_suffix(".sql").read_text("utf-8")
    words = {"payments": payments, "attempts": payments // 10, "accounts": ACCOUNTS, "first_account": FIRST_ACCOUNT}
    for name, value in words.items():
        statement = statement.replace("{" + name + "}", str(value))
    with contextlib.closing(psycopg2.connect(stand.dsn())) as connection, connection, connection.cursor() as cur:
        cur.execute(statement)
    with contextlib.closing(psycopg2.connect(stand.dsn(owner=True))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute("ANALYZE")


# ---- pages ----


@dataclass(slots=True)
class Browser:
    """A signed-in person: cookies, and one connection that stays open."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    connection: http.client.HTTPConnection | None = None
    used_at: float = 0.0

    def sign_in(self) -> None:
        page = self.ask("GET", "/sign-in")
        found = re.search(r'name="csrf" value="([^"]*)"', page)
        if found is None:
            raise BenchError("the sign-in page has no token")
        fields = {"login": LOGIN, "password": PASSWORD, "next": "/profile", "csrf": unescape(found[1])}
        self.ask("POST", "/sign-in", urlencode(fields), status=(302, 303))

    def ask(self, method: str, path: str, body: str | None = None, status: tuple[int, ...] = (200,)) -> str:
        """A request and its whole answer.

        Raises:
            BenchError: another status.
        """
        response = self.send(method, path, body)
        text = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, value = cookie.partition(";")[0].split("=", 1)
            self.cookies[name] = value.strip('"')
        if response.status not in status:
            raise BenchError(f"{method} {path} answered {response.status}")
        return text

    def send(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        """A request; the caller reads the answer."""
        headers = {"Accept-Language": "en", "Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if self.connection is not None and time.monotonic() - self.used_at > IDLE_S:
            self.connection.close()
            self.connection = None
        self.used_at = time.monotonic()
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        self.connection.request(method, path, body, headers)
        return self.connection.getresponse()


def _pages(stand: Stand, setting: Setting) -> Iterator[Figure]:
    people = [Browser(stand.ports.pages) for _ in range(2)]
    for browser in people:
        browser.sign_in()
    views = _views(stand)
    unfinished = asked = 0
    for name, path, what in [*views, _second_page(people[0])]:
        times, short = _measured(people[0], [path] * SAMPLES)
        unfinished, asked = unfinished + short, asked + SAMPLES
        yield Figure(f"{name}_p50_ms", statistics.median(times), "ms", what)
        yield Figure(f"{name}_p95_ms", _p95(times), "ms", "the same")
    what = "pages that ran out of time and said how far they came"
    yield Figure("search_unfinished_ratio", unfinished / asked, "", what)
    paths = [path for _, path, _ in views] * 4
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(_measured, people, [paths, paths[::-1]]))
    times = [time_ms for some, _ in both for time_ms in some]
    yield Figure("search_two_people_p50_ms", statistics.median(times), "ms", "all views, two people at once")
    yield Figure("search_two_people_p95_ms", _p95(times), "ms", "the same")
    yield from _export(people[0], setting)


def _views(stand: Stand) -> list[tuple[str, str, str]]:
    payment_id, key, account = stand.ask(
        "SELECT id, partner_key, account_number FROM payments WHERE state = 'posted'"
        " AND id >= 10000000 + (SELECT count(*) / 2 FROM payments) ORDER BY id LIMIT 1"
    )
    account = str(account)
    words = {"id": payment_id, "key": key, "account": account, "fragment": account[-6:], "four": account[-4:]}
    return [(name, path.format(**words), what) for name, path, what in VIEWS]


def _second_page(browser: Browser) -> tuple[str, str, str]:
    page = browser.ask("GET", "/payments")
    found = re.search(r'rel="next" href="([^"]+)"', page)
    if found is None:
        raise BenchError("the list has one page only")
    return "search_second_page", unescape(found[1]), "the next page of the list"


def _measured(browser: Browser, paths: Sequence[str]) -> tuple[list[float], int]:
    """(milliseconds of each, how many ran out of time)."""
    times, short = [], 0
    for path in paths:
        began = time.monotonic()
        page = browser.ask("GET", path)
        times.append(1000 * (time.monotonic() - began))
        short += "reached" in page and 'class="note note-info reached"' in page
    return times, short


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[max(0, -(-len(times) * 95 // 100) - 1)]


def _export(browser: Browser, setting: Setting) -> Iterator[Figure]:
    began = time.monotonic()
    response = browser.send("GET", "/payments.csv?state=posted")
    if response.status != 200:
        raise BenchError(f"the export answered {response.status}")
    response.readline()
    response.readline()
    first_ms = 1000 * (time.monotonic() - began)
    lines = 1
    while time.monotonic() - began < setting.seconds and response.readline():
        lines += 1
    seconds = time.monotonic() - began
    response.close()
    if browser.connection is not None:
        browser.connection.close()
        browser.connection = None
    yield Figure("search_csv_first_row_ms", first_ms, "ms", "until the first payment of an export has arrived")
    yield Figure("search_csv_rows_per_s", lines / seconds, "rows/s", "of the export")


# ---- relay ----


def _relay(stand: Stand, setting: Setting) -> Iterator[Figure]:
    """Payments through both gateways while the relay runs, and then until it has caught up."""
    line = open_line(osmp_partner(PARTNERS[0], PARTNER_PASSWORD))
    now = datetime.now(UTC)
    requests = []
    for number in range(PREPARED_PER_S * setting.seconds):
        account = str(FIRST_ACCOUNT + 1 + number % ACCOUNTS)
        pay = Pay(str(10**13 + number), account, Minor(100 + number), "", now)
        requests.append(http_request(line, build_query(line, pay)))
    run = drive(stand.ports.partners, CONNECTIONS, setting.seconds, GOOD["osmp"], requests)
    left, began = stand.outbox_rows(), time.monotonic()
    carried = (run.count - left) / run.seconds
    yield Figure(
        "search_gateways_per_s", run.per_s, "payments/s", "OSMP pay, two gateways, the relay at work beside them"
    )
    yield Figure("search_relay_per_s", carried, "documents/s", "carried meanwhile")
    stand.wait_until("carried: the outbox", lambda: stand.outbox_rows() == 0, 3_600)
    seconds = time.monotonic() - began
    yield Figure("search_relay_behind_s", seconds, "s", "until the journal had the last of them")
    if left:
        what = "relay with nothing else going on, on the rest of them"
        yield Figure("search_relay_alone_per_s", left / seconds, "documents/s", what)


def _journal_server(stand: Stand) -> psutil.Process:
    folder = str(stand.folder / "data" / "journal")
    for process in psutil.process_iter(["cmdline"]):
        if any(part.startswith(folder) for part in process.info["cmdline"] or []):
            return process
    raise BenchError("the journal's server is not among the processes")
