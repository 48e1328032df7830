"""`make bench-billing`: a whole billing cycle timed on this machine, beside bare copying and billing by SQL alone.

A base of subscribers (loadtests.base) in an embedded PostgreSQL with the durability of production is billed by
`kopeck bill run` as an operator runs it, from its start to posted and numbered invoices, while aggregators pay to the
very accounts that are being billed. Usage is not rated beforehand: the run rates every event. The same at a tenth of
the size tells whether it is linear.

Environment: BENCH_SUBSCRIBERS (2000000) scales everything; BENCH_WORKERS (2); BENCH_JSON names the file for ``{name:
number}``; BENCH_DIR (build/bench-billing) is where bases are kept for the next time, several gigabytes at full size.

Rules. Figures are printed, never asserted; but a run that is not clean, does not reconcile, failed for somebody or
left payments unanswered has no figure.

Does not know: which figures are good enough, how the run works.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg2
from rich.console import Console
from rich.table import Table

from loadtests.base import BILL_ON, BaseError, fill_base
from loadtests.bench import machine, write_json
from loadtests.billing_contest import Copied, Plain, Run, bill_plain, copy_bare
from loadtests.billing_witness import PAYMENTS_PER_S, Delays, MemoryWitness, PaymentWitness
from loadtests.figures import BenchError, Figure
from loadtests.partners import osmp_partner
from loadtests.stand import Stand, StandError

SUBSCRIBERS: Final = 2_000_000
ORDERS_PER: Final = 2
EVENTS_PER: Final = 10
#: A run that takes longer has payments meanwhile.
_LONG_S: Final = 5.0
#: The run that linearity is told by is this much smaller.
SMALLER: Final = 10
LEAST: Final = 1_000
#: The published figure of the system that this one replaces: 16 minutes.
_OF_2011_S: Final = 16 * 60

_STAGES: Final = {
    "prepare": "prices made ready",
    "read": "orders, payers and records read",
    "due": "what is due",
    "usage": "usage read",
    "bill": "rated and billed",
    "write": "invoices, lines and records written",
    "post": "transfers and balances",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. json_path: empty for none."""

    subscribers: int = SUBSCRIBERS
    workers: int = 2
    folder: Path = Path("build/bench-billing")
    json_path: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run as it was seen: what it told (`--json`), and what was measured around it."""

    told: Mapping[str, Any]
    seconds: float
    run_bytes: int
    postgres_bytes: int
    wal_bytes: int
    transfers: int
    delays: Delays

    @property
    def subscribers_per_s(self) -> float:
        return float(self.told["subscribers"] / self.seconds)


def options_from(environ: Mapping[str, str]) -> Options:
    """Options from BENCH_ variables.

    Raises:
        ValueError: a number that is none, or too small a base.
    """
    found = {"BENCH_SUBSCRIBERS": SUBSCRIBERS, "BENCH_WORKERS": 2}
    for name in found:
        text = environ.get(name, str(found[name]))
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, not {text!r}")
        found[name] = int(text)
    if found["BENCH_SUBSCRIBERS"] < LEAST:
        raise ValueError(f"BENCH_SUBSCRIBERS must be {LEAST} at least: less measures nothing")
    folder = Path(environ.get("BENCH_DIR", "build/bench-billing")).absolute()
    return Options(found["BENCH_SUBSCRIBERS"], found["BENCH_WORKERS"], folder, environ.get("BENCH_JSON", ""))


def figures(options: Options, say: Console) -> Iterator[Figure]:
    """All figures, in the order of what matters."""
    few = max(LEAST // SMALLER, options.subscribers // SMALLER)
    small = _measured(options, few, say)[0]
    measured, copied, plain = _measured(options, options.subscribers, say, with_contest=True)
    yield from _run_figures(measured)
    yield from _meanwhile_figures(measured)
    if copied is not None and plain is not None:
        yield from _contest_figures(measured, copied, plain)
    yield from _linear_figures(measured, small, few)


def _measured(
    options: Options, subscribers: int, say: Console, *, with_contest: bool = False
) -> tuple[Measured, Copied | None, Plain | None]:
    """Bill a fresh copy of the base of this size, and if asked for run the contest on what the run left."""
    base = _base(options.folder, subscribers, say)
    folder = options.folder / f"run-{subscribers}"
    shutil.rmtree(folder, ignore_errors=True)
    say.print(f"copying the base of {subscribers:,}", highlight=False)
    unwanted = shutil.ignore_patterns("*.log", "lock", ".s.PGSQL*", "ready")
    shutil.copytree(base, folder, symlinks=True, ignore=unwanted, copy_function=_copy_out)
    os.sync()  # a base that has been there for a month is on the disk
    _give_away(base / "data" / "postgres", folder / "data" / "postgres")
    copied, plain = None, None
    with Stand(folder, gateways=1) as stand:
        say.print(f"billing {subscribers:,} subscribers", highlight=False)
        measured = _bill(stand, options.workers, subscribers)
        if with_contest:
            copied, plain = _contest(stand, measured, options.workers, folder, say)
    shutil.rmtree(folder, ignore_errors=True)  # and what of it is in memory, which the next run wants
    return measured, copied, plain


def _contest(stand: Stand, measured: Measured, workers: int, folder: Path, say: Console) -> tuple[Copied, Plain]:
    """The same rows merely copied, and the simple subset billed by SQL, on what the run left."""
    (first, last) = stand.ask("SELECT min(account_id), max(account_id) FROM billing_accounts")
    assert isinstance(first, int)
    assert isinstance(last, int)
    run = Run(superuser_dsn(stand), measured.told["run"], first, last, workers)
    say.print("copying the same rows", highlight=False)
    copied = copy_bare(run, folder / "copied")
    written = sum(measured.told[name] for name in ("invoices", "lines", "periods")) + measured.transfers
    if copied.rows != written:
        raise BenchError(f"{copied.rows:,} rows were copied, and the run wrote {written:,}")
    say.print("billing simple orders by SQL alone", highlight=False)
    return copied, bill_plain(run)


# ---- the base


def _base(folder: Path, subscribers: int, say: Console) -> Path:
    """The folder of an installation with a base of this size, made if it is not there."""
    base = folder / f"base-{subscribers}"
    if (base / "ready").exists():
        return base
    shutil.rmtree(base, ignore_errors=True)
    say.print(f"making a base of {subscribers:,} subscribers", highlight=False)
    with Stand(base, gateways=1, keep=True) as stand:
        dsn = superuser_dsn(stand)
        fill_base(dsn, subscribers, ORDERS_PER, EVENTS_PER)
        with closing(psycopg2.connect(dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cur:
                cur.execute("VACUUM (FREEZE, ANALYZE)")  # as a base that has been there for a month
                cur.execute("CHECKPOINT")
    (base / "ready").touch()
    return base


def _copy_out(source: str, copy: str) -> None:
    """Copy a file and leave the memory to the copy: the run begins with as much of it read as bare copying does."""
    shutil.copy2(source, copy)
    with open(source, "rb") as done:
        os.posix_fadvise(done.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _give_away(like: Path, folder: Path) -> None:
    """The copy belongs to whom the original does: as root, PostgreSQL runs as somebody else."""
    for source, copy in ((like, folder), *((one, folder / one.relative_to(like)) for one in like.rglob("*"))):
        if copy.exists() and os.geteuid() == 0:
            status = source.stat()
            os.chown(copy, status.st_uid, status.st_gid)


def superuser_dsn(stand: Stand) -> str:
    """The stand's PostgreSQL as its superuser, whom filling a base and asking for a checkpoint need."""
    keys = json.loads((stand.folder / "data" / "postgres" / "secrets.json").read_text("utf-8"))
    return f"postgresql://postgres:{keys['superuser_password']}@127.0.0.1:{keys['port']}/kopeck"


