"""Whole pages in a language that is a .po file alone: no text of ours stays untold, and every text has room to grow."""

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest

from billing.customers.customers import add_customer
from billing.customers.records import NewCustomer
from billing.customers.rules import problem_with_customer
from tests.billing.invoicing.invoice_books import Books, Charge
from tests.billing.language.pseudo import pseudo, pseudo_language, untold, words_of, words_of_formats
from tests.billing.orders.shop import act
from tests.web.conftest import Person, running
from web.app import ROUTES
from web.site.words import TABLES

__all__ = ["pseudo_language"]

#: Attributes a person reads or hears.
READ = ("title", "aria-label", "placeholder", "alt", "data-label", "data-calendar")
#: Elements whose text is none of ours: requests, stored contracts, codes.
RAW = ("pre", "script", "style", "svg")
#: Names that every language writes so.
NAMES = words_of("Русский English ru en fi CSV JSON PDF XLSX RE2 Basic UTC kopeck partner add account refund")
#: What is wrong with a billed line is told to engineers, in English (billing.explanation.store.JudgedLine.wrong).
DIAGNOSIS = "no record of its order tells of it"
#: What the tests type into fields, which pages give back.
TYPED = words_of("abc yesterday")
#: Pages of one route that are looked at.
PAGES_A_ROUTE = 1
LEAST_ROUTES = 9


class Read(HTMLParser):
    """What a person reads of a page, and where its links lead."""

    VOID = ("meta", "link", "img", "input", "br", "hr", "wbr", "col", "source", "use", "path")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.texts += [known[name] for name in READ if known.get(name)]
        if tag == "a" and known.get("href", "").startswith("/"):
            self.links.append(known["href"])
        if tag not in self.VOID:
            raw = tag in RAW or "code" in (known.get("class") or "").split()
            self._open.append((tag, raw or self.is_raw))

    def handle_endtag(self, tag):
        while self._open:
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        if data.strip() and not self.is_raw:
            self.texts.append(" ".join(data.split()))

    @property
    def is_raw(self):
        return bool(self._open) and self._open[-1][1]


def route_of(path):
    """The route that answers a path; the path itself where none does."""
    return next((pattern for pattern, _ in ROUTES if re.fullmatch(pattern, path)), path)


@pytest.fixture
def spoken(pseudo_language, database, journal_uri, journal_name):
    """A provider with an invoice whose pages speak the language too, and the words of its data."""
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name) as process:
        books = Books(process.dsn)
        books.catalogue()
        account = books.account("A1", name="Romashka")
        order = books.order(account, "2026-01-01 00:00+03")
        books.invoices(books.run(date(2026, 3, 1)), [(account, [Charge(12_200, order_id=order)])], on=date(2026, 3, 1))
        yield process, values_of(process)


def values_of(process):
    """Texts of the database, the longest first; a code that has a word is none: a page tells the word."""
    values = set()

    def collect(value):
        if isinstance(value, str) and len(value) > 1:
            values.add(" ".join(value.split()).casefold())
        elif isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                collect(item)

    for [name] in process.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"):
        collect([row for [row] in process.rows(f'SELECT row_to_json(t) FROM "{name}" t')])
    values -= {code for table in TABLES.values() for code in table}
    values.add(DIAGNOSIS)
    return sorted(values - {""}, key=len, reverse=True)


def untold_of(answer, data):
    """Words of a page that no language told."""
    names = NAMES | TYPED | words_of_formats()
    return {word: text for text in Read(answer.text).texts for word in untold(text, names, data)}


def test_no_page_has_a_text_that_the_language_does_not_tell(spoken):
    process, data = spoken
    anna = Person(process.port, "fi")
    assert untold_of(anna.get("/sign-in"), data) == {}
    assert anna.sign_in("anna", "correct horse 42").status == 303
    ids = process.seeded.ids
    waiting = ["/", "/invoices/I-000001", "/users", "/audit", "/profile", *(f"/payments/{id_}" for id_ in ids.values())]
    seen, left, found = set(waiting), Counter(), {}
    while waiting:
        path = waiting.pop(0)
        answer = anna.find(path)
        assert answer.status in (200, 409), path
        if not answer.headers["Content-Type"].startswith("text/html"):
            continue
        assert '<html lang="fi"' in answer.text
        found |= {f"{path}: {word}": text for word, text in untold_of(answer, data).items()}
        for link in Read(answer.text).links:
            route = route_of(urlsplit(link).path)
            if link not in seen and left[route] < PAGES_A_ROUTE:
                left[route] += 1
                seen.add(link)
                waiting.append(link)
    assert found == {}
    assert len({route_of(urlsplit(path).path) for path in seen}) >= LEAST_ROUTES


def test_what_cannot_be_done_is_told_in_the_language_too(spoken):
    process, data = spoken
    anna = Person(process.port, "fi")
    wrong = anna.sign_in("anna", "not this one")
    assert pseudo("Login and password do not match.") in wrong.words
    assert anna.sign_in("anna", "correct horse 42").status == 303
    posted = process.seeded.ids["posted"]
    answers = [
        wrong,
        anna.get("/nowhere"),
        anna.get("/invoices/none"),
        anna.get("/payments", q="a b c d e f g h", min="abc", **{"from": "yesterday"}),
        anna.get("/attempts", kind="lost", after="broken"),
        anna.post(f"/payments/{posted}/cancel", {"reason": "x"}, f"/payments/{posted}/cancel"),
        anna.post("/users", {"login": "vera", "role": "viewer"}, "/users"),
        anna.post("/users", {"login": "!", "role": "root"}, "/users"),
        anna.post("/profile", {"current": "x", "password": "short", "repeat": "other"}, "/profile"),
        anna.post("/profile", {"csrf": "forged"}),
    ]
    assert all(answer.status >= 400 for answer in answers)
    assert {word: text for answer in answers for word, text in untold_of(answer, data).items()} == {}


def test_a_language_is_chosen_by_its_own_name(spoken):
    process, _ = spoken
    answer = Person(process.port, "ru").get("/sign-in")
    assert re.findall(r'<button name="language" value="(\w+)" [^>]*>([^<]+)</button>', answer.text) == [
        ("ru", "Русский"),
        ("fi", "Suomi"),
        ("en", "English"),
    ]


def test_who_chose_the_language_reads_it_whatever_the_browser_asks_for(spoken):
    process, _ = spoken
    anna = Person(process.port, "ru")
    assert anna.sign_in("anna", "correct horse 42").status == 303
    assert anna.post("/language", {"language": "en", "next": "/profile"}, "/profile").status == 303
    assert anna.post("/language", {"language": "fi", "next": "/profile"}, "/profile").status == 303
    assert '<html lang="fi"' in anna.get("/profile").text
    elsewhere = Person(process.port, "ru")
    assert elsewhere.sign_in("anna", "correct horse 42").status == 303
    assert '<html lang="fi"' in elsewhere.get("/profile").text  # kept with the user, not in the browser


def test_a_customer_has_any_language_that_has_a_file(pseudo_language, database):
    new = NewCustomer("1001", name="Aino", language=pseudo_language)
    assert act(database, lambda cur: add_customer(cur, new))
    assert problem_with_customer(replace(new, language="xx")) == "language 'xx' must be one of: ru, fi, en"


def test_a_text_that_is_not_marked_is_found():
    page = (
        '<p title="Close">Ƈŀǿşḗ</p><button>Cancel it</button><code class="code">raw</code><pre>GET /</pre><p>osmp</p>'
    )
    found = [word for text in Read(page).texts for word in untold(text, (), ["osmp"])]
    assert found == ["close", "cancel", "it"]
