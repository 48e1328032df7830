"""``kopeck serve`` as a service manager starts it."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from kopeck.databases.postgres import free_port
from kopeck.serve.roles import ROLES


def test_serving_without_databases_says_what_to_do(kopeck, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "")
    monkeypatch.setenv("KOPECK_DATABASE__OWNER_DSN", "")
    monkeypatch.setenv("KOPECK_DATA_DIR", str(tmp_path))
    said = kopeck("serve", "relay")
    assert said.status == 1
    assert "start `kopeck run` first" in said.err


@pytest.mark.parametrize("process", ["gateway", "web"])
def test_a_certificate_that_cannot_be_used_is_told_with_its_settings(kopeck, monkeypatch, tmp_path, process) -> None:
    for name in ("CERT", "KEY"):
        monkeypatch.setenv(f"KOPECK_{process.upper()}__TLS_{name}", str(tmp_path / name))
    said = kopeck("serve", process)
    assert said.status == 1
    assert f"{process}.tls_cert {tmp_path / 'CERT'}" in said.err


def test_failpoints_are_refused_beside_a_real_database(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__FAILPOINTS", "after_commit_before_reply")
    for command in (("serve", "gateway"), ("run",)):
        said = kopeck(*command)
        assert said.status == 2
        assert "gateway.failpoints kill the process" in said.err


def test_a_failpoint_that_does_not_exist_is_refused(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__FAILPOINTS", "at_lunch")
    monkeypatch.setenv("KOPECK_TEST_FAILPOINTS", "1")
    said = kopeck("serve", "gateway")
    assert said.status == 2
    assert "gateway.failpoints: unknown failpoint 'at_lunch'" in said.err


@pytest.mark.parametrize("process", ["gateway", "web", "relay", "jobs"])
def test_a_taken_metrics_port_is_told_in_one_sentence(kopeck, monkeypatch, process) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv(f"KOPECK_{process.upper()}__METRICS_PORT", str(taken.getsockname()[1]))
        said = kopeck("serve", process)
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("kopeck: cannot listen on 127.0.0.1:")


def test_several_roles_run_in_one_process_with_one_health_port_and_end_together(kopeck, monkeypatch) -> None:
    """The process is real; the `kopeck` fixture has set its databases."""
    health, gateway, web = (free_port() for _ in range(3))
    monkeypatch.setenv("KOPECK_RELAY__METRICS_PORT", str(health))
    monkeypatch.setenv("KOPECK_GATEWAY__PORT", str(gateway))
    monkeypatch.setenv("KOPECK_WEB__PORT", str(web))
    process = subprocess.Popen([sys.executable, "-m", "kopeck", "serve", "relay", "web", "gateway"])
    try:
        parts = _until_healthy(process, health)
        assert parts == {
            "relay.started": True,
            "web.started": True,
            "gateway.started": True,
            "gateway.ready": True,
            "not_draining": True,
        }
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/sign-in") as page:
            assert page.status == 200
        with socket.create_connection(("127.0.0.1", gateway)):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_role_that_cannot_serve_ends_the_others_of_its_process(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_RELAY__METRICS_PORT", str(free_port()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("KOPECK_WEB__PORT", str(taken.getsockname()[1]))
        said = kopeck("serve", "relay", "web")
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("kopeck: cannot listen on 127.0.0.1:")


def test_the_help_says_what_each_role_does_and_a_role_that_is_none_is_refused(kopeck) -> None:
    out = kopeck("serve", "--help").out
    for name, role in ROLES.items():
        assert f"  {name} " in out
        assert role.does[:40] in " ".join(out.split())
    assert kopeck("serve", "kitchen").status == 2


def _until_healthy(process: subprocess.Popen[bytes], port: int) -> dict[str, bool]:
    for _ in range(300):
        assert process.poll() is None, "the process ended before it served"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                return dict(json.load(answer)["parts"])
        except OSError:  # not there yet, or 503
            time.sleep(0.1)
    raise AssertionError("the process is not healthy")
