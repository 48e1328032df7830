"""The boundary of open usage: which runs close usage, for whom, and the way back for a boundary that went too far.

Rules. A run sees the events that count before its ``usage_until`` and no others, whenever its shards are done. So from
the moment a run is planned, an event of an earlier time that comes in counts at the boundary or later:

* a run that posts for everybody closes usage for everybody when it is planned, a review of everybody when it is
  approved; while such a review waits, imports take its bound as the boundary, and when it is void they do not;
* a run or a review of one payer closes usage for the accounts that he pays for.

Planning waits for imports under way: they hold the row of ``usage_open`` until they commit. Nothing is closed further
ahead than usage can be kept (migration 0005, ``usage_month``).

Does not know: what becomes of late events. Functions take the caller's connection and do not commit.
"""

from datetime import UTC, datetime
from typing import Final

from billing.cycle.posting import CycleRefused
from billing.database.adbc import do, rows
from billing.database.cursors import ColumnConnection

_HOLD: Final = "SELECT open_from FROM usage_open FOR UPDATE"

#: As usage_month has it: nothing is kept for a time beyond.
_IS_BEYOND: Final = "SELECT to_timestamp($1::bigint) > now() + interval '3 months'"

_CLOSE_FOR_ALL: Final = """
    UPDATE usage_open u SET open_from = r.usage_until FROM bill_runs r
    WHERE r.id = $1::int AND (u.open_from IS NULL OR u.open_from < r.usage_until)
"""

#: What is closed for everybody needs not be said of single accounts.
_TIDY: Final = """
    DELETE FROM usage_open_accounts a USING usage_open u, bill_runs r
    WHERE a.open_from <= u.open_from AND r.id = a.run_id AND r.state IN ('done', 'void')
"""

_CLOSE_FOR_PAYER: Final = """
    INSERT INTO usage_open_accounts (run_id, account_id, open_from)
    SELECT r.id, a.account_id, r.usage_until
    FROM bill_runs r
    CROSS JOIN LATERAL (
        SELECT account_id FROM billing_accounts WHERE payer_account_id = r.only_account_id
        UNION SELECT account_id FROM orders WHERE payer_account_id = r.only_account_id AND settled_at IS NULL
    ) a
    WHERE r.id = $1::int
"""

_FORGET: Final = "DELETE FROM usage_open_accounts WHERE run_id = $1::int"

_IS_FOR_ALL: Final = "SELECT only_account_id IS NULL FROM bill_runs WHERE id = $1::int"

#: How far runs over all payers rely on what is closed.
_BILLED_UNTIL: Final = """
    SELECT max(usage_until) FROM bill_runs
    WHERE only_account_id IS NULL AND (state IN ('done', 'approving') OR (kind = 'post' AND state <> 'void'))
"""

_REOPEN: Final = "UPDATE usage_open SET open_from = to_timestamp(nullif($1::bigint, 0))"


def hold(opened: ColumnConnection, until_s: int) -> datetime | None:
    """Wait for imports under way and hold others off until the transaction ends; returns the boundary.

    Raises:
        CycleRefused: ``until_s`` is so far ahead that no usage could be kept from there on.
    """
    if rows(opened, _IS_BEYOND, (until_s,))[0][0]:
        day = datetime.fromtimestamp(until_s, UTC)
        raise CycleRefused(f"no run up to {day:%Y-%m-%d}: usage is kept up to three months ahead of now")
    found: datetime | None = rows(opened, _HOLD)[0][0]
    return found


def close_for_all(opened: ColumnConnection, run_id: int) -> None:
    """Close usage for everybody up to the run's bound."""
    do(opened, _CLOSE_FOR_ALL, (run_id,))
    do(opened, _TIDY)


def close_for_payer(opened: ColumnConnection, run_id: int) -> None:
    """Close usage of the accounts that the run's payer pays for."""
    do(opened, _CLOSE_FOR_PAYER, (run_id,))


def approved(opened: ColumnConnection, run_id: int) -> None:
    """A review is to be posted: what it saw is closed."""
    if rows(opened, _IS_FOR_ALL, (run_id,))[0][0]:
        rows(opened, _HOLD)
        close_for_all(opened, run_id)


def voided(opened: ColumnConnection, run_id: int) -> None:
    """A review is void: nobody relies on what it closed."""
    do(opened, _FORGET, (run_id,))


def reopen(opened: ColumnConnection) -> tuple[datetime | None, datetime | None]:
    """Move the boundary back to where runs over all payers rely on it; returns what it was and what it is."""
    before: datetime | None = rows(opened, _HOLD)[0][0]
    billed_until: datetime | None = rows(opened, _BILLED_UNTIL)[0][0]
    if before is None or (billed_until is not None and billed_until >= before):
        return before, before
    do(opened, _REOPEN, (int(billed_until.timestamp()) if billed_until is not None else 0,))
    return before, billed_until
