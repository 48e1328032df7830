"""The role jobs as a service manager runs it: `kopeck serve jobs`, with jobs that commands queue."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

from kopeck.databases.postgres import free_port

LONGEST_S = 60


def test_a_process_of_the_role_does_what_a_command_queued_and_drains(kopeck, database, journal_uri, journal_name):
    port = free_port()
    environment = os.environ | {"KOPECK_JOBS__METRICS_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "kopeck", "serve", "jobs"], env=environment)
    try:
        assert kopeck("attempts", "forget", "--background").out.startswith("job 1 is queued")
        job = {}
        end = time.monotonic() + LONGEST_S
        while job.get("state") not in ("done", "failed") and time.monotonic() < end:
            assert process.poll() is None
            job = json.loads(kopeck("job", "show", "1", "--json").out)
            time.sleep(0.2)
        assert (job["state"], job["message"], job["result"]["deleted"]) == ("done", "", 0)
        assert json.loads(asked(port, "/health"))["parts"]["jobs.started"]
        metrics = asked(port, "/metrics")
        assert "kopeck_jobs_oldest_due_age_seconds" in metrics
        assert 'kopeck_jobs_attempts_total{how="done",kind="attempts.forget"} 1.0' in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(LONGEST_S) == 0
        finally:
            process.kill()


def asked(port, path):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
