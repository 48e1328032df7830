"""Queueing deliveries, in the transaction of their cause.

Rules. A key acts once: the same key with the same contents is the delivery that stands already; with other contents it
is refused and changes nothing. A delivery that is in order goes after those of its order that were queued before.

Does not know: kinds, rows (billing.work.deliveries.store), who sends.
"""

from collections.abc import Sequence
from typing import Final

from billing.database.cursors import Cursor
from billing.work.deliveries.records import KEY_MAX, PAYLOAD_MAX_BYTES, DeliveryRefused, NewDelivery
from billing.work.deliveries.store import insert_deliveries, standing_deliveries

#: Most characters of the other texts of a delivery.
_LIMITS: Final = {"recipient": 200, "address": 320, "subject": 200, "order_key": 200}


async def enqueue(cur: Cursor, new: NewDelivery) -> int:
    """Queue one delivery in the caller's transaction; returns its id, also when it stands already.

    Raises:
        DeliveryRefused: what is asked for cannot be sent, or the key belongs to another delivery.
    """
    return (await enqueue_all(cur, [new]))[0]


async def enqueue_all(cur: Cursor, wanted: Sequence[NewDelivery]) -> list[int]:
    """Queue deliveries with different keys in three statements at most; their ids, in order.

    Raises:
        DeliveryRefused: as `enqueue`, for the first that is refused; the caller rolls back.
    """
    if not wanted:
        return []
    for new in wanted:
        _require_sendable(new)
    ids = await insert_deliveries(cur, wanted)
    repeated = [new for new in wanted if (new.kind, new.key) not in ids]
    if repeated:
        standing = await standing_deliveries(cur, repeated)
        for new in repeated:
            number, is_same = standing[new.kind, new.key]
            if not is_same:
                raise DeliveryRefused(
                    f"key {new.key!r} belongs to delivery {number}, which has other contents",
                    code="delivery_key_conflict",
                    key=new.key,
                    delivery=number,
                )
            ids[new.kind, new.key] = number
    return [ids[new.kind, new.key] for new in wanted]


def _require_sendable(new: NewDelivery) -> None:
    if not 1 <= len(new.key) <= KEY_MAX or not new.key.isprintable():
        raise DeliveryRefused(f"the key must be 1 to {KEY_MAX} printable characters", code="delivery_key_bad")
    if len(new.payload) > PAYLOAD_MAX_BYTES:
        raise DeliveryRefused(
            f"{len(new.payload)} bytes are more than a delivery may have ({PAYLOAD_MAX_BYTES})",
            code="delivery_too_large",
            size=len(new.payload),
        )
    for name, most in _LIMITS.items():
        text = getattr(new, name)
        if len(text) > most or (text and not text.isprintable()):
            raise DeliveryRefused(
                f"the {name.replace('_', ' ')} must be at most {most} printable characters", code=f"delivery_{name}_bad"
            )
    if not new.recipient:
        raise DeliveryRefused("a delivery needs a recipient", code="delivery_recipient_bad")
