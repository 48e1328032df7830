"""What people do to a job, told in its log: cancel, begin again. The page and the command call these.

Does not know: who may.
"""

from billing.database.cursors import Cursor
from billing.work.jobs.details_store import add_log
from billing.work.jobs.records import Job, JobState
from billing.work.jobs.store import cancel_job, retry_job


async def cancel(cur: Cursor, job_id: int, actor: str) -> Job:
    """Cancel a queued job at once, ask a running one to stop; how it stands then.

    Raises:
        JobError: no such job, or it is over.
    """
    job = await cancel_job(cur, job_id, actor)
    await add_log(cur, job_id, [actor], event="cancelled" if job.state is JobState.CANCELLED else "cancel_asked")
    return job


async def begin_again(cur: Cursor, job_id: int, actor: str) -> Job:
    """Queue a failed or cancelled job again.

    Raises:
        JobError: no such job, or it did not fail.
    """
    job = await retry_job(cur, job_id)
    await add_log(cur, job_id, [actor], event="by_hand")
    return job
