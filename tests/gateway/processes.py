"""Gateway processes of their own for tests."""

import os
import subprocess
import sys
from contextlib import contextmanager

from tests.gateway.until import until

ACTIVE = "79160000001"


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
    async def served():
        assert process.poll() is None, "the gateway process ended before it served"
        query = f"command=check&account={ACTIVE}&sum=1.00&txn_id=1".encode()
        try:
            return (await peer.get("/pay/osmp", query))[0] == 200
        except OSError:
            return False

    await until(served, "the gateway process does not serve", pause_s=0.05)
