"""``kopeck invoice`` as a person types it."""

import json
from datetime import UTC, datetime

import pytest

from tests.billing.invoicing.invoice_books import Books, Charge

TODAY = datetime.now(UTC).date()


def test_invoices_are_listed_with_what_is_unpaid(kopeck, books) -> None:
    said = kopeck("invoice", "list")
    assert said.status == 0
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert [(row[0], row[4], row[5], row[8]) for row in rows[1:]] == [
        ("I-000003", "12.20", "12.20", "issued"),
        ("I-000002", "61.00", "61.00", "overdue"),
        ("I-000001", "146.40", "146.40", "overdue"),
    ]
    assert "I-000001" not in kopeck("invoice", "list", "--account", "A2").out
    told = json.loads(kopeck("invoice", "list", "--state", "issued", "--json").out)
    assert [(one["number"], one["unpaid"]) for one in told] == [("I-000003", 1_220)]


def test_a_list_has_no_cap_and_comes_page_by_page(kopeck, books, monkeypatch) -> None:
    monkeypatch.setattr("kopeck.cli.billing.invoices.PAGE", 2)
    numbers = [line.split("\t")[0] for line in kopeck("invoice", "list", "--all").out.splitlines()[1:]]
    assert numbers == ["I-000003", "I-000002", "I-000001"]
    limited = kopeck("invoice", "list", "--limit", "1").out.splitlines()
    assert [line.split("\t")[0] for line in limited[1:]] == ["I-000003"]
    told = json.loads(kopeck("invoice", "list", "--all", "--json").out)
    assert [one["number"] for one in told] == numbers
    assert json.loads(kopeck("invoice", "list", "--state", "draft", "--json").out) == []
    assert kopeck("invoice", "list", "--limit", "1000000").status == 0


def test_a_draft_is_shown_under_the_name_that_the_list_gives_it(kopeck, books) -> None:
    account = books.one("SELECT id FROM accounts WHERE number = 'A1'")
    [draft] = books.invoices(books.run(TODAY, "reviewed"), [(account, [Charge(1_220)])], on=TODAY, state="draft")
    listed = kopeck("invoice", "list", "--state", "draft").out.splitlines()[1].split("\t")[0]
    assert listed == f"draft {draft}"
    shown = kopeck("invoice", "show", listed)
    assert shown.status == 0
    assert shown.out == kopeck("invoice", "show", str(draft)).out
    assert "there is no invoice 'draft 1'" in kopeck("invoice", "show", "draft 1").err


def test_the_state_of_an_invoice_is_told_in_its_language(kopeck, books) -> None:
    assert (
        kopeck("invoice", "credit", "I-000001", "--amount", "12.20", "--line", "1", "--key", "k", "--why", "w").status
        == 0
    )
    assert "overdue; unpaid 134.20 RUB; credited 12.20 RUB" in kopeck("invoice", "show", "I-000001").out.replace(
        "\u00a0", " "
    )
    russian = kopeck("invoice", "show", "I-000001", "--language", "ru").out.replace("\u00a0", " ")
    assert "просрочен; не оплачено 134,20 ₽; уменьшено корректировками на 12,20 ₽" in russian


def test_an_invoice_is_shown_in_either_language(kopeck, books) -> None:
    english = kopeck("invoice", "show", "I-000001").out
    assert "Monthly fee · Plan Home 100 · 1 Oct 2026–31 Oct 2026" in english
    assert "Amount to pay: ₽146.40" in english
    assert "Мобильный интернет" in kopeck("invoice", "show", "I-000001", "--language", "ru").out
    assert json.loads(kopeck("invoice", "show", "I-000001", "--json").out)["invoice"]["total"] == 14_640


