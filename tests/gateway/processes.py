"""Gateway processes of their own for tests."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import contextmanager

ACTIVE = "79160000001"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def gateway_process(database, port, *, failpoint=""):
    """A `kopeck serve gateway` of its own; killed at the end if it still lives."""
    environment = os.environ | {
        "KOPECK_DATABASE__DSN": database.dsn,
        "KOPECK_JOURNAL__URI": "mongodb://127.0.0.1:1",
        "KOPECK_GATEWAY__PORT": str(port),
        "KOPECK_GATEWAY__METRICS_PORT": "0",
        "KOPECK_GATEWAY__FAILPOINTS": failpoint,
        "KOPECK_TEST_FAILPOINTS": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "kopeck", "serve", "gateway"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until_served(peer, process):
    for _ in range(300):
        assert process.poll() is None, "the gateway process ended before it served"
        try:
            if (await peer.get("/pay/osmp", f"command=check&account={ACTIVE}&sum=1.00&txn_id=1".encode()))[0] == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway process does not serve")
