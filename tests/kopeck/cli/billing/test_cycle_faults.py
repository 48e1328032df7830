"""A billing run is killed at random moments, its database too; resumed, it is the run that nobody disturbed.

Every run has a copy of one database, so the outcomes can be compared to the kopeck and to the number. The commands are
real processes, killed by signals; what has to notice and recover is theirs. `make sim` does it with 200,000
subscribers, ten times, on durable settings.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2 import sql

from kopeck.databases.migrate import migrate
from kopeck.databases.postgres import APP, DATABASE, OWNER, SUPERUSER, Postgres
from loadtests.base import BILL_ON, fill_base

TIMEOUT_S = 300.0
WORKERS = 2

#: Everything a run leaves behind, without ids that depend on who came first.
_OUTCOME = {
    "invoices": """
        SELECT count(*), md5(string_agg((account_id, full_number, currency, invoiced_on, due_on, net_minor, tax_minor,
                                         total_minor)::text, ' ' ORDER BY account_id, full_number))
        FROM numbered_invoices
    """,
    "lines": """
        SELECT count(*), md5(string_agg((i.account_id, l.line, l.kind, l.order_id, l.manual_line_id, l.item,
                                         l.period_start, l.period_end, l.quantity, l.discount_minor, l.amount_minor,
                                         l.tax_ppm, l.net_minor, l.tax_minor)::text, ' ' ORDER BY i.account_id, l.line))
        FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
    """,
    "periods": """
        SELECT count(*), md5(string_agg((order_id, part, period_start, period_end, outcome, reason, active_num,
                                         active_den, amount_minor)::text, ' ' ORDER BY order_id, part, period_start))
        FROM order_periods
    """,
    "balances": "SELECT count(*), md5(string_agg((number, balance_minor)::text, ' ' ORDER BY number)) FROM accounts",
    "transfers": """
        SELECT count(*), md5(string_agg((d.number, c.number, t.step, t.amount_minor)::text, ' '
                                        ORDER BY d.number, c.number, t.step, t.amount_minor))
        FROM transfers t JOIN accounts d ON d.id = t.debit_account_id JOIN accounts c ON c.id = t.credit_account_id
    """,
    "settled": "SELECT count(*) FROM orders WHERE settled_at IS NOT NULL",
    "failures": "SELECT count(*) FROM bill_failures",
    "manual lines": "SELECT count(*) FROM manual_lines WHERE invoice_id IS NOT NULL",
    "next number": "SELECT string_agg(prefix || next_number, ' ' ORDER BY prefix) FROM invoice_series",
    "runs": "SELECT string_agg(bill_on || ' ' || state, ', ' ORDER BY id) FROM bill_runs",
}

_NUMBERS = """
    SELECT series_id, count(*), count(DISTINCT number), min(number), max(number) FROM numbered_invoices
    GROUP BY series_id
