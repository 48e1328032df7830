"""Lists of the console as people use them: every filter of every list, views, columns, exports, bulk actions."""

import csv
import io
import re
from datetime import date
from html import unescape
from urllib.parse import parse_qs, urlencode

import pytest
from python_calamine import CalamineWorkbook

from billing.listing.records import Search
from tests.billing.invoicing.invoice_books import Books, Charge
from web.console.listings import LISTINGS
from web.site.lists.request import parameters_of

#: Something that every filter of a kind takes.
VALUES = {"min": "1", "max": "900 000", "from": "01.01.2020", "to": "31.12.2030", "period": "7d", "is": "filled"}


@pytest.fixture(scope="module")
def books(site):
    """Two customers with orders, invoices of two runs, a credit to come and a debt."""
    books = Books(site.dsn)
    books.catalogue()
    first = books.account("A1", name="ООО «Ромашка» <b>", group="vip", contacts={"phone": "+7 916 000-00-01"})
    second = books.account("A2", name="=HYPERLINK(1)")
    for account in (first, second):
        books.order(account, "2026-01-01 00:00+03")
    order = books.one("SELECT min(id) FROM orders")
    charge = Charge(12_200, order_id=order)
    big = Charge(4_000_000_000, order_id=order)
    books.invoices(books.run(date(2026, 3, 1)), [(first, [charge]), (second, [charge])], on=date(2026, 3, 1))
    books.invoices(books.run(date(2026, 4, 1)), [(first, [big]), (second, [charge])], on=date(2026, 4, 1))
    books.pay(second, 24_400)
    return books


def filters():
    for listing in LISTINGS.values():
        for parameter in parameters_of(listing):
            name, _, part = parameter.partition(".")
            column, field = listing.by_name[name], listing.source.fields[name]
            value = VALUES.get(part)
            if part == "match":
                yield listing.name, {name: "ром", parameter: "equals"}
            elif value is not None:
                yield listing.name, {parameter: value}
            elif field.search is Search.CHOICE:
                for choice in column.words or {"main": ""}:
                    yield listing.name, {parameter: choice}
            else:
                yield listing.name, {parameter: "7" if field.type != "text" else "ром"}


@pytest.mark.parametrize(("name", "query"), list(filters()))
def test_every_filter_of_every_list_is_answered_and_told(site, books, name, query) -> None:
    columns = ".".join(LISTINGS[name].by_name)
    answer = site.person("vera").find(f"/{name}", **query, columns=columns)
    assert answer.status == 200, answer.words
    assert "set-filters" in answer.text
    assert "Сбросить фильтр" in answer.words


@pytest.mark.parametrize("name", list(LISTINGS))
def test_every_list_is_ordered_by_what_it_says_both_ways(site, books, name) -> None:
    listing = LISTINGS[name]
    person = site.person("vera")
    for column in listing.columns:
        if listing.source.fields[column.name].is_ordered:
            for sort in (column.name, f"-{column.name}"):
                assert person.find(f"/{name}", sort=sort).status == 200
        else:
            assert person.find(f"/{name}", sort=column.name).status == 400


def rows(answer) -> list[list[str]]:
    body = re.search(r"<tbody.*?</tbody>", answer.text, re.DOTALL)
    if body is None:
        return []
    return [
        [
            " ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr.*?</tr>", body[0], re.DOTALL)
    ]


def test_customers_are_found_by_a_part_of_a_name_an_account_and_a_debt(site, books) -> None:
    person = site.person("vera")
    for query in ({"name": "РОМАШ"}, {"account": "A1", "account.match": "equals"}, {"balance.max": "-0,01"}):
        found = rows(person.find("/customers", **query))
        assert [row[0].split()[0] for row in found] == ["A1"], query
    [row] = rows(person.find("/customers", name="ромаш"))
    assert "ООО «Ромашка» <b>" in " ".join(row)
    assert "<b>" not in person.find("/customers", name="ромаш").text.replace("&lt;b&gt;", "")


def test_a_list_tells_how_many_rows_and_their_sums_beyond_32_bits(site, books) -> None:
    words = site.person("vera").find("/invoices", **{"total.min": "30 000 000"}).words.replace("\u00a0", " ")
    assert "1 счёт · 40 000 000,00 ₽" in words
    assert "1–1 из 1" in words


def test_states_of_invoices_are_filtered_as_they_are_shown(site, books) -> None:
    person = site.person("vera")
    assert {row[-1] for row in rows(person.find("/invoices", state="paid"))} == {"оплачен"}
    assert len(rows(person.find("/invoices", state="paid"))) == 2
    assert len(rows(person.find("/invoices", state="overdue"))) == 2
    assert len(rows(person.find("/invoices", state=["overdue", "paid"]))) == 4
    assert rows(person.find("/invoices", run=str(books.one("SELECT min(id) FROM bill_runs"))))
    assert [row[0] for row in rows(person.find("/invoices", number="I-000003"))] == ["I-000003"]


