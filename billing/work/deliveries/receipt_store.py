"""Receipts: what a recipient says later of a delivery it accepted, and the delivery they belong to.

Rules. A receipt is kept as it came before anything follows from it. It finds its delivery by the recipient's id; one
that comes before that id is known waits and is matched later. A delivery in parts is delivered when each part is, and
refused when one is.

Does not know: how receipts arrive, what their codes mean.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.work.deliveries.decide import after_receipt
from billing.work.deliveries.records import LOG_MAX, DeliveryOutcome, Verdict
from billing.work.deliveries.store import change_deliveries, hold_deliveries, plain_text

#: Receipts matched in one go.
MATCH_MAX: Final = 500

_NOTE: Final = """
    INSERT INTO delivery_receipts (kind, recipient, reference, outcome, code, detail, raw)
    VALUES (%(kind)s, %(recipient)s, %(reference)s, %(outcome)s, %(code)s, %(detail)s, %(raw)s)
"""

#: A recipient may use an id again after long; the newest delivery with it is meant.
_MATCHED: Final = """
    SELECT r.id, r.reference, r.outcome, r.code, r.detail, f.delivery_id
    FROM delivery_receipts r
    CROSS JOIN LATERAL (
        SELECT delivery_id FROM delivery_references f
        WHERE f.kind = r.kind AND f.recipient = r.recipient AND f.reference = r.reference
        ORDER BY f.delivery_id DESC LIMIT 1) f
    WHERE r.delivery_id IS NULL
      AND (%(kind)s::text IS NULL OR (r.kind, r.recipient, r.reference) = (%(kind)s, %(recipient)s, %(reference)s))
    ORDER BY r.id LIMIT %(limit)s
    FOR UPDATE OF r SKIP LOCKED
"""

_ASSIGN: Final = "UPDATE delivery_receipts SET delivery_id = %(delivery)s WHERE id = %(id)s"

_PART: Final = """
    UPDATE delivery_references SET outcome = %(outcome)s
    WHERE delivery_id = %(delivery)s AND reference = %(reference)s AND outcome = ''
"""

#: Of the attempt that the part belongs to: an earlier one's parts are no longer waited for.
_PARTS_LEFT: Final = """
    SELECT count(*) FROM delivery_references p
    WHERE p.delivery_id = %(delivery)s AND p.outcome <> 'delivered' AND p.attempt = (
        SELECT max(attempt) FROM delivery_references WHERE delivery_id = %(delivery)s AND reference = %(reference)s)
"""


async def note_receipt(
    cur: Cursor, kind: str, recipient: str, reference: str, outcome: DeliveryOutcome, now: datetime, raw: str = ""
) -> None:
    """Keep a receipt, and let its delivery know if it is known. Answer the recipient after the commit.

    outcome: delivered and refused are final; anything else is kept for people to read. raw: masked.
    """
    queue = {"kind": kind, "recipient": recipient, "reference": plain_text(reference, 200)}
    words = {"code": plain_text(outcome.code, 100), "detail": plain_text(outcome.reason, 500)}
    values = {**queue, **words, "outcome": outcome.verdict.value, "raw": plain_text(raw, LOG_MAX)}
    await cur.execute(_NOTE, values)
    await _match(cur, now, queue)


async def match_receipts(cur: Cursor, now: datetime) -> int:
    """Match receipts that came before their delivery's acceptance was known; how many."""
    return await _match(cur, now, {"kind": None, "recipient": None, "reference": None})


async def _match(cur: Cursor, now: datetime, only: Mapping[str, str | None]) -> int:
    await cur.execute(_MATCHED, {**only, "limit": MATCH_MAX})
    rows = await cur.fetchall()
    for receipt_id, reference, verdict, code, detail, delivery_id in rows:
        delivery = (await hold_deliveries(cur, [delivery_id]))[delivery_id]
        await cur.execute(_ASSIGN, {"delivery": delivery_id, "id": receipt_id})
        outcome = DeliveryOutcome(Verdict(verdict), code=code, reason=detail)
        if outcome.verdict in (Verdict.DELIVERED, Verdict.REFUSED):
            part = {"delivery": delivery_id, "reference": reference}
            await cur.execute(_PART, {**part, "outcome": verdict})
            await cur.execute(_PARTS_LEFT, part)
            left = int((await cur.fetchone())[0])
            if outcome.verdict is Verdict.DELIVERED and left:
                continue
        change = after_receipt(delivery, outcome)
        if change is not None:
            await change_deliveries(cur, [(delivery, change)], now)
    return len(rows)
