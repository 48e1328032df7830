"""The page and the PDF of an invoice."""

import time
from datetime import UTC, date, datetime, timedelta

import pytest

from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.dunning import parse_steps, run_chunk, set_steps
from billing.invoicing.dunning_delays import delay_account
from billing.invoicing.dunning_store import set_days_between
from kopeck.databases.transactions import in_transaction
from tests.billing.invoicing.invoice_books import Books, Charge


@pytest.fixture
def invoiced(own_site):
    books = Books(own_site.dsn)
    books.catalogue()
    account = books.account("A1", name="ООО «Ромашка» <b>", details={"inn": "7709876543"})
    order = books.order(account, "2026-01-01 00:00+03")
    books.invoices(books.run(date(2026, 3, 1)), [(account, [Charge(12_200, order_id=order)])], on=date(2026, 3, 1))
    return own_site


def test_an_invoice_is_shown_with_its_state_and_the_view_is_on_record(invoiced) -> None:
    answer = invoiced.person("vera").get("/invoices/I-000001")
    assert answer.status == 200
    for words in ("Счёт № I-000001 от 01.03.2026", "просрочен", "Абонентская плата", "7709876543", "ООО «Ромашка» <b>"):
        assert words in answer.words.replace("\u00a0", " ")
    assert "<b>" not in answer.text
    assert "Не оплачено 122,00 ₽" in answer.words.replace("\u00a0", " ")
    assert "Просмотр счёта" in invoiced.person("anna").find("/audit", q="vera").words


def test_a_suspended_account_is_told_beside_its_invoice_until_a_delay_or_a_payment(invoiced) -> None:
    words = "Услуги, которые оплачивает лицевой счёт A1, приостановлены за долг с "
    assert words not in invoiced.person("vera").get("/invoices/I-000001").words

    def ran(cur):
        return run_chunk(cur, 0, None, "t")

    in_transaction(invoiced.dsn, lambda cur: set_days_between(cur, 0))
    in_transaction(invoiced.dsn, lambda cur: set_steps(cur, "", parse_steps(["1:reminder", "2:suspension"])))
    in_transaction(invoiced.dsn, ran)
    assert words in invoiced.person("vera").get("/invoices/I-000001").words
    time.sleep(1.1)  # a suspension lasts a second at least, also one that ends at once
    until = datetime.now(UTC).date() + timedelta(days=3)
    in_transaction(invoiced.dsn, lambda cur: delay_account(cur, "A1", until, "обещал", "vera"))
    said = invoiced.person("vera").get("/invoices/I-000001").words
    assert words not in said
    assert f"Отсрочка до {until:%d.%m.%Y} включительно: обещал" in said


def test_the_pdf_is_downloaded_under_the_invoices_number(invoiced) -> None:
    answer = invoiced.person("vera").get("/invoices/I-000001/pdf")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''I-000001.pdf"
    assert answer.body.startswith(b"%PDF-")


def test_an_invoice_that_is_not_there_is_told(invoiced) -> None:
    answer = invoiced.person("vera").get("/invoices/I-000009")
    assert answer.status == 404
    assert "Счёта с таким номером нет" in answer.words


def test_an_english_page_writes_every_sum_as_english_does(invoiced) -> None:
    person = invoiced.person("vera")
    person.language = "en"
    words = person.get("/invoices/I-000001").words.replace("\u00a0", " ")
    assert "Unpaid ₽122.00" in words
    assert "122,00" not in words


def test_a_credit_note_leads_to_its_invoice_and_asks_for_nothing(invoiced) -> None:
    def credit(cur):
        return credit_invoice(cur, "I-000001", CreditRequest(None), key="k", actor="vera", why="обрыв связи")

    in_transaction(invoiced.dsn, credit)
    note, original = (invoiced.person("vera").get(f"/invoices/{number}") for number in ("C-000001", "I-000001"))
    assert 'href="/invoices/I-000001"' in note.text
    assert "обрыв связи" in note.words
    assert "Не оплачено" not in note.words
    words = original.words.replace("\u00a0", " ")
    assert "Уменьшено корректировками 122,00 ₽ C-000001" in words
    assert 'href="/invoices/C-000001"' in original.text
    assert "Не оплачено 0,00 ₽" in words
    assert "Сумма счёта 122,00 ₽" in words
