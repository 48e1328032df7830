"""`kopeck run`: one parent keeps the processes of this host alive, and the embedded servers with them.

Rules. A child that ends is started again, at once the first time and then after a pause that doubles up to half a
minute; a minute of life makes it new again. A child whose health port has been silent for ``metrics.silent_s`` is
killed and replaced: its loop turns no more, and SIGTERM would wait for the loop. An answer of 503 is no silence.
At the end those who serve people and partners drain first, then the relay, and the databases last. Children do not
outlive us (kopeck.children), and what a ``kill -9`` left over is ended before ours start.

Does not know: what the children do beyond their health port.
"""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil
import structlog

from kopeck import children
from kopeck.embedded import Servers
from kopeck.process import ProcessError, can_listen
from kopeck.settings import Settings

#: Names the parent and the data folder in a child's environment, so that an orphan is known for one.
MARK = "KOPECK_SUPERVISED"
_RESTART_MAX_S = 30.0
_NEW_AGAIN_S = 60.0
_READY_TIMEOUT_S = 60.0
_GRACE_S = 5.0
#: How often a child that answers is asked whether it still does.
_ASK_EVERY_S = 2.0

log = structlog.get_logger("kopeck.run")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep alive. stage: those of a lower stage are stopped first."""

    name: str
    arguments: tuple[str, ...]
    health_port: int
    drain_s: float
    stage: int


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    start_at: float = field(default=0.0)
    answered_at: float = 0.0
    ask_at: float = 0.0


def child_specs(settings: Settings) -> tuple[ChildSpec, ...]:
    """The processes `kopeck run` keeps alive, in the order they are started."""
    gateway = settings.gateway
    gateways = tuple(
        ChildSpec(
            f"gateway-{index}", ("gateway", "--index", str(index)), gateway.metrics_port + index, gateway.drain_s, 0
        )
        for index in range(gateway.processes)
    )
    web = ChildSpec("web", ("web",), settings.web.metrics_port, settings.web.drain_s, 0)
    relay = ChildSpec("relay", ("relay",), settings.relay.metrics_port, 10, 1)
    return (relay, web, *gateways)


class Supervisor:
    """The children of one `kopeck run`. Use it from the main thread."""

    def __init__(self, settings: Settings, servers: Servers, config: str | None) -> None:
        self._settings = settings
        self._servers = servers
        self._config = config
        self._children = [_Child(spec) for spec in child_specs(settings)]
        self._stop = threading.Event()

    def start(self) -> bool:
        """Start every child and wait until all are healthy; False when the end was asked for before that.

        Raises:
            ProcessError: a port is taken, or a child does not become healthy.
        """
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, lambda *_: self._stop.set())
        self._end_orphans()
        self._require_free_ports()
        for child in self._children:
            self._launch(child)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        waiting = list(self._children)
        while waiting and not self._stop.is_set():
            for child in self._children:
                if child.process is not None and child.process.poll() is not None:
                    raise ProcessError(f"{child.spec.name} ended while starting; its last lines are above")
            waiting = [child for child in waiting if not is_healthy(self._settings, child.spec.health_port)]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(child.spec.name for child in waiting)
                raise ProcessError(f"not healthy after {_READY_TIMEOUT_S:.0f} s: {names}")
            self._stop.wait(0.1 if waiting else 0)
        return not self._stop.is_set()

    def watch(self) -> None:
        """Keep children and embedded servers alive until SIGINT or SIGTERM."""
        while not self._stop.wait(0.2):
            self._revive_servers()
            for child in self._children:
                self._end_if_silent(child)
                self._revive(child)

    def stop(self) -> None:
        """Drain and stop the children, stage by stage."""
        for stage in sorted({child.spec.stage for child in self._children}):
            running = [child for child in self._children if child.spec.stage == stage and child.process is not None]
            for child in running:
                _terminate(child.process)
            deadline = time.monotonic() + max((child.spec.drain_s for child in running), default=0) + _GRACE_S
            for child in running:
                _wait_or_kill(child, deadline)

    def _launch(self, child: _Child) -> None:
        argv = [sys.executable, "-m", "kopeck", *(["--config", self._config] if self._config else [])]
        argv += ["serve", *child.spec.arguments]
        mark = f"{os.getpid()}:{self._settings.data_path()}"
        child.process = children.spawn(argv, death_signal=signal.SIGTERM, env={**os.environ, MARK: mark})
        child.started_at = time.monotonic()
        # Starting, it may be silent for as long as the first start may take.
        child.answered_at = child.started_at + _READY_TIMEOUT_S - self._settings.metrics.silent_s
        child.ask_at = child.started_at + _ASK_EVERY_S

    def _end_if_silent(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None or child.process.poll() is not None or now < child.ask_at:
            return
        if answers(self._settings, child.spec.health_port):
            child.answered_at = max(child.answered_at, time.monotonic())
        elif now - child.answered_at > self._settings.metrics.silent_s:
            log.error("child_is_silent", child=child.spec.name, pid=child.process.pid)
            child.process.kill()
            child.process.wait()
        child.ask_at = time.monotonic() + _ASK_EVERY_S

    def _revive(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                self._launch(child)
            return
        status = child.process.poll()
        if status is None:
            return
        child.process = None
        child.failures = 1 if now - child.started_at > _NEW_AGAIN_S else child.failures + 1
        pause_s = restart_pause_s(child.failures)
        child.start_at = now + pause_s
        log.error("child_ended", child=child.spec.name, status=status, starts_again_in_s=pause_s)

    def _revive_servers(self) -> None:
        for server in (self._servers.postgres, self._servers.journal):
            if server is not None and server.process is not None and server.process.poll() is not None:
                log.error("embedded_server_ended", folder=str(server.folder), status=server.process.returncode)
                server.start()

    def _end_orphans(self) -> None:
        suffix = f":{self._settings.data_path()}"

        def belongs(process: psutil.Process) -> bool:
            mark = process.environ().get(MARK, "")
            return bool(mark.endswith(suffix) and mark != f"{process.ppid()}{suffix}")

        ended = children.end_orphans(belongs, signal.SIGTERM, _GRACE_S)
        if ended:
            log.warning("ended_what_an_earlier_run_left_behind", pids=ended)

    def _require_free_ports(self) -> None:
        settings = self._settings
        wanted = [
            ("gateway.port", settings.gateway.host, settings.gateway.port),
            ("web.port", settings.web.host, settings.web.port),
            *(("metrics_port", settings.metrics.host, child.spec.health_port) for child in self._children),
        ]
        for name, host, port in wanted:
            if not can_listen(host, port):
                raise ProcessError(f"{host}:{port} is taken by another program: stop it, or choose another {name}")


def restart_pause_s(failures: int) -> float:
    """Pause before a child is started again, by how often it failed in a row."""
    return 0.0 if failures <= 1 else min(0.5 * 2 ** (failures - 2), _RESTART_MAX_S)


def is_healthy(settings: Settings, port: int) -> bool:
    """Whether the process with this health port says it can do its work."""
    return _health_status(settings, port) == 200


def answers(settings: Settings, port: int) -> bool:
    """Whether the process with this health port says anything at all."""
    return _health_status(settings, port) is not None


def _health_status(settings: Settings, port: int) -> int | None:
    connection = http.client.HTTPConnection(settings.metrics.host, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _terminate(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.terminate()


def _wait_or_kill(child: _Child, deadline: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        log.error("child_did_not_drain", child=child.spec.name)
        child.process.kill()
        child.process.wait()