def test_a_pdf_is_written_under_the_invoices_number(kopeck, books, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kopeck("invoice", "pdf", "I-000002").out == "I-000002.pdf\n"
    assert (tmp_path / "I-000002.pdf").read_bytes().startswith(b"%PDF-")


def test_the_pdfs_of_a_run_are_written_into_a_folder(kopeck, books, tmp_path) -> None:
    said = kopeck("invoice", "pdf", "--run", "1", "--out", str(tmp_path / "run"), "--workers", "2")
    assert said.out.startswith(f"2 PDFs in {tmp_path / 'run'}, ")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["I-000001.pdf", "I-000002.pdf"]
    missing = kopeck("invoice", "pdf", "--run", "99", "--out", str(tmp_path / "none"))
    assert (missing.status, missing.err) == (2, "kopeck: run 99 has no invoices\n")


def test_a_line_is_credited_and_the_key_acts_once(kopeck, books) -> None:
    credit = ("invoice", "credit", "I-000001", "--key", "call 5521", "--why", "обрыв связи")
    assert kopeck(*credit, "--amount", "12.20", "--line", "2").out == "C-000001 credits 12.20 RUB of I-000001\n"
    again = kopeck(*credit, "--amount", "12.20", "--line", "2")
    assert again.out == "C-000001 was written before with this key: it credits 12.20 RUB of I-000001\n"
    assert "to invoice No. I-000001" in kopeck("invoice", "show", "C-000001").out
    rest = kopeck("invoice", "credit", "I-000001", "--all", "--key", "k2", "--why", "all of it")
    assert rest.out == "C-000002 credits 134.20 RUB of I-000001\n"
    assert json.loads(kopeck("invoice", "list", "--state", "credited", "--json").out)[0]["number"] == "I-000001"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("credit", "I-000001", "--key", "k", "--why", "w"), "say what to credit"),
        (("credit", "I-000001", "--all", "--lines", "1", "--key", "k", "--why", "w"), "say what to credit"),
        (("credit", "I-000001", "--lines", "1,x", "--key", "k", "--why", "w"), "no line numbers"),
        (("credit", "I-000001", "--lines", "7", "--key", "k", "--why", "w"), "the invoice has no line 7"),
        (("credit", "I-000001", "--amount", "1,50", "--line", "1", "--key", "k", "--why", "w"), "not a sum"),
        (("credit", "I-000001", "--amount", "122.01", "--line", "1", "--key", "k", "--why", "w"), "122.00 left"),
        (("credit", "I-000009", "--all", "--key", "k", "--why", "w"), "there is no invoice 'I-000009'"),
        (("show", "nonsense"), "there is no invoice 'nonsense'"),
        (("show", "999999999999"), "there is no invoice"),
        (("pdf",), "name an invoice"),
        (("pdf", "--run", "1"), "--run needs --out"),
        (("allocate", "I-000001"), "name the payment"),
        (("allocate", "I-000001", "--payment", "5"), "account A1 has no such payment"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_nothing_changes(kopeck, books, words, message) -> None:
    said = kopeck("invoice", *words)
    assert said.status == 2
    assert message in said.err
    assert books.one("SELECT count(*) FROM invoices") == 3


def test_a_payment_is_directed_to_an_invoice(kopeck, books) -> None:
    account = books.one("SELECT id FROM accounts WHERE number = 'A1'")
    transfer = books.pay(account, 1_220)
    said = kopeck("invoice", "allocate", "I-000003", "--transfer", str(transfer))
    assert said.out == "12.20 go to I-000003\n"
    assert (
        kopeck("invoice", "allocate", "I-000003", "--transfer", str(transfer)).out == "12.20 went already to I-000003\n"
    )
    told = json.loads(kopeck("invoice", "list", "--account", "A1", "--json").out)
    assert [(one["number"], one["state"]) for one in told] == [("I-000003", "paid"), ("I-000001", "overdue")]


# ---- what the judge makes of it


@pytest.fixture
def billed(database, kopeck) -> Books:
    """An order of two thirds of a month and a manual line, billed by the program."""
    found = Books(database.dsn)
    found.catalogue()
    account = found.account("B1")
    found.order(account, "2026-09-11 00:00+03")
    found.ask("INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm,"
              " tax_inside, bill_on, actor, why) VALUES ('m', %s, %s, 'visit', 700, 0, true, '2026-10-01', 't', 'w')",
              account, account)  # fmt: skip
    assert kopeck("bill", "run", "--date", "2026-10-01", "--workers", "1").status == 0
    return found


def test_a_billed_invoice_is_explained_line_by_line(kopeck, billed) -> None:
    said = kopeck("invoice", "explain", "I-000001")
    assert said.status == 0
    assert "1. Monthly fee, recurring: 326.67 RUB\n" in said.out.replace("\u00a0", " ")
    assert "490.00 x 1 x 20 / 30 of the period = 326.66666667" in said.out
    assert "tax 22 %: 326.67" in said.out
    assert "2. visit, by hand: 7.00 RUB\n    written by a person: " in said.out.replace("\u00a0", " ")
    russian = kopeck("invoice", "explain", "I-000001", "--language", "ru").out.replace("\u00a0", " ")
    assert "1. Абонентская плата, плата за период: 326,67 ₽\n" in russian
    assert "2. visit, вручную: 7,00 ₽\n    внесено вручную: 7,00 ₽, налог 0,00 ₽" in russian
    assert "НДС" not in kopeck("invoice", "explain", "I-000001", "--line", "2").out
    missing = kopeck("invoice", "explain", "I-000001", "--line", "9")
    assert (missing.status, missing.err) == (2, "kopeck: I-000001 has no line 9\n")


def test_verify_computes_lines_again_and_finds_one_that_was_tampered_with(kopeck, billed, database) -> None:
    clean = kopeck("verify", "--no-journal")
    assert (clean.status, clean.out.splitlines()[-1]) == (0, "no differences")
    assert any("judge computes them" in line and "1 lines  ok" in line for line in clean.out.splitlines())
    Books(database.admin_dsn).ask(
        "SET session_replication_role = replica; UPDATE invoice_lines SET quantity = 2 WHERE line = 1"
    )
    for options in ((), ("--all-lines",)):
        found = kopeck("verify", "--no-journal", *options)
        assert found.status == 1
        assert "line 1 (recurring fee): quantity 2, judged 1" in found.out
    said = kopeck("invoice", "explain", "I-000001", "--line", "1")
    assert said.status == 1
    assert "differs from what was billed: quantity 2, judged 1" in said.out
