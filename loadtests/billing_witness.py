"""Who looks on while a billing run goes: its memory, and aggregators who pay to the accounts it is at.

Payments go over real connections to a real gateway, about PAYMENTS_PER_S of them, to accounts of the shards that are
being done at that moment: those whose balances the run is about to lock. Each connection has one payment in flight, so
one that waits is seen waiting.

Does not know: the run, beyond its process and its shards.
"""

import http.client
import random
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

import psutil
import psycopg2

from adapters.messages import Pay
from loadtests.figures import BenchError
from loadtests.generator import quantile
from loadtests.partners import Partner, build_query, open_line
from loadtests.stand import Stand
from ratingcore.money import Minor

PAYMENTS_PER_S: Final = 20
CONNECTIONS: Final = 4
_SAMPLE_EVERY_S: Final = 0.25
#: A payment that waits longer than this has failed, which ends the bench.
_TIMEOUT_S: Final = 60.0
_GOOD: Final = b"<result>0</result>"

#: Shards are begun in order, so those being done are the last ones before the first that nobody has begun. Which these
#: are is not visible before they commit, so payments go to the first that are not done.
_AT_WORK: Final = """
    SELECT a.number FROM (
        SELECT first_account_id, last_account_id FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
        WHERE r.state = 'running' AND s.state = 'due' ORDER BY s.shard_no LIMIT %s
    ) d CROSS JOIN LATERAL (
        SELECT d.first_account_id + (random() * (d.last_account_id - d.first_account_id))::bigint AS id
        FROM generate_series(1, %s)
    ) r JOIN accounts a ON a.id = r.id
"""


class MemoryWitness:
    """Peaks of memory from entry to exit. A context manager.

    run_bytes: resident memory of a process and all below it, pages they share counted in each. postgres_bytes: the
    server's and its sessions' share of the machine (PSS), so shared buffers count once.
    """

    def __init__(self, run: psutil.Process, postgres: psutil.Process) -> None:
        self.run_bytes = 0
        self.postgres_bytes = 0
        self._run, self._postgres = run, postgres
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)

    def __enter__(self) -> "MemoryWitness":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        turn = 0
        while not self._stop.wait(_SAMPLE_EVERY_S):
            with suppress(psutil.NoSuchProcess):
                self.run_bytes = max(self.run_bytes, sum(_resident(one) for one in _family(self._run)))
                if turn % 8 == 0:  # the kernel walks all pages for it
                    self.postgres_bytes = max(self.postgres_bytes, sum(_share(one) for one in _family(self._postgres)))
            turn += 1


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _share(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0


@dataclass
class Delays:
    """Seconds from sending each payment to its answer, as they came."""

    seconds: list[float] = field(default_factory=list)

    @property
    def longest_ms(self) -> float:
        return 1000 * max(self.seconds, default=0.0)

    @property
    def p50_ms(self) -> float:
        return 1000 * quantile(sorted(self.seconds), 50) if self.seconds else 0.0

    @property
    def p99_ms(self) -> float:
        return 1000 * quantile(sorted(self.seconds), 99) if self.seconds else 0.0


class PaymentWitness:
    """Payments from entry to exit, to accounts that are being billed. A context manager.

    Raises on exit:
        BenchError: a payment was not answered well.
    """

    def __init__(self, stand: Stand, partner: Partner, workers: int) -> None:
        self.delays = Delays()
        self._stand, self._line, self._workers = stand, open_line(partner), workers
        self._accounts: list[str] = []
        self._key = 10**12
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure = ""
        self._threads = [threading.Thread(target=self._choose, daemon=True)]
        self._threads += [threading.Thread(target=self._pay, daemon=True) for _ in range(CONNECTIONS)]

    def __enter__(self) -> "PaymentWitness":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure and kind is None:
            raise BenchError(self._failure)

    def _choose(self) -> None:
        """Keep accounts at hand of the shards that are being done."""
        try:
            with closing(psycopg2.connect(self._stand.dsn())) as connection, connection.cursor() as cur:
                connection.autocommit = True
                while not self._stop.wait(_SAMPLE_EVERY_S):
                    cur.execute(_AT_WORK, (self._workers, 20))
                    self._accounts = [str(row[0]) for row in cur.fetchall()]
        except psycopg2.Error as error:
            self._failure = f"accounts of shards at work could not be asked for: {error}"

    def _pay(self) -> None:
        every_s = CONNECTIONS / PAYMENTS_PER_S
        with closing(http.client.HTTPConnection("127.0.0.1", self._stand.ports.partners, timeout=_TIMEOUT_S)) as line:
            while not self._stop.wait(every_s * random.uniform(0.5, 1.5)):
                accounts = self._accounts
                if accounts:
                    try:
                        self._pay_once(line, random.choice(accounts))
                    except (OSError, http.client.HTTPException) as error:
                        self._failure = f"a payment during the run was not answered: {error!r}"
                        return

    def _pay_once(self, line: http.client.HTTPConnection, account: str) -> None:
        with self._lock:
            self._key += 1
            key = self._key
        query = build_query(self._line, Pay(str(key), account, Minor(100), "", datetime.now(UTC)))
        headers = dict(one.split(": ", 1) for one in self._line.headers.decode().splitlines() if one)
        begun = time.perf_counter()
        line.request("GET", f"/pay/{self._line.code}?{query.decode()}", headers=headers)
        said = line.getresponse().read()
        took_s = time.perf_counter() - begun
        with self._lock:
            self.delays.seconds.append(took_s)
        if _GOOD not in said:
            self._failure = f"a payment during the run was answered {said[:300]!r}"
