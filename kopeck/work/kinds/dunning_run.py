"""dunning.run: the steps of dunning that are due, in the background; the work of `kopeck dunning run`.

Rules. An account is one transaction of a chunk, and a step is done once, so another attempt begins at the first account
and does nothing twice.

Does not know: when a step is due (billing.invoicing.dunning).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

from billing.database.cursors import Cursor
from billing.invoicing.dunning import DunningResult, added, count_accounts, run_chunk
from kopeck.databases.transaction_steps import in_steps
from kopeck.work.context import ChildContext


def run_dunning(context: ChildContext) -> Mapping[str, Any]:
    """Do the steps that are due of every account in debt. arguments: date (ISO) to count days to, else today."""
    given = context.arguments.get("date")
    today = date.fromisoformat(given) if given else None
    total, accounts = DunningResult(0, {}, 0, 0), 0

    async def step(cur: Cursor) -> bool:
        nonlocal total, accounts
        context.check_cancelled()
        if not total.looked:
            accounts = await count_accounts(cur)
        total = added(total, await run_chunk(cur, total.after or 0, today, context.asked_by))
        context.progress(total.looked, accounts, "accounts")
        return total.after is not None

    in_steps(context.dsn, step)
    return {**total.actions, "orders_suspended": total.suspended, "orders_cancelled": total.cancelled}
