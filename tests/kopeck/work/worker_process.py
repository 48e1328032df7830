"""A worker as a process of its own: ``python -m tests.kopeck.work.worker_process DSN PROCESSES``."""

import asyncio
import signal
import sys

from kopeck.databases.stores import Stores
from kopeck.settings import Settings
from kopeck.work.frames import Setup
from kopeck.work.worker import Worker, WorkerOptions
from tests.kopeck.work.tried_work import KINDS


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    setup = Setup(Settings(), Stores(sys.argv[1], "", "mongodb://127.0.0.1:1", "none"))
    options = WorkerOptions(setup, KINDS, processes=int(sys.argv[2]), lease_s=1, poll_s=0.2, drain_s=10)
    await Worker(options).run(stop)


if __name__ == "__main__":
    asyncio.run(main())
