"""``kopeck invoice`` and ``kopeck dunning`` as a person types them."""

import getpass
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.billing.invoicing.invoice_books import Books, Charge

TODAY = datetime.now(UTC).date()
LONG_AGO = TODAY - timedelta(days=100)


@pytest.fixture
def books(database) -> Books:
    """Two customers; A1 has an old invoice of two lines and a new one, A2 an old one in English."""
    found = Books(database.dsn)
    found.catalogue()
    first = found.account("A1", name="Ромашка")
    second = found.account("A2", name="Daisy Ltd", language="en")
    order = found.order(first, "2026-01-01 00:00+03")
    lines = [Charge(12_200, order_id=order), Charge(2_440, "data", "usage", order, 1_500)]
    found.invoices(found.run(LONG_AGO), [(first, lines), (second, [Charge(6_100)])], on=LONG_AGO)
    found.invoices(found.run(TODAY), [(first, [Charge(1_220)])], on=TODAY)
    return found


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
    assert "Amount to pay: 146.40" in english
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


# ---- dunning


def test_a_dry_run_tells_what_a_run_would_do_and_changes_nothing(kopeck, books, tmp_path) -> None:
    file = tmp_path / "due.csv"
    said = kopeck("dunning", "run", "--dry-run", "--list", str(file))
    assert said.status == 0
    assert said.out.startswith("a run would do this; nothing is changed\n")
    assert "(all)\t1\treminder\t2\t207.40\tRUB\n(all)\t2\twarning\t2\t207.40\tRUB\n" in said.out
    assert "orders: 0 would be suspended, 0 cancelled" in said.out
    assert "a suspension or cancellation comes 3 days after the step before it, or later" in said.out
    assert "A1\tA1\t146.40\tRUB\t" in said.out
    assert [line.split(",")[:3] for line in file.read_text().splitlines()[1:]] == [
        ["A1", "A1", "reminder warning"], ["A2", "A2", "reminder warning"],
    ]  # fmt: skip
    told = json.loads(kopeck("dunning", "run", "--dry-run", "--json", "--largest", "1").out)
    assert [(one["account"], one["overdue"]) for one in told["largest"]] == [("A1", 14_640)]
    assert books.one("SELECT count(*) FROM dunning_events") == 0
    assert kopeck("dunning", "run", "--list", str(file)).status == 2


def test_a_first_run_warns_and_the_settings_say_when_it_suspends(kopeck, books) -> None:
    said = kopeck("dunning", "run")
    assert said.out == (
        "events: 2 reminder, 2 warning, 0 suspension, 0 cancellation, 0 lifted\norders: 0 suspended, 0 cancelled\n"
    )
    assert json.loads(kopeck("dunning", "run", "--json").out) == {"orders_suspended": 0, "orders_cancelled": 0}
    assert re.search(r"next: suspension, by a run on \d{4}-\d\d-\d\d or later\n", kopeck("dunning", "show", "A1").out)
    assert json.loads(kopeck("dunning", "show", "A1", "--json").out)["next"]["action"] == "suspension"
    assert kopeck("dunning", "settings", "show").out == (
        "a suspension or cancellation comes 3 days after the step before it, or later\nevery overdue debt counts\n"
    )
    assert kopeck("dunning", "settings", "set", "--days-between", "0", "--minimum", "100").out == (
        "a suspension or cancellation may come in the same run as the step before it\nthe least debt in RUB is 100.00\n"
    )
    assert json.loads(kopeck("dunning", "settings", "show", "--json").out) == {
        "days_between": 0, "minimums": {"RUB": 10_000},
    }  # fmt: skip
    assert kopeck("dunning", "run").out == (
        "events: 0 reminder, 0 warning, 1 suspension, 1 cancellation, 1 lifted\norders: 1 suspended, 1 cancelled\n"
    )
    shown = kopeck("dunning", "show", "A1").out
    assert "overdue 146.40 RUB, the oldest unpaid invoice was due on " in shown
    assert "cancellation\t146.40\tI-000001\tsystem:cli" in shown
    for words, message in (
        (("--days-between", "1000"), "0 to 365 days, not 1000"),
        (("--minimum", "x"), "minimum: "),
        (("--minimum", "1", "--currency", "rub"), "currency 'rub' is none such as RUB"),
        ((), "say --days-between, --minimum, or both"),
    ):
        said = kopeck("dunning", "settings", "set", *words)
        assert (said.status, message in said.err) == (2, True)


