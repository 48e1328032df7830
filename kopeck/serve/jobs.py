"""Composition root of the role jobs: background work. Any number may run at once, on any number of hosts.

Rules. KINDS names the work of each kind of job by its place, which the child process imports; so neither this process
nor those who queue jobs carry what the work needs. A job of a kind that is not here waits for a process that knows it:
a newer version's, while hosts are updated one by one.

Does not know: what the work does.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from billing.work.jobs.rules import USUAL_LADDER_S, JobKind
from kopeck.databases.stores import Stores
from kopeck.serve.process import RoleParts, wait_for_database
from kopeck.settings import Settings
from kopeck.work.frames import Setup
from kopeck.work.worker import Worker, WorkerOptions

log = structlog.get_logger("kopeck.jobs")

#: Every kind of job; billing/work/jobs/words.py says what people call it.
KINDS: Final[Mapping[str, JobKind]] = {
    "attempts.forget": JobKind(
        "kopeck.work.kinds.attempts_forget:run_forget", USUAL_LADDER_S, is_repeatable=True, cancel_grace_s=120
    ),
    "bill.resume": JobKind(
        "kopeck.work.kinds.bill_run:resume_bill", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200, cancel_grace_s=900
    ),
    "bill.run": JobKind(
        "kopeck.work.kinds.bill_run:run_bill", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200, cancel_grace_s=900
    ),
    "bulk.invoice_pdfs": JobKind(
        "web.console.list_work:invoice_pdfs", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200
    ),
    "dunning.run": JobKind("kopeck.work.kinds.dunning_run:run_dunning", USUAL_LADDER_S, is_repeatable=True),
    "list.export": JobKind("web.console.list_work:export_list", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200),
    "payments.export": JobKind(
        "web.console.list_work:export_payments", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200
    ),
    "sessions.forget": JobKind("kopeck.work.kinds.sessions_forget:forget_sessions", USUAL_LADDER_S, is_repeatable=True),
    "usage.import": JobKind(
        "kopeck.work.kinds.usage_import:import_usage", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200
    ),
    "verify": JobKind("kopeck.work.kinds.verify:run_verify", USUAL_LADDER_S, is_repeatable=True, silent_s=7_200),
}


async def serve_jobs(settings: Settings, stores: Stores, stop: asyncio.Event, parts: RoleParts) -> None:
    """Do jobs until the end is asked for; outlives the database being away."""
    if not await wait_for_database(stores.dsn, stop):
        return
    worker = Worker(worker_options(settings, stores))
    log.info("serving", worker=worker.name, processes=settings.jobs.processes)
    parts["started"] = True  # PostgreSQL away is no fault of the process: it waits and says so in its log
    await worker.run(stop)


def worker_options(settings: Settings, stores: Stores) -> WorkerOptions:
    """What the worker needs of the settings."""
    jobs = settings.jobs
    return WorkerOptions(
        setup=Setup(settings, stores),
        kinds=KINDS,
        processes=jobs.processes,
        queues=jobs.queues,
        lease_s=jobs.lease_s,
        poll_s=jobs.poll_ms / 1000,
        keep_days=jobs.keep_days,
        files_keep_days=jobs.files_keep_days,
        drain_s=jobs.drain_s,
    )
