"""`kopeck run` as a newcomer meets it: everything real, from the first start over a ``kill -9`` to Ctrl-C."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from kopeck.embedded_postgres import free_port

PORTS = ("GATEWAY__PORT", "WEB__PORT", "WEB__METRICS_PORT", "RELAY__METRICS_PORT")


class Run:
    """One `kopeck run` on one data folder."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kopeck", "run"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"kopeck run ended:\n{self.said}\n{self.process.communicate()[1]}")

    def lines(self) -> list[str]:
        return re.findall(r"^  (curl .*)$", self.said, re.MULTILINE)

    def family(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def ended(self, sig: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(sig)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="kopeck-"))
    ports = {f"KOPECK_{name}": str(free_port()) for name in PORTS}
    metrics = free_port()
    yield (
        os.environ
        | ports
        | {
            "KOPECK_DATA_DIR": str(folder / "data"),
            "KOPECK_GATEWAY__METRICS_PORT": str(metrics),
            "KOPECK_GATEWAY__PROCESSES": "1",
        }
    )
    shutil.rmtree(folder, ignore_errors=True)


def _sent(line: str) -> str:
    """What a printed line prints, run by the shell it was printed for."""
    return subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=30).stdout.decode()


def test_the_printed_lines_work_and_everything_survives_a_kill_and_stops_at_ctrl_c(environment) -> None:
    first = Run(environment)
    check, pay, signed = first.lines()
    assert re.search(r'<result>0</result>.*<field1 name="name">\w+ \w+ \w+</field1>', _sent(check))
    paid = _sent(pay)
    assert "<result>0</result>" in paid
    assert re.search(r"<code>0</code><authcode>[0-9]+</authcode>.*<message>Платеж принят</message>", _sent(signed))
    with urllib.request.urlopen(f"http://127.0.0.1:{environment['KOPECK_WEB__PORT']}/") as page:
        assert page.status == 200
    again = subprocess.run([sys.executable, "-m", "kopeck", "run"], env=environment, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (1, "")
    assert "another kopeck is running" in again.stderr

    family = first.family()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # a child ends when its parent does
            process.kill()
    first.process.communicate()
    psutil.wait_procs(family, timeout=10)

    second = Run(environment)
    assert "admin / " in second.said
    assert "this output holds passwords of the demo" in second.said  # it goes to a pipe here
    assert _sent(pay) == paid
    assert "<result>0</result>" in _sent(second.lines()[1])
    family = second.family()
    verified = subprocess.run(
        [sys.executable, "-m", "kopeck", "verify"], env=environment, capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    status, err = second.ended(signal.SIGINT)
    assert status == 0, err
    assert "Traceback" not in err
    gone, alive = psutil.wait_procs(family, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert gone


def test_a_taken_port_is_told_before_anything_is_started_on_it(environment) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environment["KOPECK_GATEWAY__PORT"])))
        taken.listen()
        said = subprocess.run([sys.executable, "-m", "kopeck", "run"], env=environment, capture_output=True, text=True)
    assert said.returncode == 1
    assert "is taken by another program: stop it, or choose another gateway.port" in said.stderr


def test_a_killed_gateway_and_a_killed_database_are_back_and_payments_go_on(environment) -> None:
    run = Run(environment)
    pay = run.lines()[1].replace("curl -sS", "curl -sS --retry 40 --retry-delay 1 --retry-connrefused")
    try:
        paid = _sent(pay)
        for wanted in (["gateway", "--index", "0"], ["-c", "jit=off"]):
            victim = next(one for one in run.family() if one.cmdline()[-len(wanted) :] == wanted)
            victim.kill()
            victim.wait(10)
            assert _settled(pay) == paid
    finally:
        status, err = run.ended(signal.SIGTERM)
    assert status == 0, err
    assert "child_ended" in err
    assert "embedded_server_ended" in err


def _settled(pay: str) -> str:
    """The answer once it is no longer the protocol's temporary code."""
    for _ in range(40):
        answer = _sent(pay)
        if "<result>1</result>" not in answer and "<result>90</result>" not in answer:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"still temporary: {answer}")
