"""A throw-away installation to be loaded and hurt: `kopeck run` on free ports, in a folder of its own.

The product is handled as an operator handles it: started by its command line with settings in the environment, set up
by `kopeck partner` and `kopeck account`, found by what it writes for everyone (health ports, ``embedded.json``), killed
by signals. Databases are the embedded ones with the durability of production: fsync and synchronous_commit are on, and
`Stand.start` asks the server whether that is so.

Rules. Only processes below the one started here are ever signalled. What a stand started ends with it.

Does not know: what is sent to the gateways.
"""

import contextlib
import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil
import psycopg2

from loadtests.partners import Partner, public_pem

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
COMMAND_TIMEOUT_S: Final = 600.0
_NAMES_DATABASES: Final = ("KOPECK_DATABASE__", "KOPECK_JOURNAL__", "KOPECK_CONFIG")
_PR_SET_PDEATHSIG: Final = 1
#: Where a row of free ports may begin, and how often one is looked for.
FREE_PORTS: Final = range(10_240, 32_700)
PORT_TRIES: Final = 1_000


class StandError(Exception):
    """The stand cannot do what it was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one stand; the gateways' metrics ports are ``metrics`` and those after it."""

    partners: int
    pages: int
    pages_metrics: int
    relay_metrics: int
    metrics: int


