"""What `kopeck verify` runs on a live database: truths 1 to 5 and the further checks it is given, as one report.

Rules. Reads only, on one connection of its own, while gateways and relays go on. The journal is compared last, so that
the relay has had the time of the other checks.

Does not know: who asked, how a report is printed (`Report.lines` gives plain text), what each check looks at.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from billing.database.aiopg import connect, failed_is_away
from billing.database.cursors import Cursor
from billing.database.link import CycleStoreError
from billing.database.session import IDLE_VERIFY_S
from billing.verification.ledger import verify_ledger
from billing.verification.records import Check, Finding
from billing.verification.slices import Say, silent
from gateway.journal.journal import Journal
from gateway.verification.journal import verify_journal
from gateway.verification.payments import verify_payments

#: Longest one statement may take: some of them read every transfer there is.
STATEMENT_TIMEOUT_S: Final = 6 * 3_600.0


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, from which instant on, and what differs."""

    at: datetime
    checks: tuple[Check, ...]

    @property
    def is_clean(self) -> bool:
        """No check found a difference."""
        return all(check.is_clean for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The listed differences of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def lines(self) -> list[str]:
        """The report as plain text: a line a check, below it the rows that differ."""
        lines = [f"begun at {self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"]
        for check in self.checks:
            lines.append(_line(check))
            lines += [f"    {finding.what}" for finding in check.findings]
            if check.found > len(check.findings):
                lines.append(f"    and {check.found - len(check.findings):,} more")
            if check.note:
                lines.append(f"    note: {check.note}")
        found = sum(check.found for check in self.checks)
        lines.append("no differences" if self.is_clean else f"{found:,} differences")
        return lines


async def verify(
    dsn: str,
    journal: Journal | None,
    wait_s: float = 60.0,
    also: Sequence[Callable[[Cursor], Awaitable[list[Check]]]] = (),
    say: Say = silent,
) -> Report:
    """Check truths 1 to 5, and what else is asked for.

    Args:
        dsn: of the program's role or any that may read; nothing is written.
        journal: None leaves truth 5 unexamined, and the report says so.
        wait_s: how long the relay may take to carry what the outbox holds.
        also: further checks; each is given a cursor that is in no transaction.
        say: told how far it is.

    Raises:
        DatabaseAway: PostgreSQL is away, and nothing is known. (MongoDB away is a finding: truth 5 does not hold.)
    """
    with failed_is_away(CycleStoreError):
        async with _connection(dsn) as cur:
            await cur.execute("SELECT now()")
            at = (await cur.fetchone())[0]
            checks = await verify_ledger(cur, dsn, say)
            checks += await verify_payments(cur, say)
            for examine in also:
                checks += await examine(cur)
            checks += await verify_journal(cur, journal, wait_s, say)
    return Report(at, tuple(checks))


def _line(check: Check) -> str:
    examined = f"{check.examined:,} {check.of}" if check.examined else f"EXAMINED NOTHING ({check.of})"
    outcome = "ok" if check.is_clean else f"{check.found:,} DIFFER"
    return f"truth {check.truth}  {check.name:<62}  {examined:>28}  {outcome if check.examined or check.found else '-'}"


@contextlib.asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Any]:
    connection = await connect(
        dsn, name="kopeck-verify", statement_timeout_s=STATEMENT_TIMEOUT_S, idle_transaction_s=IDLE_VERIFY_S
    )
    try:
        yield await connection.cursor()
    finally:
        await connection.close()
