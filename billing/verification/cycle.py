"""Truths 6, 8 and 9 on a live database: what the billing cycle wrote, every check of it in one order.

Rules. As in billing.verification.ledger: nothing written, a snapshot for each check. A check of its own topic stands in
the module of that topic and is called here.

Does not know: what the checks look at, the ledger (billing.verification.ledger), usage (billing.verification.usage).
"""

from billing.database.cursors import Cursor
from billing.verification.invoices import verify_invoices
from billing.verification.lines import SAMPLE, check_explained
from billing.verification.periods import check_periods
from billing.verification.records import Check
from billing.verification.slices import Say, silent
from billing.verification.unbilled import check_late, check_usage


async def verify_cycle(cur: Cursor, sample: int | None = SAMPLE, say: Say = silent) -> list[Check]:
    """Truths 6, 8 and 9.

    Args:
        cur: aiopg cursor, in no transaction.
        sample: how many lines are computed again; None: all of them.
    """
    checks = [await check_periods(cur, say), await check_usage(cur), await check_late(cur)]
    return [*checks, *await verify_invoices(cur, say), await check_explained(cur, sample, say)]
