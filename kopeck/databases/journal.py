"""SecantusDB (the MongoDB wire protocol over WiredTiger) from a wheel as a child process: for trying out and tests.

Rules. Loopback only, no passwords: whoever has an account on the machine can read a demo's journal; production names
a MongoDB in ``journal.uri``. The relay forgets an outbox row once its document is acknowledged, so acknowledged must
mean on disk: without it a ``kill -9`` of this server lost the last 230 of 2,000 acknowledged documents. The server
flag --sync-on-commit would flush every document (1,700/s here); the address asks for ``journal=true`` instead, which
flushes once a batch (2,300/s) and is what a real MongoDB understands too.

Does not know: what the journal holds.
"""

import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import structlog

from kopeck import children
from kopeck.databases.postgres import EmbeddedError, _can_listen, free_port, write_private

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_LOG_MAX_BYTES = 10_000_000

log = structlog.get_logger("kopeck.databases.stores")


class JournalServer:
    """One SecantusDB storage in one folder and, while started, its server. Start it from the main thread."""

    def __init__(self, folder: Path, *, cache_size: str = "256M") -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._cache_size = cache_size

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
        if find_spec("secantus") is None:
            raise EmbeddedError(
                "the embedded journal is not installed: pip install 'kopeck[embedded]', or name one in journal.uri"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"cannot use {self.folder}: {error.strerror}; whose folder is it?") from error
        self._end_leftovers()
        self.port = self._choose_port()
        config = self.folder / "secantusd.toml"
        config.write_text("# everything is on the command line; this file only keeps other ones from being found\n")
        argv = [sys.executable, "-m", "secantus", "--config", str(config), "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--storage-path", str(self.folder / "data"), "--standalone"]
        argv += ["--cache-size", self._cache_size, "--log-level", "WARNING"]
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
            return "secantus" in argv and storage in argv

        ended = children.end_orphans(belongs, signal.SIGTERM, 5.0)
        if ended:
            log.warning("ended journal servers that an earlier run left behind", pids=ended)
