"""verify: does everything add up; the work of `kopeck verify`, in the background too.

Rules. It reads only, so another attempt begins anew. What differs is told in the log, row by row, and the result calls
for attention.

Does not know: what is verified (gateway.verification, billing.verification).
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from billing.database.away import DatabaseAway
from billing.verification.cycle import verify_cycle
from billing.verification.slices import Say
from billing.verification.usage import verify_usage
from gateway.journal.journal import Journal
from gateway.journal.relay import RelayOptions, run_relay
from gateway.journal.totals import verify_payment_totals
from gateway.partners.keys import key_warnings, warning_sentences
from gateway.verification.live import Report
from gateway.verification.live import verify as examine
from gateway.verification.postings import verify_postings
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed, in_transaction
from kopeck.work.context import ChildContext

WAIT_S = 60
LINES = 1_000


def run_verify(context: ChildContext) -> Mapping[str, Any]:
    """Verify the live databases. arguments: lines (the judge computes again), all_lines, no_journal."""
    given = context.arguments

    def say(what: str, done: int, of: int | None) -> None:
        context.check_cancelled()
        context.progress(done, of, what)

    stores = Stores(context.dsn, "", context.journal_uri, context.journal_database)
    lines = None if given.get("all_lines") else int(given.get("lines", LINES))
    report, warnings = verify_all(stores, context.settings.gateway.key_passphrase, say, lines=lines,
                                  no_journal=bool(given.get("no_journal")))  # fmt: skip
    for line in [*report.lines(), *warnings]:
        context.log(line)
    found = sum(check.found for check in report.checks)
    result = {"differences": found, "checks": len(report.checks), "warnings": len(warnings)}
    return result if report.is_clean else result | {"attention": "differences"}


def verify_all(
    stores: Stores, key_passphrase: str, say: Say, *, wait_s: int = WAIT_S, lines: int | None, no_journal: bool
) -> tuple[Report, list[str]]:
    """What was examined and differs, and sentences about partners' keys.

    Raises:
        CommandFailed: a database is away.
    """
    try:
        report = asyncio.run(_verify(stores, wait_s, no_journal, lines, say))
    except DatabaseAway as error:
        raise CommandFailed(str(error)) from error
    warnings = in_transaction(stores.dsn, lambda cur: key_warnings(cur, passphrase=key_passphrase))
    return report, warning_sentences(warnings)


async def _verify(stores: Stores, wait_s: int, no_journal: bool, lines: int | None, say: Say) -> Report:
    journal = None if no_journal else Journal(stores.journal_uri, stores.journal_database)
    stop = asyncio.Event()
    relay: asyncio.Task[None] | None = None
    if journal is not None and stores.started_here:  # nobody else would carry what the outbox still holds
        relay = asyncio.create_task(run_relay(RelayOptions(stores.dsn), journal, stop))
    try:
        usage, bills = partial(verify_usage, say=say), partial(verify_cycle, sample=lines, say=say)
        also = (verify_payment_totals, verify_postings, usage, bills)
        return await examine(stores.dsn, journal, wait_s, also, say)
    finally:
        stop.set()
        if relay is not None:
            await relay
        if journal is not None:
            journal.close()
