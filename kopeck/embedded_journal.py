"""A server of MongoDB's wire protocol as a child process: for trying out and tests.

Rules. `mongod` or `secantusd-rs` of PATH where there is one, else SecantusDB from its wheel, the slowest of the three.
A folder stays with the server that made it: their files differ. Loopback only, no passwords: whoever has an account
on the machine can speak to a demo's journal, and its files are its owner's alone; production names a MongoDB in
``journal.uri``. SecantusDB in both forms is licensed under GPL-2.0-only, which is why it is a process of its own and
never a library.

The relay forgets an outbox row once its document is acknowledged, so acknowledged must mean on disk: without it a
``kill -9`` of the wheel's server lost the last 230 of 2,000 acknowledged documents. The server flag --sync-on-commit
would flush every document (1,700/s here); the address asks for ``journal=true`` instead, which flushes once a batch
(2,300/s) and is what a real MongoDB understands too. `secantusd-rs` kept every one of 31,000 over a ``kill -9``.

Does not know: what the journal holds.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil
import structlog

from kopeck import children
from kopeck.embedded_postgres import EmbeddedError, _can_listen, free_port, write_private

#: Least and most of the cache. New terms go all over their index: past some 250,000 payments 256 MB made each batch
#: read and write leaves of it, and 800 documents a second became 200.
CACHE_MB = (256, 2048)
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_LOG_MAX_BYTES = 10_000_000
#: SecantusDB from the wheel, by the name of its module; the others are programs of PATH, the first found is taken.
WHEEL = "secantus"
PROGRAMS = ("mongod", "secantusd-rs")

log = structlog.get_logger("kopeck.embedded")


class JournalServer:
    """One storage in one folder and, while started, its server. Start it from the main thread.

    cache_mb: memory for its pages; 0: an eighth of the machine's, within CACHE_MB.
    kind: the server to use where the folder is new, one of WHEEL and PROGRAMS; empty: the best there is.
    """

    def __init__(self, folder: Path, *, cache_mb: int = 0, kind: str = "") -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.kind = ""
        self._wanted = kind
        self._cache_mb = cache_mb or min(max(psutil.virtual_memory().total // 2**20 // 8, CACHE_MB[0]), CACHE_MB[1])

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true&journal=true"

    def start(self) -> None:
        """End what a killed predecessor left, and start the server on the port it had before.

        Raises:
            EmbeddedError: not installed, or it could not be started.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """The first half of start: returns at once, so that other servers can start meanwhile."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise EmbeddedError(f"cannot use {self.folder}: {error.strerror}; whose folder is it?") from error
        self.kind = self._choose_kind()
        self._end_leftovers()
        self.port = self._choose_port()
        argv = self._command()
        path = self.folder / "server.log"
        too_long = path.exists() and path.stat().st_size > _LOG_MAX_BYTES
        with path.open("wb" if too_long else "ab") as output:
            self.process = children.spawn(argv, death_signal=signal.SIGTERM, cwd=self.folder, output=output)

    def wait_until_ready(self) -> None:
        """The second half of start."""
        process = self.process
        if process is None:
            raise EmbeddedError("the embedded journal has not been launched")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                tail = (self.folder / "server.log").read_text("utf-8", "replace")[-1500:]
                raise EmbeddedError(f"the journal server ended while starting (status {process.returncode}):\n{tail}")
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.03)
        self.stop()
        raise EmbeddedError(f"the journal server was not ready after {_START_TIMEOUT_S:.0f} s; see {self.folder}")

    def stop(self) -> None:
        if self.process is not None:
            children.stop(self.process, signal.SIGTERM, _STOP_TIMEOUT_S)
            self.process = None

    def kill(self) -> None:
        """``kill -9``, as in crash tests."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _choose_kind(self) -> str:
        """The server that made the folder's files; the wanted or best one where there are none yet."""
        path = self.folder / "server"
        if path.exists():
            kind = path.read_text().strip()
        elif (self.folder / "data").exists():
            kind = WHEEL  # made before there was a choice
        else:
            kind = self._wanted or next((name for name in PROGRAMS if shutil.which(name)), WHEEL)
        if kind != WHEEL and shutil.which(kind) is None:
            raise EmbeddedError(
                f"the journal in {self.folder} was made by {kind}, which is not on PATH: put it there, or remove that "
                "folder and run `kopeck journal rebuild`"
            )
        if kind == WHEEL and find_spec("secantus") is None:
            raise EmbeddedError(
                "the embedded journal is not installed: pip install 'kopeck[embedded]', or name one in journal.uri"
            )
        write_private(path, kind)
        return kind

    def _command(self) -> Sequence[str]:
        data, port = str(self.folder / "data"), str(self.port)
        if self.kind == "mongod":
            (self.folder / "data").mkdir(exist_ok=True)
            cache_gb = f"{max(self._cache_mb / 1024, 0.25):.2f}"
            argv = ["mongod", "--quiet", "--nounixsocket", "--bind_ip", "127.0.0.1", "--port", port, "--dbpath", data]
            return [*argv, "--wiredTigerCacheSizeGB", cache_gb]
        config = self.folder / "secantusd.toml"
        config.write_text("# everything is on the command line; this file only keeps other ones from being found\n")
        program = [sys.executable, "-m", "secantus"] if self.kind == WHEEL else ["secantusd-rs"]
        argv = [*program, "--config", str(config), "--host", "127.0.0.1", "--port", port, "--storage-path", data]
        return [*argv, "--standalone", "--cache-size", f"{self._cache_mb}M", "--log-level", "WARNING"]

    def _choose_port(self) -> int:
        path = self.folder / "port"
        if path.exists() and _can_listen(known := int(path.read_text())):
            return known
        fresh = free_port()
        write_private(path, str(fresh))
        return fresh

    def _end_leftovers(self) -> None:
        storage = str(self.folder / "data")

        def belongs(process: psutil.Process) -> bool:
            argv = process.cmdline()
            return storage in argv and any(name in argv or argv[0].endswith(name) for name in (WHEEL, *PROGRAMS))

        ended = children.end_orphans(belongs, signal.SIGTERM, 5.0)
        if ended:
            log.warning("ended journal servers that an earlier run left behind", pids=ended)