class Stand:
    """One installation with its processes. A context manager; ``folder`` is left behind when asked for or broken."""

    def __init__(
        self, folder: Path, *, gateways: int = 2, settings: Mapping[str, str] | None = None, keep: bool = False
    ) -> None:
        """gateways: processes; settings: further ``KOPECK_`` variables."""
        self.folder = folder
        self.ports = _free_ports(gateways)
        self._gateways = gateways
        self._keep = keep
        self._run: subprocess.Popen[bytes] | None = None
        ours = {
            "DATA_DIR": str(folder / "data"),
            "GATEWAY__PORT": str(self.ports.partners),
            "GATEWAY__PROCESSES": str(gateways),
            "GATEWAY__METRICS_PORT": str(self.ports.metrics),
            "WEB__PORT": str(self.ports.pages),
            "WEB__METRICS_PORT": str(self.ports.pages_metrics),
            "RELAY__METRICS_PORT": str(self.ports.relay_metrics),
            "LOG__FORMAT": "json",
            "LOG__LEVEL": "warning",
        }
        # Whatever databases the caller's environment names are somebody's: a stand makes its own.
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(_NAMES_DATABASES)}
        self.environment = {**theirs, **{f"KOPECK_{name}": value for name, value in ours.items()}}
        self.environment.update(settings or {})

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Stand":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self) -> None:
        """Leave the folder behind: something in it has to be looked at."""
        self._keep = True

    def start(self) -> None:
        """Start everything and wait until every process says that it is healthy.

        Raises:
            StandError: it ended, or was not healthy in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as output:
            self._run = subprocess.Popen(
                [sys.executable, "-m", "kopeck", "run", "--no-demo"],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent(),
            )
        try:
            self.wait_until("healthy", self.is_healthy, START_TIMEOUT_S)
            self._require_durability()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything in order, as Ctrl-C does; whoever does not end is killed."""
        run, self._run = self._run, None
        if run is None:
            return
        below = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)  # what a fault stopped could not hear us
        run.terminate()
        try:
            run.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        _, alive = psutil.wait_procs(below, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def log_path(self) -> Path:
        return self.folder / "kopeck.log"

    def log_tail(self) -> str:
        """The last lines the product wrote, for an error message."""
        return self.log_path.read_text("utf-8", "replace")[-3000:] if self.log_path.exists() else ""

    def is_healthy(self) -> bool:
        """Whether every process says so on its health port."""
        if self._run is None or self._run.poll() is not None:
            raise StandError(f"the product has ended:\n{self.log_tail()}")
        ports = self.ports
        gateways = [ports.metrics + index for index in range(self._gateways)]
        return self._answers() and all(
            says_healthy(port) for port in (*gateways, ports.relay_metrics, ports.pages_metrics)
        )

    def _answers(self) -> bool:
        """Whether PostgreSQL does. Before it runs for the first time nothing says where it is."""
        try:
            return self.ask("SELECT 1") == (1,)
        except (psycopg2.OperationalError, FileNotFoundError):
            return False

    def wait_until(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Raises StandError when ``is_so`` is still false after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise StandError(f"not {what} after {timeout_s:.0f} s:\n{self.log_tail()}")
            time.sleep(0.1)

    # -- what an operator does -----------------------------------------------------------------------------------------

    def command(
        self, *arguments: str, text: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``kopeck ARGUMENTS`` on this installation and return how it ended."""
        return subprocess.run(
            [sys.executable, "-m", "kopeck", *arguments],
            env=self.environment,
            cwd=self.folder,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def do(self, *arguments: str, text: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run ``kopeck ARGUMENTS`` that must succeed; returns what it printed."""
        done = self.command(*arguments, text=text, timeout_s=timeout_s)
        if done.returncode != 0:
            raise StandError(f"kopeck {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def connect(self, partners: Sequence[Partner]) -> None:
        """Connect partners with their keys, and wait until every gateway has read them."""
        for partner in partners:
            contract = json.dumps(partner.body)
            self.do("partner", "add", partner.code, "--name", partner.code, "--file", "-", text=contract)
            keys = {}
            if partner.password:
                keys["basic"] = f"{partner.code}:{partner.password}"
            if partner.private_pem:
                keys = {"verify": public_pem(partner.private_pem), "sign": partner.reply_private_pem}
            for purpose, material in keys.items():
                self.do("partner", "key", "add", partner.code, "--purpose", purpose, "--file", "-", text=material)
        # Gateways read contracts anew within gateway.contracts_poll_s, one second unless it was changed.
        time.sleep(2.5)

    def open_accounts(self, numbers: Sequence[str], names: Sequence[str] = ()) -> None:
        """Open subscribers' accounts by a CSV file."""
        named = names or [f"Абонент {number}" for number in numbers]
        lines = ["number,name", *(f"{number},{name}" for number, name in zip(numbers, named, strict=True))]
        self.do("account", "import", "-", text="\n".join(lines) + "\n")

    # -- what a judge needs --------------------------------------------------------------------------------------------

    def dsn(self, *, owner: bool = False) -> str:
        """Where PostgreSQL is now, for the program's role or the owner, as the product tells everyone here."""
        record = self.folder / "data" / "embedded.json"
        return str(json.loads(record.read_text("utf-8"))["owner_dsn" if owner else "dsn"])

    def ask(self, query: str) -> tuple[object, ...]:
        """The first row of a query, on a connection of its own."""
        with contextlib.closing(psycopg2.connect(self.dsn())) as connection, connection.cursor() as cur:
            cur.execute(query)
            row = cur.fetchone()
            return tuple(row) if row is not None else ()

    def outbox_rows(self) -> int:
        """Changes that the journal has not seen yet."""
        (count,) = self.ask("SELECT count(*) FROM outbox")
        assert isinstance(count, int)
        return count

    def _require_durability(self) -> None:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            (value,) = self.ask(f"SHOW {name}")
            if value != "on":
                raise StandError(f"{name} is {value}: what is not durable proves nothing")

    # -- processes -----------------------------------------------------------------------------------------------------

    def gateway(self, index: int) -> psutil.Process:
        """The gateway process with this index as it runs now."""
        return self._child(lambda argv: argv[-4:] == ["serve", "gateway", "--index", str(index)], f"gateway {index}")

    def relay(self) -> psutil.Process:
        return self._child(lambda argv: "serve" in argv and "relay" in argv, "relay")

    def web(self) -> psutil.Process:
        return self._child(lambda argv: argv[-2:] == ["serve", "web"], "web")

    def postgres(self) -> psutil.Process:
        """The postmaster."""
        return self._child(lambda argv: argv[0].endswith("/postgres"), "PostgreSQL")

    def journal(self) -> psutil.Process:
        """The MongoDB-compatible server."""
        return self._child(lambda argv: "secantus" in argv, "journal server")

    def _child(self, is_it: Callable[[Sequence[str]], bool], name: str) -> psutil.Process:
        if self._run is None:
            raise StandError("the stand is not running")
        for process in psutil.Process(self._run.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                argv = process.cmdline()
                if argv and is_it(argv):
                    return process
        raise StandError(f"no process {name} below `kopeck run`")


def says_healthy(port: int) -> bool:
    """Whether the process with this health port answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel tells the product to end when we die, however we die."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return in_child


def new_folder(where: str) -> Path:
    """A new folder for a stand, below ``where`` or, if that is empty, where temporary files go."""
    if where:
        Path(where).mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="kopeck-load-", dir=where or None)).absolute()


def _free_ports(gateways: int) -> Ports:
    """Ports nobody listens on now; as many consecutive ones for metrics as there are gateways.

    They lie below those that systems give to outgoing connections, so no connection takes one before it is listened on.
    """
    for _ in range(PORT_TRIES):
        first = random.choice(FREE_PORTS)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for index in range(4 + gateways + 1):
                held.enter_context(socket.socket()).bind(("127.0.0.1", first + index))
            return Ports(*range(first, first + 5))
    raise StandError(f"no free ports from {FREE_PORTS.start} on")