# ---- the run


def _bill(stand: Stand, workers: int, subscribers: int) -> Measured:
    """One run, looked at from outside.

    Raises:
        BenchError: it was not clean.
    """
    partner = osmp_partner("bench-osmp", "aggregators-password")
    stand.connect([partner])
    for process in (stand.relay(), stand.web()):
        process.send_signal(signal.SIGSTOP)
    with closing(psycopg2.connect(superuser_dsn(stand))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute("CHECKPOINT")
    argv = [sys.executable, "-m", "kopeck", "bill", "run", "--date", BILL_ON.isoformat(), "--json"]
    (wal_at,) = stand.ask("SELECT pg_current_wal_lsn()::text")
    begun = time.perf_counter()
    with (
        subprocess.Popen(
            [*argv, "--workers", str(workers)],
            env=stand.environment,
            cwd=stand.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        PaymentWitness(stand, partner, workers) as payments,
        MemoryWitness(psutil.Process(process.pid), stand.postgres()) as memory,
    ):
        output, errors = process.communicate()
        seconds = time.perf_counter() - begun
    if process.returncode != 0:
        raise BenchError(f"kopeck bill run ended with {process.returncode}: {errors.strip()[-2000:]}{output[-2000:]}")
    told = json.loads(output) | {"subscribers": subscribers}
    if told["state"] != "done" or told["failures"] or not told["reconciled"]["agrees"]:
        raise BenchError(f"the run is {told['state']} with {told['failures']} failures: {told['reconciled']}")
    (wal_bytes,) = stand.ask(f"SELECT (pg_current_wal_lsn() - '{wal_at}')::bigint")
    (transfers,) = stand.ask("SELECT count(*) FROM transfers WHERE source = 'invoice'")
    assert isinstance(wal_bytes, int)
    assert isinstance(transfers, int)
    if seconds > _LONG_S and not payments.delays.seconds:
        raise BenchError("no payment was made during the run, so nothing tells how long one waits")
    return Measured(told, seconds, memory.run_bytes, memory.postgres_bytes, wal_bytes, transfers, payments.delays)


# ---- figures


def _run_figures(of: Measured) -> Iterator[Figure]:
    told = of.told
    what = f"{told['subscribers']:,} subscribers, {told['orders']:,} orders, {told['events']:,} events rated in the run"
    yield Figure("billing_seconds", of.seconds, "s", f"`kopeck bill run`, all of it: {what}")
    yield Figure("billing_subscribers_per_s", of.subscribers_per_s, "subscribers/s", "to posted, numbered invoices")
    yield Figure("billing_times_faster_than_2011", _OF_2011_S / of.seconds, "", "than the 16 minutes published in 2011")
    for stage, seconds in told["worker_seconds"].items():
        words = _STAGES.get(stage, stage)
        yield Figure(f"billing_{stage}_worker_s", seconds, "s", f"of all workers together: {words}")
    inside = sum(told["worker_seconds"].values())
    yield Figure("billing_all_stages_worker_s", inside, "s", "the same added up; the rest starts, plans, reconciles")
    yield Figure("billing_invoices", told["invoices"], "invoices", "posted")
    yield Figure("billing_lines_per_invoice", told["lines"] / max(1, told["invoices"]), "", "on the average")
    yield Figure("billing_transfers_per_invoice", of.transfers / max(1, told["invoices"]), "", "on the average")
    yield Figure("billing_peak_mb", of.run_bytes / 1e6, "MB", "the run and its workers, resident, added up")
    yield Figure("billing_postgres_peak_mb", of.postgres_bytes / 1e6, "MB", "PostgreSQL, shared buffers counted once")
    yield Figure("billing_wal_mb", of.wal_bytes / 1e6, "MB", "write-ahead log of the run")


def _meanwhile_figures(of: Measured) -> Iterator[Figure]:
    delays = of.delays
    what = f"about {PAYMENTS_PER_S} a second through a gateway to accounts of shards that are being done"
    yield Figure("billing_payments_meanwhile", len(delays.seconds), "payments", what)
    yield Figure("billing_payment_p50_ms", delays.p50_ms, "ms", "of them")
    yield Figure("billing_payment_p99_ms", delays.p99_ms, "ms", "of them")
    yield Figure("billing_payment_longest_ms", delays.longest_ms, "ms", "of them (aim: below 1000)")


def _contest_figures(of: Measured, copied: Copied, plain: Plain) -> Iterator[Figure]:
    yield Figure("copy_out_seconds", copied.out_s, "s", "COPY of the rows a run reads, as many processes")
    what = f"COPY of the {copied.rows:,} rows it wrote into such tables, and balances"
    yield Figure("copy_in_seconds", copied.in_s, "s", what)
    yield Figure("billing_ratio_to_copy", of.seconds / copied.seconds, "", "run / bare copying (aim: 2.0 at most)")
    yield Figure("sql_plain_seconds", plain.seconds, "s", f"SQL alone, {plain.lines:,} flat orders in arrears")
    yield Figure("sql_plain_lines_per_s", plain.lines / plain.seconds, "lines/s", "equal to the run's lines")
    lines = of.told["lines"] / of.seconds
    yield Figure("billing_lines_per_s", lines, "lines/s", "the run, of every kind, usage rated")


def _linear_figures(of: Measured, small: Measured, few: int) -> Iterator[Figure]:
    yield Figure("billing_small_seconds", small.seconds, "s", f"the same run over {few:,} subscribers")
    yield Figure("billing_small_subscribers_per_s", small.subscribers_per_s, "subscribers/s", "of it")
    ratio = of.subscribers_per_s / small.subscribers_per_s
    yield Figure("billing_linearity", ratio, "", "rate at full size / at a tenth (aim: 0.85 at least)")


def table(found: list[Figure]) -> Table:
    """All figures for a person."""
    shown = Table("figure", "value", "unit", "what it is", title=f"Kopeck's billing cycle on {machine()}")
    shown.columns[1].justify = "right"
    shown.caption = "PostgreSQL answered before that fsync, synchronous_commit and full_page_writes are on."
    for figure in found:
        shown.add_row(figure.name, figure.shown, figure.unit, figure.what)
    return shown


def main() -> None:
    say = Console(width=None if sys.stdout.isatty() else 140)
    try:
        options = options_from(os.environ)
        found = list(figures(options, say))
    except (BaseError, BenchError, StandError, ValueError) as error:
        say.print(f"bench: {error}", markup=False)
        sys.exit(2)
    say.print(table(found))
    if options.json_path:
        write_json(found, Path(options.json_path))


if __name__ == "__main__":
    main()