def test_what_an_address_says_wrongly_is_told_beside_its_field_and_nothing_is_listed(site, books) -> None:
    person = site.person("vera")
    answer = person.find("/invoices", **{"total.min": "много"})
    assert answer.status == 400
    assert 'value="много"' in answer.text
    assert "Сумма, например" in answer.words
    assert not rows(answer)
    answer = person.find("/invoices", colour="red")
    assert answer.status == 400
    assert "colour" in answer.words


def test_a_damaged_or_foreign_page_is_told(site, books) -> None:
    person = site.person("vera")
    answer = person.find("/invoices", place="junk")
    assert answer.status == 400
    assert "повреждён" in answer.words


def test_pages_go_on_and_back_and_name_their_rows(own_site) -> None:
    own_site.rows(
        "INSERT INTO customers (number, name)"
        " SELECT 'N' || lpad(n::text, 4, '0'), 'Имя ' || n FROM generate_series(1, 120) n"
    )
    person = own_site.person("vera")
    first = person.find("/customers")
    assert "1–50 из 120" in first.words
    following = unescape(re.search(r'rel="next" href="([^"]+)"', first.text)[1])
    second = person.get(following)
    assert "51–100 из 120" in second.words
    assert rows(second)[0][0].startswith("N0051")
    back = unescape(re.search(r'rel="prev" href="([^"]+)"', second.text)[1])
    assert rows(person.get(back)) == rows(first)
    # The same place under another filter is refused.
    place = parse_qs(following.partition("?")[2])["place"][0]
    answer = person.find("/customers", state="active", place=place)
    assert answer.status == 400
    assert "другому" in answer.words


def test_columns_that_a_user_chooses_stay_his_and_stand_in_the_address(own_site) -> None:
    person = own_site.newcomer("vera")
    answer = person.post("/lists/customers/columns", {"query": "", "column": ["phone", "number"]}, "/customers")
    assert answer.status == 303
    assert answer.location == "/customers?columns=number.phone"
    assert person.get("/customers").location == "/customers?columns=number.phone"
    assert own_site.newcomer("oleg").get("/customers").status == 200
    answer = person.post("/lists/customers/columns", {"query": "", "do": "default"}, "/customers")
    assert person.get("/customers").status == 200


def test_a_view_is_saved_shared_opened_with_the_days_of_the_page_and_removed(own_site) -> None:
    anna, vera = own_site.newcomer("anna"), own_site.newcomer("vera")
    query = urlencode({"state": "overdue", "sort": "due"})
    answer = anna.post(
        "/lists/invoices/views",
        {"query": query, "view_name": " Долги  к\u00a0сроку ", "view_shared": "yes"},
        "/invoices",
    )
    assert answer.status == 303
    page = vera.find("/invoices", **{"invoiced.period": "7d"})
    href = unescape(re.search(r'<a href="([^"]+)">Долги к сроку</a>', page.text)[1])
    assert parse_qs(href.partition("?")[2]) == {"invoiced.period": ["7d"], "state": ["overdue"], "sort": ["due"]}
    assert vera.get(href).status == 200
    view = own_site.one("SELECT id FROM list_views")
    assert vera.post("/lists/invoices/views", {"query": "", "remove": view}, "/invoices").status == 404
    assert (
        vera.post("/lists/invoices/views", {"query": "", "view_name": "x", "view_shared": "yes"}, "/invoices").status
        == 403
    )
    assert anna.post("/lists/invoices/views", {"query": "", "remove": view}, "/invoices").status == 303
    assert own_site.one("SELECT count(*) FROM list_views") == 0
    anna.post("/lists/invoices/views", {"query": "", "view_name": " "}, "/invoices")
    assert "нужно название" in anna.find("/invoices").words
    actions = [row[0] for row in own_site.rows("SELECT action FROM audit WHERE action ~ '^list_view_' ORDER BY id")]
    assert actions == ["list_view_saved", "list_view_removed"]


