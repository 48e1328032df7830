"""approvals.expire: requests that no second person decided in time are closed, and what asking left behind is undone.

Rules. In slices, each one transaction; another attempt closes what is left. The audit record names who asked for the
job. A request is refused after its time whether or not this job came.

Does not know: when a request expires, what closing one undoes (web.access.approvals).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from billing.database.cursors import Cursor
from kopeck.databases.transactions import in_transaction
from kopeck.work.context import ChildContext
from web.access.actors import machine
from web.access.approval_kinds import approval_kinds
from web.access.approvals import close_expired

#: Requests closed in one transaction.
SLICE: Final = 200


def expire_approvals(context: ChildContext) -> Mapping[str, Any]:
    """Close them. No arguments."""
    kinds = approval_kinds(context.settings.billing.second_person_above_minor)
    who = machine(context.asked_by, f"job-{context.job_id}")

    async def work(cur: Cursor) -> int:
        return await close_expired(cur, kinds, who, datetime.now(UTC), SLICE)

    closed = 0
    while portion := in_transaction(context.dsn, work):
        closed += portion
        context.progress(closed, None, "requests")
        context.check_cancelled()
    return {"closed": closed}
