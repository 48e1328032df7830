"""The work behind lists, done by a worker of jobs: files of any size, and a result for each row of a bulk action."""

import asyncio
import csv
import io
import re
import zipfile
from datetime import UTC, date, datetime
from urllib.parse import parse_qs

import pytest
from python_calamine import CalamineWorkbook

from billing.database.aiopg import connect
from billing.work.jobs import details_store as details
from billing.work.jobs.store import enqueue, find_job
from kopeck.databases.stores import Stores
from kopeck.serve.jobs import KINDS
from kopeck.settings import Settings
from kopeck.work.frames import Setup
from kopeck.work.worker import Worker, WorkerOptions
from tests.billing.invoicing.invoice_books import Books, Charge

ASKED = {"at": "2026-05-01T10:00:00+00:00", "language": "ru", "zone": "Europe/Moscow", "legal_entities": None}


def done(dsn, kind, journal=("mongodb://127.0.0.1:1", "none"), **arguments):
    """(the job when it is over, its files by name, its rows) of one job that a worker did."""

    async def work():
        connection = await connect(dsn, name="test", statement_timeout_s=60, idle_transaction_s=60)
        async with connection, connection.cursor() as cur:
            job_id = await enqueue(cur, kind, {**ASKED, **arguments}, asked_by="user:anna")
            stop = asyncio.Event()
            setup = Setup(Settings(), Stores(dsn, "", *journal))
            task = asyncio.create_task(Worker(WorkerOptions(setup, KINDS, poll_s=0.2, lease_s=10)).run(stop))
            try:
                async with asyncio.timeout(60):
                    while not (job := await find_job(cur, job_id)).state.is_over:
                        await asyncio.sleep(0.1)
            finally:
                stop.set()
                await task
            files = {}
            for file in await details.files_of(cur, job_id):
                parts = []
                while (part := await details.read_part(cur, file.id, len(parts))) is not None:
                    parts.append(bytes(part))
                files[file.name] = b"".join(parts)
            await cur.execute(
                "SELECT ref, label, outcome, detail FROM job_rows WHERE job_id = %s ORDER BY no", (job_id,)
            )
            return job, files, await cur.fetchall()

    return asyncio.run(work())


@pytest.fixture
def invoices(database):
    books = Books(database.dsn)
    books.catalogue()
    accounts = [books.account(f"A{n}", name=f"Клиент {n}") for n in range(1, 6)]
    orders = [books.order(account, "2026-01-01 00:00+03") for account in accounts]
    bills = [
        (account, [Charge(100 * n, order_id=order)])
        for n, (account, order) in enumerate(zip(accounts, orders, strict=True), 1)
    ]
    return books.invoices(books.run(date(2026, 3, 1)), bills, on=date(2026, 3, 1))


def test_a_list_is_exported_by_a_job_with_the_filter_and_columns_that_were_asked_for(database, invoices) -> None:
    query = "total.min=2&columns=number.customer.total&sort=invoiced"
    job, files, _ = done(database.dsn, "list.export", list="invoices", query=query, format="csv", rows=4)
    assert (job.state.value, job.result) == ("done", {"rows": 4})
    [(name, content)] = files.items()
    assert name == "invoices-20260501-130000.csv"
    lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert [line[0] for line in lines[1:]] == ["I-000002", "I-000003", "I-000004", "I-000005"]
    assert lines[1] == ["I-000002", "Клиент 2", "A2", "2.00", "RUB"]


def test_a_workbook_has_the_same_and_rows_beyond_a_sheet_go_to_the_next(database, invoices) -> None:
    _, files, _ = done(database.dsn, "list.export", list="invoices", query="sort=invoiced", format="xlsx", rows=5)
    [content] = files.values()
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()
    assert len(sheet) == 6
    assert sheet[0][0] == "Счёт"
    assert date(2026, 3, 1) in sheet[1]


def test_an_export_shows_no_more_than_its_asker_may_see(database, invoices) -> None:
    job, _, _ = done(database.dsn, "list.export", list="invoices", query="", format="csv", rows=5, legal_entities=[99])
    assert job.result == {"rows": 0}


def test_an_export_of_a_list_that_is_gone_is_refused_with_a_sentence(database) -> None:
    job, files, _ = done(database.dsn, "list.export", list="gone", query="", format="csv", rows=5)
    assert (job.state.value, job.failure) == ("failed", "refused")
    assert "there is no list 'gone'" in job.message
    assert not files


def test_pdf_files_of_ticked_invoices_come_in_one_archive_with_a_result_for_each(database, invoices) -> None:
    keys = [str(invoices[0]), str(invoices[3]), "77"]
    job, files, rows = done(database.dsn, "bulk.invoice_pdfs", list="invoices", query="", keys=keys, rows=2)
    assert job.result == {"rows": 2}
    with zipfile.ZipFile(io.BytesIO(files["invoices.zip"])) as archive:
        assert archive.namelist() == ["I-000001.pdf", "I-000004.pdf"]
        assert archive.read("I-000001.pdf").startswith(b"%PDF-")
    assert rows == [
        (str(invoices[0]), "I-000001", "done", "I-000001.pdf"),
        (str(invoices[3]), "I-000004", "done", "I-000004.pdf"),
    ]


def test_all_rows_of_a_filter_are_done_whatever_page_was_open(database, invoices) -> None:
    query = "total.max=3"
    job, _, rows = done(database.dsn, "bulk.invoice_pdfs", list="invoices", query=query, keys=None, rows=3)
    assert (job.result, len(rows)) == ({"rows": 3}, 3)


def test_payments_of_a_filter_are_exported_by_a_job(own_site, journal_uri, journal_name) -> None:
    now = datetime.now(UTC).isoformat()
    job, files, _ = done(
        own_site.dsn, "payments.export", (journal_uri, journal_name), query="state=posted", format="csv", at=now
    )
    assert job.state.value == "done", job.message
    [content] = files.values()
    lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert lines[0][:3] == ["№", "Получен", "Партнёр"]
    assert job.result == {"rows": len(lines) - 1}
    assert str(own_site.seeded.ids["posted"]) in {line[0] for line in lines}
    assert {line[9] for line in lines[1:]} == {"posted"}
    assert "1234.56" in {line[7] for line in lines}


def test_payments_are_exported_and_views_of_them_saved_from_their_page(own_site) -> None:
    person = own_site.person("oleg")
    answer = person.post("/payments/export", {"query": "state=posted", "format": "xlsx"}, "/payments")
    assert answer.status == 303
    assert own_site.one("SELECT kind FROM jobs") == "payments.export"
    assert own_site.person("vera").post("/payments/export", {"query": "", "format": "csv"}, "/payments").status == 403
    answer = person.post("/payments/views", {"query": "state=held", "view_name": "Удержаны"}, "/payments")
    assert answer.location == "/payments?state=held"
    page = person.find("/payments", period="7d")
    [href] = re.findall(r'<a href="([^"]+)">Удержаны</a>', page.text)
    assert parse_qs(href.replace("&amp;", "&").partition("?")[2]) == {"state": ["held"], "period": ["7d"]}
    assert "Удержаны" not in own_site.person("vera").find("/payments").words