def test_a_small_export_comes_at_once_with_the_columns_of_the_screen(site, books) -> None:
    person = site.person("oleg")
    query = urlencode({"columns": "number.customer.total.due", "sort": "invoiced"})
    answer = person.post("/lists/invoices/export", {"query": query, "format": "csv-semicolon"}, "/invoices")
    assert answer.status == 200
    lines = list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig")), delimiter=";"))
    assert lines[0] == ["Счёт", "Клиент", "Номер клиента", "Итого", "Валюта", "Срок оплаты"]
    assert len(lines) == 5
    assert ["I-000003", "ООО «Ромашка» <b>", "A1", "40000000,00", "RUB", "15.04.2026"] in lines
    assert any("'=HYPERLINK(1)" in line for line in lines)
    answer = person.post("/lists/invoices/export", {"query": query, "format": "xlsx"}, "/invoices")
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(answer.body)).get_sheet_by_index(0).to_python()
    assert sheet[0] == lines[0]
    assert ["I-000003", "ООО «Ромашка» <b>", "A1", 40_000_000.0, "RUB", date(2026, 4, 15)] in sheet
    assert site.person("vera").post("/lists/invoices/export", {"query": "", "format": "csv"}, "/invoices").status == 403


def test_a_bulk_action_says_how_many_asks_for_the_number_and_is_queued_once(own_site) -> None:
    books = Books(own_site.dsn)
    books.catalogue()
    accounts = [books.account(f"A{n}") for n in range(1, 104)]
    books.invoices(books.run(date(2026, 3, 1)), [(account, [Charge(100)]) for account in accounts], on=date(2026, 3, 1))
    person = own_site.person("oleg")
    keys = [str(key) for (key,) in own_site.rows("SELECT id FROM invoices ORDER BY id LIMIT 2")]
    form = {"query": "", "action": "invoice_pdfs", "row": [*keys, "999"]}
    asked = person.post("/lists/invoices/act", form, "/invoices")
    assert "2 счёта" in asked.words
    all_of = {"query": "", "action": "invoice_pdfs", "all": "yes"}
    asked = person.post("/lists/invoices/act", all_of, "/invoices")
    assert "103 счёта" in asked.words
    confirmed = {**all_of, "confirmed": "yes", "count": "103", "token": asked.hidden("token")}
    assert "Введите" in person.post("/lists/invoices/act", {**confirmed, "typed": "13"}, "/invoices").words
    assert (
        "изменились"
        in person.post("/lists/invoices/act", {**confirmed, "count": "90", "typed": "90"}, "/invoices").words
    )
    answers = [person.post("/lists/invoices/act", {**confirmed, "typed": "103"}, "/invoices") for _ in range(2)]
    assert len({answer.location for answer in answers}) == 1
    assert own_site.one("SELECT count(*) FROM jobs WHERE kind = 'bulk.invoice_pdfs'") == 1
    assert person.post("/lists/invoices/act", {"query": "", "action": "invoice_pdfs"}, "/invoices").status == 303
    assert own_site.person("vera").post("/lists/invoices/act", all_of, "/invoices").status == 403


def test_a_list_and_its_services_are_for_those_with_its_right(site, books) -> None:
    stranger = site.person()
    for name in LISTINGS:
        assert stranger.get(f"/{name}").status in (302, 303)
    person = site.person("vera")
    for service in ("columns", "views", "export", "act"):
        assert person.post(f"/lists/nothing/{service}", {"query": ""}, "/customers").status == 404


def test_a_right_limited_to_legal_entities_shows_their_rows_alone(own_site) -> None:
    books = Books(own_site.dsn)
    books.catalogue()
    accounts = [books.account("A1"), books.account("A2")]
    other = own_site.one("INSERT INTO legal_entities (number, name) VALUES ('other', 'Другое') RETURNING id")
    own_site.rows("UPDATE billing_accounts SET legal_entity_id = %s WHERE account_id = %s", other, accounts[1])
    for account in accounts:
        books.order(account, "2026-01-01 00:00+03")
    books.invoices(books.run(date(2026, 3, 1)), [(account, [Charge(100)]) for account in accounts], on=date(2026, 3, 1))
    role = own_site.one(
        "INSERT INTO roles (name, changed_by, rights, is_limited) VALUES ('limited', 't',"
        " ARRAY['customers.view', 'orders.view', 'invoices.view'], true) RETURNING id"
    )
    own_site.rows("INSERT INTO role_legal_entities (role_id, legal_entity_id) VALUES (%s, %s)", role, other)
    own_site.rows(
        "UPDATE user_roles SET role_id = %s WHERE user_id = (SELECT id FROM users WHERE login = 'vera')", role
    )
    person = own_site.newcomer("vera")
    assert [row[0].split()[0] for row in rows(person.find("/customers"))] == ["A2"]
    assert len(rows(person.find("/orders"))) == 1
    assert rows(person.find("/invoices")) == []  # the series of both is the first entity's
    assert person.get("/runs").status == 403
    assert person.get("/customers/A1").status == 404
    assert person.get("/customers/A2").status == 200
