"""The search box over a real site: what a person may see is found, one exact hit opens, what is away is told."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest

from tests.web.conftest import Person, Running, running

_ROWS = """
    INSERT INTO accounts (id, number, kind, name)
    SELECT 9000 + n, 'SEARCH-' || n, 'subscriber', '' FROM generate_series(10, 30) n;
    INSERT INTO customers (id, number, name, contacts)
    SELECT 9000 + n, 'CU-' || n, CASE n WHEN 10 THEN 'Воробьёва <b>Ольга</b>' ELSE 'Снегирёв Иван ' || n END,
           jsonb_build_object('phone', '+7 (999) 000-00-' || n, 'email', 'c' || n || '@example.ru')
    FROM generate_series(10, 30) n;
    INSERT INTO billing_accounts (account_id, customer_id, payer_account_id)
    SELECT 9000 + n, 9000 + n, 9000 + n FROM generate_series(10, 30) n;
"""


@pytest.fixture(scope="module")
def searched(site: Running) -> Running:
    with closing(psycopg2.connect(site.owner_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(_ROWS)
    return site


@pytest.fixture
def anna(searched: Running) -> Person:
    return searched.person("anna")


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        ("CU-10", "/customers/CU-10"), ("cu-10", "/customers/CU-10"), ("SEARCH-12", "/customers/CU-12"),
        ("8 999 000 00 13", "/customers/CU-13"), ("C14@example.ru", "/customers/CU-14"), ("osmp", "/partners/osmp"),
        ("клиент: CU-15", "/customers/CU-15"), ("9000000001", None), ("payment: 9000000001", None),
    ],
)  # fmt: skip
def test_one_exact_hit_opens_its_object(searched: Running, anna: Person, typed: str, target: str | None) -> None:
    answer = anna.get("/search", q=typed)
    assert answer.status == 303, answer.words
    assert answer.location == (target or f"/payments/{searched.seeded.ids['posted']}")


def test_a_part_of_a_name_is_told_with_what_tells_people_apart(anna: Person) -> None:
    answer = anna.get("/search", q="воробьеву")
    assert answer.status == 200
    assert 'href="/customers/CU-10"' in answer.text
    assert "SEARCH-10" in answer.text
    assert "+7 (999) 000-00-10" in answer.text
    assert "&lt;b&gt;Ольга&lt;/b&gt;" in answer.text
    assert "<b>Ольга" not in answer.text


def test_many_are_few_with_a_way_to_all_of_them(anna: Person) -> None:
    answer = anna.get("/search", q="Снегирёв")
    assert answer.text.count('class="row-link" href="/customers/') == 8
    [address] = [part.partition('"')[0] for part in answer.text.split('href="') if part.startswith("/customers?")]
    listed = anna.find(address.replace("&amp;", "&"))
    assert listed.status == 200
    assert listed.text.count("CU-1") > 0
    assert "CU-30" in listed.text


def test_payments_are_found_by_the_journal_too(anna: Person) -> None:
    answer = anna.get("/search", q="payment: Ёлкина")
    assert answer.status == 200
    assert "79161234567" in answer.text
    assert "/payments/" in answer.text
    assert "/customers/" not in answer.text
    answer = anna.get("/search", q="1 234,56")
    assert "1\u00a0234,56" in answer.text


def test_only_what_the_rights_allow_is_found(searched: Running) -> None:
    vera, anna = searched.person("vera"), searched.person("anna")
    assert anna.get("/search", q="oleg").location == "/users#oleg"
    assert "/users" not in vera.get("/search", q="oleg").text
    answer = vera.get("/search", q="user: oleg")
    assert answer.status == 403
    assert searched.one("SELECT count(*) FROM audit WHERE action = 'denied' AND detail ->> 'path' = '/search'") > 0


def test_what_was_searched_is_on_the_audit_record(searched: Running, anna: Person) -> None:
    anna.get("/search", q="заказ: Ъ-7")
    assert searched.rows("SELECT actor, detail FROM audit WHERE action = 'searched' ORDER BY id DESC LIMIT 1") == [
        ("user:anna", {"text": "Ъ-7", "kind": "order"})
    ]


@pytest.mark.parametrize("typed", ["", "   ", "\u202e\u200b", "№", "%%%", "___", "\\", "«»"])
def test_nothing_to_search_for_says_what_can_be(anna: Person, typed: str) -> None:
    answer = anna.get("/search", q=typed)
    assert answer.status == 200
    assert "payment:" in answer.words or "платёж:" in answer.words


@pytest.mark.parametrize(
    "typed",
    ["<script>alert(1)</script>", "' OR 1=1 --", "100%_", "\u202eнилкЁ", "a\u0000b", "😀😀", "{{ 7*7 }}", "'':*"],
)
def test_rubbish_finds_nothing_and_breaks_nothing(anna: Person, typed: str) -> None:
    answer = anna.get("/search", q=typed)
    assert answer.status == 200
    assert "<script>alert" not in answer.text
    assert "49" not in answer.words


def test_too_long_a_text_is_refused_with_a_sentence(anna: Person) -> None:
    answer = anna.get("/search", q="я" * 500)
    assert answer.status == 400
    assert "200" in answer.words
    assert "я" * 300 not in answer.text
    assert anna.get("/search", q=" ".join("абвгдежзик")).status == 400


def test_halves_of_letters_are_no_mistake_of_ours(anna: Person) -> None:
    assert anna.ask("GET", "/search?q=%ED%A0%80%FF").status == 200
    assert anna.ask("GET", "/search?q=" + quote("Ёлкина") + "&q=second&x=%FF").status == 200


def test_both_languages(searched: Running, anna: Person) -> None:
    anna.language = "en"
    answer = anna.get("/search", q="nothing at all is named so")
    assert "Nothing found" in answer.words or "Ничего не найдено" in answer.words


@pytest.fixture
def without_journal(database: Any, journal_uri: str, journal_name: str) -> Iterator[Running]:
    nowhere = ("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50", journal_name)
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name, pages_journal=nowhere) as process:
        yield process


def test_a_journal_that_is_away_is_told_and_the_others_are_shown(without_journal: Running) -> None:
    anna = without_journal.person("anna")
    assert anna.get("/search", q="9000000001").status == 303
    answer = anna.get("/search", q="Сидоров")
    assert answer.status == 200
    assert "79123334455" in answer.text
    assert "notice-warn" in answer.text


def test_a_slow_source_is_told_and_the_others_are_shown(own_site: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another session holds a table of one source: its statement waits until its time is over."""
    monkeypatch.setattr("web.console.search.STORE_LIMIT_MS", 200)
    anna = own_site.person("anna")
    with closing(psycopg2.connect(own_site.owner_dsn)) as holder, holder.cursor() as cur:
        cur.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        answer = anna.get("/search", q="Сидоров")
        holder.rollback()
    assert answer.status == 200
    assert "79123334455" in answer.text
    assert "notice-warn" in answer.text
