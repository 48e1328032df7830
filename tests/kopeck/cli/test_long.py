"""Long commands: files in another charset, progress where nobody watches, and workers that end with the command."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil
import pytest

from tests.billing.invoicing.invoice_books import Books, Charge

TODAY = datetime.now(UTC).date()


@pytest.fixture
def every_line(monkeypatch):
    monkeypatch.setattr("kopeck.cli.progress.LINE_EVERY_S", 0.0)


def test_a_customer_file_of_excel_is_read_in_its_charset_and_the_hint_says_how(kopeck, database):
    text = "number;name\nc1;Ромашка\nc2;Ёлка\n".encode("cp1251")
    said = kopeck("customer", "import", "-", stdin=text)
    assert said.status == 2
    assert (
        said.err.count("hint: the file is not UTF-8; one that Excel wrote in Russia is read with --charset cp1251") == 1
    )
    assert kopeck("customer", "import", "-", "--charset", "cp1251", stdin=text).status == 0
    assert "Ромашка" in kopeck("customer", "show", "c1").out


def test_a_header_in_another_charset_gets_the_hint_too(kopeck):
    said = kopeck("order", "import", "-", stdin="номер\n1\n".encode("cp1251"))
    assert "line 1 is not utf-8\nhint: " in said.err


def test_accounts_are_imported_from_another_charset(kopeck):
    text = "number;name\n7001;Ёлкина\n".encode("cp1251")
    assert kopeck("account", "import", "-", "--charset", "cp1251", stdin=text).status == 0
    assert "7001  Ёлкина" in kopeck("account", "show", "7001").out


def test_what_a_charset_cannot_hold_is_a_bad_line(kopeck):
    said = kopeck("customer", "import", "-", "--charset", "cp1251", stdin=b"number;name\nc1;\x98\n")
    assert "standard input:2: not cp1251 at byte 4 of the line" in said.err


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("customer", "number\nc1\nc2\n", "import of customers: 2 lines, "),
        ("account", "number\n1\n2\n3\n", "import of accounts: 3 lines"),
    ],
)
def test_an_import_tells_how_far_it_is_where_nobody_watches_a_bar(kopeck, every_line, tmp_path, command, text, told):
    file = tmp_path / "people.csv"
    file.write_text(text)
    said = kopeck(command, "import", str(file))
    assert said.status == 0, said.err
    assert told in said.err
    assert said.err.rstrip().endswith("100 %")


@pytest.fixture
def books(database) -> Books:
    found = Books(database.dsn)
    found.catalogue()
    return found


def bill(books, count):
    run = books.run(TODAY)
    accounts = [books.account(f"A{number}") for number in range(count)]
    books.invoices(run, [(account, [Charge(1_220)]) for account in accounts], on=TODAY)
    return run


def test_pdfs_are_told_with_their_total(kopeck, books, every_line, tmp_path):
    run = bill(books, 3)
    said = kopeck("invoice", "pdf", "--run", str(run), "--out", str(tmp_path / "pdf"), "--workers", "1")
    assert f"PDFs of run {run}: 3 of 3, " in said.err
    assert said.err.rstrip().endswith("100 %")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_make_pdfs_end_with_the_command(books, database, tmp_path, sent):
    run = bill(books, 400)
    environment = {**os.environ, "KOPECK_DATABASE__DSN": database.dsn, "KOPECK_JOURNAL__URI": "mongodb://127.0.0.1:1"}
    arguments = ["invoice", "pdf", "--run", str(run), "--out", str(tmp_path / "pdf"), "--workers", "2"]
    command = [sys.executable, "-m", "kopeck", *arguments]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        workers = _workers_at_work(process, tmp_path / "pdf")
        process.send_signal(sent)
        process.wait(30)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    for one in alive:
        one.kill()
    assert len(gone) >= 2
    assert not alive


def _workers_at_work(process, folder):
    """The command's children, once files come."""
    for _ in range(600):
        if folder.is_dir() and any(folder.glob("*.pdf")):
            return psutil.Process(process.pid).children(recursive=True)
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError("no file came")
