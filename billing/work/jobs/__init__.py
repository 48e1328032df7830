"""Background jobs: a queue in PostgreSQL. `enqueue` belongs to the transaction of its cause; kopeck.work does them."""

from billing.work.jobs.context import JobCancelled, JobContext
from billing.work.jobs.store import enqueue

__all__ = ["JobCancelled", "JobContext", "enqueue"]
