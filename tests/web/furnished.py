"""What the seed of payments lacks for pages to have something to show: an invoice, jobs, a schedule, a role that waits
for its second person.

Made by the functions that the tests of those pages use.
"""

from concurrent.futures import ThreadPoolExecutor

from billing.work.jobs.records import JobState
from tests.web.conftest import Running
from tests.web.console.people import test_roles
from tests.web.console.system import test_deliveries, test_jobs, test_schedules
from tests.web.test_browser import bill


def furnish(site: Running) -> dict[str, int]:
    """Ids by what they are of, beside those of the seed."""
    with ThreadPoolExecutor(1) as pool:  # Playwright keeps a loop in this thread
        pool.submit(bill, site).result()
        pool.submit(test_schedules.add, site).result()
        deliveries = pool.submit(test_deliveries.filled, site.dsn).result()
    running = test_jobs.begun(site, test_jobs.queued(site, "bill.run", date="2026-02-01"))
    failed = test_jobs.begun(site, test_jobs.queued(site))
    test_jobs.ended(site, failed, JobState.FAILED, "error", "the bank <b>does not</b> answer")
    return {"running_job": running, "failed_job": failed, **wait_for_a_second_person(site)} | {
        "role": site.one("SELECT min(id) FROM roles"),
        "order": site.one("SELECT min(id) FROM orders"),
        "run": site.one("SELECT min(id) FROM bill_runs"),
        "waiting": deliveries["evt-1:crm"],
        "unknown": deliveries["l-1"],
    }


def wait_for_a_second_person(site: Running) -> dict[str, int]:
    """A role that a careful person asked for."""
    anna = site.newcomer("anna")
    test_roles.add(anna, name="Осторожный", right=["roles.manage", "payments.view"], **{"above.roles.manage": "0"})
    anna.post("/users/oleg", {"do": "roles", "role": ["Осторожный"], "had": "operator"}, "/users/oleg")
    test_roles.add(site.newcomer("oleg"), right=["payments.view"], why="для новой кассы")
    return {"approval": site.one("SELECT min(id) FROM approvals")}
