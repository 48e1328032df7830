"""Figures of list pages over many customers and invoices: how long a person waits, and how fast a list is exported.

One installation, filled by SQL (`bench_lists.sql`). A view is asked for over HTTP by a person who is signed in, each
time about another object (another name, account, run, day), so no figure is of a page that was just read. The first
view of each kind, after PostgreSQL and the pages began anew, is a figure of its own. The export is a job: its figures
are rows a second and the memory that its process took beyond what it had.

Does not know: which figures are good enough.
"""

import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import psutil
import psycopg2

from loadtests.bench_search import LOGIN, PASSWORD, Browser
from loadtests.figures import BenchError, Figure, Setting
from loadtests.stand import Stand, new_folder

MONTHS: Final = 10
SAMPLES: Final = 20
EXPORT_TIMEOUT_S: Final = 3_600.0
NAMES: Final = ("иванов", "кузнец", "ромашка", "михайл", "алексеев", "ёлкин", "соколова", "морозов")

#: (name, what it is, the address). Each sample fills in another {one} (customer), {account}, {invoice}, {name},
#: {digits} of a name, {sum}, {run}, {plan}; {down} turns the order each time.
VIEWS: Final = (
    ("customers", "customers as they open", "/customers?sort={down}created"),
    ("customers_name", "customers by a part of a name", "/customers?name={name}"),
    ("customers_rare", "customers by six digits of a name", "/customers?name={digits}"),
    ("customers_account", "a customer by account", "/customers?account={account}&account.match=equals"),
    ("customers_debt", "customers in debt", "/customers?balance.max=-{sum}"),
    ("customer", "the page of a customer", "/customers/{one}"),
    ("orders", "orders of a plan in force", "/orders?plan=home-{plan}&plan.match=equals&state=active"),
    ("orders_customer", "orders of a customer", "/orders?customer_number={one}&customer_number.match=equals"),
    ("invoices", "invoices by due date", "/invoices?sort={down}due"),
    ("invoices_number", "an invoice by number", "/invoices?number={invoice}"),
    ("invoices_account", "invoices of an account", "/invoices?account={account}&account.match=equals"),
    ("invoices_name", "invoices by a part of a name", "/invoices?customer={name}"),
    ("invoices_overdue", "overdue invoices", "/invoices?state=overdue&total.min={sum}"),
    ("invoices_run", "invoices of a run", "/invoices?run={run}&total.min={sum}"),
    ("invoices_sum", "invoices by a range of sums", "/invoices?total.min={sum}&total.max={more}"),
    ("invoice", "the page of an invoice", "/invoices/{invoice}"),
    ("runs", "billing runs", "/runs?sort={down}run"),
)


def _address(view: str, sample: int, customers: int) -> str:
    one = _one(sample, customers)
    return view.format(
        one=f"B{one:09d}",
        account=79100000000 + one,
        invoice=f"I-{_one(sample, customers * MONTHS):06d}",
        name=quote(NAMES[sample % len(NAMES)]),
        digits=f"{one * 104729 % 1_000_000:06d}",
        sum=400 + sample,
        more=401 + sample,
        run=1 + sample % MONTHS,
        plan=1 + sample % 20,
        down="-" if sample % 2 else "",
    )


def _one(sample: int, of: int) -> int:
    """A number from 1 to ``of``, another for each sample."""
    return 1 + (sample * 7919 + 13) * 104729 % of


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    customers = setting.customers
    with Stand(new_folder(setting.folder), gateways=0) as stand:
        _fill(stand, customers)
        stand.do("user", "add", LOGIN, "--role", "operator", text=PASSWORD + "\n")
        browser = Browser(stand.ports.pages)
        browser.sign_in()
        yield from _views(browser, customers)
        yield from _walk(browser)
        yield from _export(stand, browser, customers)