def test_a_suspended_customer_looks_so_everywhere_until_a_delay(kopeck, books, database) -> None:
    kopeck("dunning", "settings", "set", "--days-between", "0")
    kopeck("dunning", "steps", "set", "1:reminder", "14:suspension")
    Books(database.owner_dsn).ask("UPDATE orders SET number = 'O1'")
    assert "\topen\n" in kopeck("order", "list", "--account", "A1").out
    kopeck("dunning", "run")
    assert "\tsuspended for debt\n" in kopeck("order", "list", "--account", "A1").out
    assert ", suspended for debt since " in kopeck("order", "show", "O1").out
    [order] = json.loads(kopeck("order", "list", "--account", "A1", "--json").out)
    assert (order["state"], order["suspension"]["reason"]) == ("suspended for debt", "dunning")
    shown = kopeck("customer", "show", "A1").out
    assert shown.count("active, suspended for debt") == 2
    assert "\tsuspended for debt\n" in shown
    assert "A1\tactive, suspended for debt\n" in kopeck("customer", "list").out
    assert "\nsubscriber, active, suspended for debt, opened " in kopeck("account", "show", "A1").out
    assert json.loads(kopeck("customer", "show", "A1", "--json").out)["suspended"] == ["dunning"]
    assert "suspended for debt since " in kopeck("dunning", "show", "A1").out
    [blocked] = kopeck("dunning", "blocked").out.splitlines()[1:]
    assert blocked.split("\t")[:4] == ["A1", "O1", "plan home", "suspended for debt"]
    assert json.loads(kopeck("dunning", "blocked", "--json").out)[0]["reason"] == "dunning"
    assert json.loads(kopeck("dunning", "blocked", "--reason", "asked", "--json").out) == []

    time.sleep(1.1)  # a suspension lasts a second at least, also one that ends at once
    friday = TODAY + timedelta(days=5)
    put_off = ("dunning", "delay", "A1", "--until", str(friday), "--reason", "promised for Friday")
    assert kopeck(*put_off).out == f"account A1: dunning is put off through {friday}\n"
    assert kopeck(*put_off).out == f"account A1: dunning is put off through {friday} already\n"
    assert "\topen\n" in kopeck("order", "list", "--account", "A1").out
    shown = kopeck("dunning", "show", "A1").out
    assert f"put off through {friday}: promised for Friday\n" in shown
    assert f"delayed\t146.40\t-\tsystem:cli:{getpass.getuser()}\tuntil {friday}: promised for Friday\n" in shown
    assert kopeck("dunning", "delay", "A1", "--withdraw", "--reason", "x").out == "account A1: the delay is withdrawn\n"
    assert kopeck("dunning", "delay", "A1", "--withdraw", "--reason", "x").out == "account A1: there is no delay\n"
    assert kopeck("dunning", "delay", "A1", "--reason", "x").status == 2
    assert kopeck("dunning", "delay", "A9", "--withdraw", "--reason", "x").err == "kopeck: there is no account 'A9'\n"


def test_steps_are_set_and_listed(kopeck, books) -> None:
    assert kopeck("dunning", "steps", "set", "--group", "gold", "5:reminder", "90:suspension").out == "gold: 2 steps\n"
    assert "gold\t2\t90\tsuspension" in kopeck("dunning", "steps", "list").out
    assert json.loads(kopeck("dunning", "steps", "list", "--json").out)["gold"][0] == {
        "step": 1, "days": 5, "action": "reminder",
    }  # fmt: skip
    for words, message in (
        (("5:shout",), "must be one of"),
        (("9:warning", "5:warning"), "must ascend"),
        ((), "empty"),
    ):
        said = kopeck("dunning", "steps", "set", *words)
        assert said.status == 2
        assert message in said.err


def test_an_account_that_is_not_there_and_a_date_to_come_are_told(kopeck, books) -> None:
    assert kopeck("dunning", "show", "A9").err == "kopeck: there is no account 'A9'\n"
    said = kopeck("dunning", "run", "--date", "2100-01-01")
    assert (said.status, said.err) == (2, "kopeck: 2100-01-01 is to come: nobody is overdue by it yet\n")
