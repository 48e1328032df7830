"""Workers in a test: an event loop with one or more of them, on a database of its own."""

import asyncio
import contextlib

import pytest

from billing.database.aiopg import connect
from billing.work.jobs.store import enqueue, find_job
from kopeck.databases.stores import Stores
from kopeck.settings import Settings
from kopeck.work.frames import Setup
from kopeck.work.worker import Worker, WorkerOptions
from tests.gateway.until import until
from tests.kopeck.work.tried_work import KINDS


class Bench:
    """Queue jobs, run workers, look."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.settings = Settings()
        self.journal = ("mongodb://127.0.0.1:1", "none")

    async def run(self, work):
        connection = await connect(self.dsn, name="test", statement_timeout_s=60, idle_transaction_s=60)
        async with connection, connection.cursor() as cur:
            return await work(cur)

    async def enqueue(self, kind, arguments=None, **more):
        return await self.run(lambda cur: enqueue(cur, kind, arguments or {}, asked_by="user:anna", **more))

    async def job(self, job_id):
        return await self.run(lambda cur: find_job(cur, job_id))

    async def until_over(self, job_id):
        async def over():
            job = await self.job(job_id)
            return job if job.state.is_over else None

        return await until(over, f"job {job_id} is not over")

    async def until_state(self, job_id, state):
        async def stands():
            job = await self.job(job_id)
            return job if job.state == state else None

        return await until(stands, f"job {job_id} is not {state}")

    def options(self, **more):
        setup = Setup(self.settings, Stores(self.dsn, "", *self.journal))
        return WorkerOptions(setup, **({"kinds": KINDS, "poll_s": 0.2, "lease_s": 1, "drain_s": 5.0} | more))

    @contextlib.asynccontextmanager
    async def worker(self, **more):
        stop = asyncio.Event()
        worker = Worker(self.options(**more))
        task = asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            await task


@pytest.fixture
def bench(database):
    return Bench(database.dsn)
