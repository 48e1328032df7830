"""The bench's generator against a real HTTP server, and one that breaks off."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from loadtests.bare import GOOD
from loadtests.figures import BenchError
from loadtests.generator import content_length, drive, quantile

REQUEST = b"GET /pay/x?command=pay HTTP/1.1\r\nHost: kopeck\r\n\r\n"


@pytest.fixture(params=["handler", "callback"])
def bare_port(request: pytest.FixtureRequest) -> Iterator[int]:
    argv = [sys.executable, "-m", "loadtests.bare", request.param]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def test_every_prepared_request_is_sent_once_and_answered(bare_port: int) -> None:
    run = drive(("127.0.0.1", bare_port), 4, 30, GOOD.encode(), [REQUEST] * 200)
    assert (run.count, run.good, run.is_exhausted) == (200, 200, True)
    assert 0 < run.p50_ms <= run.p99_ms
    assert run.per_s > 0


def test_replies_that_say_something_else_are_not_good(bare_port: int) -> None:
    run = drive(("127.0.0.1", bare_port), 2, 30, b"<result>1</result>", [REQUEST] * 20)
    assert (run.count, run.good) == (20, 0)


def test_the_run_ends_when_its_time_is_over(bare_port: int) -> None:
    run = drive(("127.0.0.1", bare_port), 2, 0.2, GOOD.encode(), [REQUEST] * 1_000_000)
    assert not run.is_exhausted
    assert 0 < run.count < 1_000_000


def test_a_server_that_hangs_up_gives_no_figure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(BenchError, match="closed"):
            drive(server.getsockname(), 1, 5, b"", [REQUEST])
        thread.join()


def test_a_reply_without_a_length_gives_no_figure() -> None:
    with pytest.raises(BenchError, match="Content-Length"):
        content_length(b"HTTP/1.1 200 OK\r\nServer: x")


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_quantiles_are_values_that_were_measured(percent: int, value: float) -> None:
    assert quantile([float(number) for number in range(1, 101)], percent) == value
