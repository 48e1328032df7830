"""How `kopeck run` treats its children."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kopeck import children
from kopeck.embedded import Servers
from kopeck.embedded_postgres import free_port
from kopeck.settings import Gateway, Metrics, Settings
from kopeck.supervisor import ChildSpec, Supervisor, _Child, answers, child_specs, restart_pause_s


def test_a_host_runs_as_many_gateways_as_settings_say_each_with_a_port_of_its_own() -> None:
    specs = child_specs(Settings(gateway=Gateway(processes=3, metrics_port=9200)))
    assert [spec.name for spec in specs] == ["relay", "web", "gateway-0", "gateway-1", "gateway-2"]
    ports = [spec.health_port for spec in specs]
    assert ports[2:] == [9200, 9201, 9202]
    assert len(set(ports)) == len(ports)


def test_the_relay_is_stopped_after_those_who_write_for_it() -> None:
    stages = {spec.name: spec.stage for spec in child_specs(Settings())}
    assert stages["relay"] > max(stages["web"], stages["gateway-0"], stages["gateway-1"])


def test_a_child_that_fails_again_and_again_is_started_ever_more_rarely() -> None:
    pauses = [restart_pause_s(failures) for failures in range(1, 12)]
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert max(pauses) == 30.0


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_does_not_outlive_a_killed_parent() -> None:
    program = (
        "import signal, sys; from kopeck import children; "
        "child = children.spawn([sys.executable, '-c', 'import time; time.sleep(60)'], death_signal=signal.SIGTERM); "
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _ends(child)


def test_an_orphan_is_found_by_what_belongs_and_nobody_else_is_touched() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen([*sleeper, "ours"])
    other = subprocess.Popen([*sleeper, "other"])
    try:
        ended = children.end_orphans(lambda process: process.cmdline()[-1:] == ["ours"], signal.SIGTERM, 5.0)
        assert ended == [ours.pid]
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_a_child_that_does_not_end_when_asked_is_killed() -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    stubborn.stdout.close()
    assert children.stop(stubborn, signal.SIGTERM, 0.2) == -signal.SIGKILL


def test_a_child_that_is_silent_is_killed_and_replaced_and_one_that_answers_is_not(monkeypatch) -> None:
    """The child answers its health port until it is told to stop turning: SIGSTOP, as a loop that is stuck."""
    ports = [free_port(), free_port()]
    monkeypatch.setattr("kopeck.supervisor._ASK_EVERY_S", 0.1)
    monkeypatch.setattr("kopeck.supervisor._READY_TIMEOUT_S", 1.0)
    supervisor = Supervisor(Settings(metrics=Metrics(silent_s=1)), Servers(), None)
    server = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
    server += "http.server.BaseHTTPRequestHandler).serve_forever()"  # it knows no GET and says so: 501 is an answer

    def launch(child: _Child) -> None:
        argv = [sys.executable, "-c", server, str(child.spec.health_port)]
        child.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        child.started_at = child.answered_at = time.monotonic()

    monkeypatch.setattr(supervisor, "_launch", launch)
    stuck, sound = (_Child(ChildSpec(f"child-{port}", (), port, 1, 0)) for port in ports)
    supervisor._children = [stuck, sound]
    watcher = threading.Thread(target=supervisor.watch)
    try:
        for child in (stuck, sound):
            launch(child)
        first, other = stuck.process, sound.process
        assert first is not None
        while not all(answers(Settings(), port) for port in ports):
            time.sleep(0.05)
        watcher.start()
        os.kill(first.pid, signal.SIGSTOP)
        while first.returncode is None or stuck.process is None or not answers(Settings(), ports[0]):
            time.sleep(0.05)
        assert first.returncode == -signal.SIGKILL
        assert stuck.process is not first
        assert sound.process is other
        assert stuck.failures == 1
        assert sound.failures == 0
    finally:
        supervisor._stop.set()
        watcher.join()
        for child in (stuck, sound):
            if child.process is not None:
                child.process.kill()
                child.process.wait()


def _ends(pid: int) -> bool:
    """Whether the process is gone, or waits as a zombie for whoever adopted it, within ten seconds."""
    for _ in range(200):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