def _followed(browser: Browser, path: str) -> str:
    """The page of an address, after its redirects."""
    for _ in range(3):
        response = browser.send("GET", path)
        text = response.read().decode()
        if response.status in (301, 302, 303):
            path = response.headers["Location"]
            continue
        if response.status != 200:
            raise BenchError(f"GET {path} answered {response.status}")
        return text
    raise BenchError(f"{path} is redirected again and again")


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[max(0, -(-len(times) * 95 // 100) - 1)]


def _fill(stand: Stand, customers: int) -> None:
    statement = Path(__file__).with_suffix(".sql").read_text("utf-8")
    words = {"customers": customers, "months": MONTHS, "invoices": customers * MONTHS}
    for name, value in words.items():
        statement = statement.replace("{" + name + "}", str(value))
    with (
        contextlib.closing(psycopg2.connect(stand.dsn(owner=True))) as connection,
        connection,
        connection.cursor() as cur,
    ):
        cur.execute(statement)
    with contextlib.closing(psycopg2.connect(stand.dsn(owner=True))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute("VACUUM ANALYZE")


def _views(browser: Browser, customers: int) -> Iterator[Figure]:
    everything: list[float] = []
    for name, what, view in VIEWS:
        times = []
        for sample in range(SAMPLES + 1):
            began = time.monotonic()
            _followed(browser, _address(view, sample, customers))
            times.append(1000 * (time.monotonic() - began))
        yield Figure(f"lists_{name}_first_ms", times[0], "ms", f"{what}, the first of its kind")
        yield Figure(f"lists_{name}_p50_ms", statistics.median(times[1:]), "ms", f"{what}, others each time")
        yield Figure(f"lists_{name}_p95_ms", _p95(times[1:]), "ms", "the same")
        everything += times[1:]
    yield Figure("lists_all_p95_ms", _p95(everything), "ms", "all views above")


def _walk(browser: Browser) -> Iterator[Figure]:
    """Twenty pages on: the last costs what the first does."""
    page, times = _followed(browser, "/invoices"), []
    for _ in range(SAMPLES):
        link = re.search(r'rel="next" href="([^"]+)"', page)
        if link is None:
            raise BenchError("the list of invoices has one page only")
        began = time.monotonic()
        page = _followed(browser, unescape(link[1]))
        times.append(1000 * (time.monotonic() - began))
    yield Figure("lists_next_page_p95_ms", _p95(times), "ms", "the next page of all invoices, twenty times")


def _export(stand: Stand, browser: Browser, customers: int) -> Iterator[Figure]:
    rows = customers * MONTHS
    columns = "number.customer.account.invoiced.due.total.kind"
    command = [sys.executable, "-m", "kopeck", "serve", "jobs"]
    with subprocess.Popen(command, env=stand.environment, cwd=stand.folder, stdin=subprocess.DEVNULL) as worker:
        try:
            for form in ("csv", "xlsx"):
                token = re.search(r'name="csrf" value="([^"]*)"', _followed(browser, "/invoices"))
                if token is None:
                    raise BenchError("the list of invoices has no token")
                fields = {"csrf": unescape(token[1]), "query": urlencode({"columns": columns}), "format": form}
                began = time.monotonic()
                browser.ask("POST", "/lists/invoices/export", urlencode(fields), status=(302, 303))
                done, peak = _until_done(stand, worker.pid)
                took = time.monotonic() - began
                if done != rows:
                    raise BenchError(f"{done} rows were exported of {rows}")
                what = f"export of {rows} invoices with seven columns as {form}, one job"
                yield Figure(f"lists_export_{form}_rows_per_s", rows / took, "rows/s", what)
                yield Figure(f"lists_export_{form}_peak_mb", peak / 1e6, "MB", "memory of its process at most")
        finally:
            worker.terminate()


def _until_done(stand: Stand, worker: int) -> tuple[int, int]:
    """(rows done, most bytes of the largest process of the worker)."""
    deadline, peak = time.monotonic() + EXPORT_TIMEOUT_S, 0
    while time.monotonic() < deadline:
        for child in psutil.Process(worker).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, child.memory_info().rss)
        state, done, message = stand.ask("SELECT state, done, message FROM jobs ORDER BY id DESC LIMIT 1")
        if state == "done":
            return int(str(done)), peak
        if state in ("failed", "cancelled"):
            raise BenchError(f"the export ended as {state}: {message}")
        time.sleep(0.5)
    raise BenchError("the export did not end in time")
