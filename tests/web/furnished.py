"""What the seed of payments lacks for pages to have something to show: an invoice, jobs, a schedule.

Made by the functions that the tests of those pages use.
"""

from concurrent.futures import ThreadPoolExecutor

from billing.work.jobs.records import JobState
from tests.web.conftest import Running
from tests.web.console.system import test_jobs, test_schedules
from tests.web.test_browser import bill


def furnish(site: Running) -> dict[str, int]:
    """Ids by what they are of, beside those of the seed."""
    with ThreadPoolExecutor(1) as pool:  # Playwright keeps a loop in this thread
        pool.submit(bill, site).result()
        pool.submit(test_schedules.add, site).result()
    running = test_jobs.begun(site, test_jobs.queued(site, "bill.run", date="2026-02-01"))
    failed = test_jobs.begun(site, test_jobs.queued(site))
    test_jobs.ended(site, failed, JobState.FAILED, "error", "the bank <b>does not</b> answer")
    return {"running_job": running, "failed_job": failed}