"""

_DONE = "SELECT count(*), count(*) FILTER (WHERE state = 'posted') FROM bill_shards"


@dataclass(frozen=True)
class Stand:
    """A server with a base to be copied, the outcome of an undisturbed run on one copy, and how large shards are."""

    server: Postgres
    shard_payers: int
    calm: dict[str, tuple]


class Copy:
    """A database with the base in it, and the command on it."""

    def __init__(self, server: Postgres, name: str, shard_payers: int) -> None:
        self.server, self.name = server, name
        self._shard_payers = shard_payers

    @property
    def dsn(self) -> str:
        return self.server.dsn(APP, self.name)

    def environment(self) -> dict[str, str]:
        ours = {
            "DATABASE__DSN": self.dsn,
            "JOURNAL__URI": "mongodb://127.0.0.1:1/",
            "BILLING__SHARD_PAYERS": str(self._shard_payers),
            "DATA_DIR": str(self.server.folder / "nothing"),
        }
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("KOPECK_")}
        return theirs | {f"KOPECK_{name}": value for name, value in ours.items()}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``kopeck ARGUMENTS`` as the head of a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "kopeck", *arguments],
            env=self.environment(),
            cwd=self.server.folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def do(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def ask(self, query: str) -> list[tuple]:
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cur:
            cur.execute(query)
            return cur.fetchall()

    def outcome(self) -> dict[str, tuple]:
        return {name: self.ask(query)[0] for name, query in _OUTCOME.items()}

    def wait_until_share(self, share: float, process: subprocess.Popen[str]) -> None:
        """Until this part of the shards is done, or the run is over."""
        deadline = time.monotonic() + TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            ((shards, done),) = self.ask(_DONE)
            if shards and done >= share * shards:
                return
            time.sleep(0.005)


@contextlib.contextmanager
def standing(subscribers: int, shard_payers: int, *, durable: bool) -> Iterator[Stand]:
    """A server of our own (others must not lose theirs), filled, with one run that nobody disturbed."""
    folder = Path(tempfile.mkdtemp(prefix="kopeck-faults-"))
    server = Postgres(folder / "pg", durable=durable)
    server.start()
    try:
        migrate(server.dsn(OWNER))
        fill_base(server.dsn(SUPERUSER), subscribers, 2, 5)
        with copied(server, "calm", shard_payers) as calm:
            status, output = calm.do("bill", "run", "--date", str(BILL_ON), "--workers", str(WORKERS))
            assert status == 0, output
            yield Stand(server, shard_payers, calm.outcome())
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def copied(server: Postgres, name: str, shard_payers: int) -> Iterator[Copy]:
    """A copy of the base."""
    database = sql.Identifier(name)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
        database, sql.Identifier(DATABASE), sql.Identifier(OWNER)
    )
    _as_superuser(server, create)
    try:
        yield Copy(server, name, shard_payers)
    finally:
        _as_superuser(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def _as_superuser(server: Postgres, statement: sql.Composable) -> None:
    with closing(psycopg2.connect(server.dsn(SUPERUSER, "postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute(statement)


# ---- who is killed


def kill_runner(_: Postgres, process: subprocess.Popen[str]) -> None:
    """The command with all its workers."""
    os.killpg(process.pid, signal.SIGKILL)


def kill_runner_alone(_: Postgres, process: subprocess.Popen[str]) -> None:
    """The command; its workers have to notice."""
    process.kill()


def kill_worker(_: Postgres, process: subprocess.Popen[str]) -> None:
    workers = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    assert workers
    workers[0].kill()


def kill_postgres(server: Postgres, _: subprocess.Popen[str]) -> None:
    server.kill()
    server.start()


VICTIMS = {one.__name__: one for one in (kill_runner, kill_worker, kill_postgres, kill_runner_alone)}


def hurt(copy: Copy, strike: Callable[[Postgres, subprocess.Popen[str]], None], share: float, pause_s: float) -> str:
    """A run that is struck when this part of its shards is done, and resumed; returns what was seen."""
    process = copy.start("bill", "run", "--date", str(BILL_ON), "--workers", str(WORKERS))
    copy.wait_until_share(share, process)
    time.sleep(pause_s)
    was_running = process.poll() is None
    strike(copy.server, process)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    seen = f"running when struck: {was_running}; the run ended with {process.returncode}"
    if not _is_done(copy):
        status, output = copy.do("bill", "resume", "--workers", str(WORKERS))
        seen += f", the resumed one with {status}"
        if status == 2:  # struck before it was planned
            status, output = copy.do("bill", "run", "--date", str(BILL_ON), "--workers", str(WORKERS))
    assert _is_done(copy), f"{seen}: {output}"
    return seen


def _is_done(copy: Copy) -> bool:
    return copy.ask(f"SELECT count(*) FROM bill_runs WHERE bill_on = '{BILL_ON}' AND state = 'done'") == [(1,)]


def require_undisturbed(stand: Stand, copy: Copy, seen: str) -> None:
    """Everything is as if nothing had happened, and the database verifies."""
    assert copy.outcome() == stand.calm, seen
    for _, count, distinct, first, last in copy.ask(_NUMBERS):
        assert (count, first, last) == (distinct, 1, count), seen
    status, output = copy.do("verify", "--no-journal")
    assert status == 0, f"{seen}\n{output}"


# ---- short: what every change must pass


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with standing(2_000, 100, durable=False) as made:
        assert made.calm["invoices"][0] > 1_500
        assert made.calm["failures"] == (0,)
        yield made


@pytest.mark.parametrize(("victim", "share"), [("kill_runner", 0.4), ("kill_worker", 0.25), ("kill_postgres", 0.6)])
def test_a_run_that_was_killed_is_resumed_to_the_kopeck(stand, victim, share):
    with copied(stand.server, victim, stand.shard_payers) as copy:
        seen = hurt(copy, VICTIMS[victim], share, 0.0)
        assert "running when struck: True" in seen
        require_undisturbed(stand, copy, seen)


# ---- the same on a cluster


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Dask scheduler and two workers, each a process with an address of its own."""
    file = folder / "scheduler.json"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with contextlib.ExitStack() as running:
        running.enter_context(_dask(folder, scheduler))
        deadline = time.monotonic() + TIMEOUT_S
        while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        common = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        workers = [
            running.enter_context(
                _dask(folder, ["worker", "--scheduler-file", str(file), "--host", f"127.0.0.{number}", *common])
            )
            for number in (2, 3)
        ]
        yield json.loads(file.read_text())["address"], workers


@contextlib.contextmanager
def _dask(folder: Path, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dask", *arguments]
    with (folder / "dask.log").open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def on_cluster(stand: Stand, share: float) -> None:
    """A run on two workers, one of which is killed when this part of the shards is done."""
    with (
        copied(stand.server, "clustered", stand.shard_payers) as copy,
        tempfile.TemporaryDirectory(prefix="kopeck-dask-") as folder,
        cluster(Path(folder)) as (address, workers),
    ):
        process = copy.start("bill", "run", "--date", str(BILL_ON), "--dask", address)
        copy.wait_until_share(share, process)
        assert process.poll() is None, process.communicate()[0]
        workers[0].kill()
        output, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, output
        names = copy.ask("SELECT count(DISTINCT worker) FROM bill_shards")
        assert names == [(2,)]
        require_undisturbed(stand, copy, output)


def test_a_cluster_that_lost_a_worker_bills_to_the_kopeck(stand):
    on_cluster(stand, 0.3)


# ---- long: two hundred thousand subscribers, ten moments


@pytest.fixture(scope="module")
def large_stand() -> Iterator[Stand]:
    with standing(200_000, 5_000, durable=True) as made:
        assert made.calm["invoices"][0] > 150_000
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_a_large_run_killed_at_a_random_moment_is_resumed_to_the_kopeck(large_stand, moment):
    dice = random.Random(f"moment {moment}")
    victim = sorted(VICTIMS)[moment % len(VICTIMS)]
    with copied(large_stand.server, f"moment_{moment}", large_stand.shard_payers) as copy:
        seen = hurt(copy, VICTIMS[victim], dice.uniform(0, 0.9), dice.uniform(0, 0.4))
        assert "running when struck: True" in seen
        require_undisturbed(large_stand, copy, f"{victim}: {seen}")


@pytest.mark.slow
def test_a_cluster_that_lost_a_worker_bills_two_hundred_thousand_to_the_kopeck(large_stand):
    on_cluster(large_stand, 0.4)
