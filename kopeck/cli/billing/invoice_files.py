"""PDFs of all invoices of a billing run, into a folder, by several processes.

Rules. A file is written under a temporary name and renamed when it is whole, so a file that is there is complete and a
run that was interrupted may simply be asked for again. When the command ends, its worker processes end. The database
is read here, PAGE invoices at a time and no more pages ahead than there are processes to make them, so memory does not
grow with the run.

Does not know: how a document looks.
"""

import os
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.invoicing.documents import document_of, file_name_of, make_pdf, new_compiler
from billing.invoicing.invoices import InvoiceDetails, InvoiceError
from billing.invoicing.store import count_of_run, ids_of_run, invoice_details
from kopeck.children import die_with_parent
from kopeck.databases.transactions import CommandFailed, in_transaction

PAGE: Final = 100

#: The compiler of a worker process, made when the process starts.
_compilers: list[Any] = []
#: The process of the command, as a worker process knows it.
_parents: list[int] = []


def write_pdf(compiler: Any, details: InvoiceDetails, folder: Path, language: str | None) -> Path:
    """The PDF of an invoice in a folder; returns where."""
    path = folder / file_name_of(details.invoice.number, details.invoice.id)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(make_pdf(compiler, document_of(details, language), details.issued_at))
    unfinished.replace(path)
    return path


def write_run(
    dsn: str, run_id: int, folder: Path, language: str | None, workers: int, report: Callable[[int, int], None]
) -> int:
    """PDFs of a run's invoices; returns how many.

    Args:
        report: called with the number done so far, and of how many.

    Raises:
        InvoiceError: the run has no invoices.
        CommandFailed: a process that makes PDFs died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = in_transaction(dsn, lambda cur: count_of_run(cur, run_id))
    if not total:
        raise InvoiceError(f"run {run_id} has no invoices")
    done, after = 0, 0
    under_way: deque[Future[int]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (os.getpid(),)) as pool:
        try:
            while True:
                page = in_transaction(dsn, lambda cur, after=after: _page(cur, run_id, after))  # type: ignore[misc]
                if page:
                    after = page[-1].invoice.id
                    under_way.append(pool.submit(_write_page, page, folder, language))
                while under_way and (not page or len(under_way) > 2 * workers):
                    done += under_way.popleft().result()
                    report(done, total)
                if not page:
                    return done
        except BrokenProcessPool as error:
            raise CommandFailed(f"a process that makes PDFs died after {done} of them; ask again") from error


async def _page(cur: Cursor, run_id: int, after: int) -> list[InvoiceDetails]:
    ids = await ids_of_run(cur, run_id, after, PAGE)
    return await invoice_details(cur, ids) if ids else []


def _start(parent: int) -> None:
    """A worker process begins. It ends with the command, however the command ends."""
    die_with_parent(signal.SIGTERM, parent)
    _parents.append(parent)
    _compilers.append(new_compiler())


def _write_page(page: list[InvoiceDetails], folder: Path, language: str | None) -> int:
    for details in page:
        if os.getppid() != _parents[0]:  # where the kernel sends no signal
            raise SystemExit(1)
        write_pdf(_compilers[0], details, folder, language)
    return len(page)
