"""Truth 5 on a live database: every payment is in the journal as PostgreSQL has it, or on its way there.

Rules. Payments are walked in id order, BATCH at a time: a short snapshot renders their documents, then MongoDB is
asked. The journal may be ahead of the snapshot. Where it is behind, the payment is rendered again together with whether
the outbox holds it, in one snapshot: a change and its row in the outbox are one transaction, and the relay deletes the
row only after MongoDB has acknowledged. So one that the outbox does not hold must be in the journal by then; one that
it holds is waited for. A relay that carries slowly is told and is no difference; one that carries nothing is.

Facts in a document (money, parties, states, times, requests) must equal PostgreSQL's. Wording (names, search terms,
replies and codes worded by a newer program) may lag until a rebuild and is counted as a note, not as a difference.

Does not know: truths other than 5, how documents are made.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from billing.verify_records import Check, check_of
from billing.verify_slices import Say, silent, snapshot
from gateway.documents import Document, payment_documents
from gateway.journal import Journal
from gateway.journal_search import JournalAway, JournalError
from gateway.verify_faults import Faults

#: Payments in memory at once.
BATCH: Final = 1_000
#: How often the outbox is asked for what is still to be carried.
_POLL_S: Final = 0.2

#: What a rebuild may word differently: not compared as fact.
_WORDING: Final = frozenset({"partner_name", "account_name", "protocol", "code", "terms"})

_LAST: Final = "SELECT coalesce(max(id), 0) FROM payments"
_IDS: Final = "SELECT id FROM payments WHERE id > %(after)s AND id <= %(last)s ORDER BY id LIMIT %(limit)s"
_KNOWN: Final = "SELECT id FROM payments WHERE id = ANY(%(ids)s::bigint[])"
_WAITING: Final = "SELECT DISTINCT ref FROM outbox WHERE topic = 'payment' AND ref = ANY(%(ids)s::bigint[])"
_OLDEST: Final = "SELECT min(id) FROM outbox WHERE topic = 'payment'"

_HELD: Final = "each payment has its document in the journal"


async def verify_journal(cur: Any, journal: Journal | None, wait_s: float, say: Say = silent) -> list[Check]:
    """Every check of truth 5.

    Args:
        cur: aiopg cursor, in no transaction.
        wait_s: how long the relay may take to carry what waits in the outbox.
    """
    if journal is None:
        return [Check(5, "the journal holds every payment", 0, "payments", note="no journal was given: not examined")]
    try:
        documents, late = await _check_documents(cur, journal, wait_s, say)
        return [late, documents, await _check_strays(cur, journal, documents)]
    except (JournalAway, JournalError) as error:
        return [check_of(5, "the journal holds every payment", 0, "payments", [f"the journal cannot be read: {error}"])]


async def _check_documents(cur: Any, journal: Journal, wait_s: float, say: Say) -> tuple[Check, Check]:
    """Every payment has a document, no older than the snapshot, and equal where it is of the same version."""
    faults = Faults(5)
    reworded = after = 0
    behind: list[int] = []
    await cur.execute(_LAST)
    last = int((await cur.fetchone())[0])
    while True:
        say("payments in the journal", faults.examined, None)
        async with snapshot(cur):
            await cur.execute(_IDS, {"after": after, "last": last, "limit": BATCH})
            ids = [int(row[0]) for row in await cur.fetchall()]
            expected = await payment_documents(cur, ids) if ids else []
        if not ids:
            break
        after = ids[-1]
        stored = await journal.payments_by_id(ids)
        differing = []
        for document in expected:
            faults.examined += 1
            found = stored.get(document["_id"])
            if document_faults(document, found):
                differing.append(document["_id"])
            reworded += found is not None and found["version"] == document["version"] and is_reworded(document, found)
        behind += await _look_again(cur, journal, differing, faults)
    late = await _wait(cur, journal, behind, faults, wait_s, say)
    note = (
        f"{reworded:,} documents are worded by an older program or name; a rebuild refreshes them" if reworded else ""
    )
    return faults.check(_HELD, "payments", note), late


async def _look_again(cur: Any, journal: Journal, ids: Sequence[int], faults: Faults) -> list[int]:
    """Compare payments of which the relay owes nothing; returns those that it has still to carry."""
    if not ids:
        return []
    async with snapshot(cur):
        await cur.execute(_WAITING, {"ids": list(ids)})
        waiting = {int(row[0]) for row in await cur.fetchall()}
        expected = await payment_documents(cur, [one for one in ids if one not in waiting])
    stored = await journal.payments_by_id([document["_id"] for document in expected])
    for document in expected:
        faults.add(document["_id"], document_faults(document, stored.get(document["_id"])))
    return sorted(waiting)


async def _wait(cur: Any, journal: Journal, behind: list[int], faults: Faults, wait_s: float, say: Say) -> Check:
    """Compare what waited in the outbox as the relay carries it."""
    name = "the relay carries every change to the journal"
    deadline = time.monotonic() + wait_s
    first = await _oldest(cur)
    while True:
        say("changes that the relay has still to carry", len(behind), None)
        left: list[int] = []
        for start in range(0, len(behind), BATCH):
            left += await _look_again(cur, journal, behind[start : start + BATCH], faults)
        behind = left
        is_stuck = first is not None and first == await _oldest(cur)
        if time.monotonic() >= deadline or not (behind or is_stuck):
            break
        await asyncio.sleep(_POLL_S)
    if is_stuck:
        found = [f"after {wait_s:g} s the relay has not carried change {first}, the oldest in the outbox"]
        return check_of(5, name, 1, "outboxes", found)
    note = f"the relay carries, and is behind by {len(behind):,} payments: they were not compared" if behind else ""
    return check_of(5, name, 1, "outboxes", [], note)


async def _oldest(cur: Any) -> int | None:
    await cur.execute(_OLDEST)
    row = await cur.fetchone()
    return None if row[0] is None else int(row[0])


async def _check_strays(cur: Any, journal: Journal, documents: Check) -> Check:
    """No document without a payment. Asked of the present: a payment may be younger than the walk.

    When every payment has its document and there are as many documents as payments, none is left over and no id needs
    to be read.
    """
    faults = Faults(5)
    faults.examined = await journal.count_payments()
    if not documents.is_clean or faults.examined != documents.examined:
        faults.examined = 0
        async for ids in journal.payment_ids(BATCH):
            faults.examined += len(ids)
            await cur.execute(_KNOWN, {"ids": ids})
            known = {row[0] for row in await cur.fetchall()}
            for stray in sorted(set(ids) - known):
                faults.add(stray, ["the journal has a document of it, PostgreSQL does not know it"])
    return faults.check("each document in the journal has its payment", "documents")


def document_faults(expected: Document, found: Document | None) -> list[str]:
    """What facts differ between the document that PostgreSQL gives and the stored one, which may be newer."""
    if found is None:
        return ["the journal has no document of it"]
    if found.get("version", 0) > expected["version"]:
        return []
    if found.get("version", 0) < expected["version"]:
        return [f"the journal has version {found.get('version')}, PostgreSQL {expected['version']}"]
    facts, stored = _facts(expected), _facts(found)
    return [
        f"{name}: the journal has {stored.get(name)!r}, PostgreSQL {facts.get(name)!r}"[:400]
        for name in sorted(facts.keys() | stored.keys())
        if facts.get(name) != stored.get(name)
    ]


def is_reworded(expected: Document, found: Document) -> bool:
    """Whether the wording differs while the facts may be equal."""
    if any(expected[name] != found.get(name) for name in _WORDING):
        return True
    return [event["reply"] for event in expected["timeline"]] != [
        event.get("reply") for event in found.get("timeline", [])
    ]


def _facts(document: Document) -> Document:
    facts = {name: value for name, value in document.items() if name not in _WORDING}
    facts["timeline"] = [
        {name: value for name, value in event.items() if name != "reply"} for event in facts.get("timeline", [])
    ]
    return facts
