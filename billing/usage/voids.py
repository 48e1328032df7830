"""Usage that does not count: events are voided, or stand corrected by others, with who did it and why.

Rules. Nothing is changed and nothing deleted: a void is a row of usage_voids, a correction a void with an event beside
it that says what was meant, in the period of the first. Billing, rating, verify and explanations pass voided events by.
What was billed stays billed: such an event is refused, for its invoice needs a credit note. A key acts once: the same
key with the same events changes nothing, with others it is refused. All of a request happens, or nothing.

Functions take the caller's cursor; UsageError means that nothing may be committed.

Does not know: what an event costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from billing.database.cursors import Cursor
from billing.database.locks import hold_void_key
from billing.usage.ratable import Ratable, unratable
from billing.usage.store import UsageError
from billing.usage.values import MAX_DURATION_S, MAX_QUANTITY_MICRO
from billing.usage.voids_store import (
    BilledEvent,
    StoredEvent,
    done_under,
    first_billed,
    first_unknown_item,
    first_void,
    insert_events,
    insert_voids,
    keep_billing_off,
    read_events,
)

#: Events of one request: they are looked up one by one in each month.
MAX_EVENTS: Final = 100_000
MAX_KEY: Final = 200
MAX_WHY: Final = 500


@dataclass(frozen=True, slots=True)
class Correction:
    """What an event should say; None: as it did. quantity_micro: millionths of the item's unit."""

    event_id: int
    item: str | None = None
    quantity_micro: int | None = None
    duration_s: int | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class VoidRequest:
    """What a person asks for. key: makes a repeat harmless; name: of the file, or empty."""

    key: str
    why: str
    actor: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Voided:
    """What was done. is_repeat: it had been done before. replaced: events that stand corrected, by id."""

    events: int
    is_repeat: bool
    replaced: Mapping[int, int]


async def void_events(cur: Cursor, ids: Sequence[int], request: VoidRequest) -> Voided:
    """Void events, all or none.

    Raises:
        UsageError: one does not exist, is void already, or is billed; the key was used for others; roll back.
    """
    _check(request, ids)
    done = await _repeated(cur, request, ids)
    if done is not None:
        if any(by is not None for by in done.values()):
            raise UsageError(f"key {request.key[:40]!r} was used for a correction")
        return Voided(len(done), True, {})
    events = await _to_void(cur, ids)
    await insert_voids(cur, events, [None] * len(events), request.key, request.why, request.actor)
    return Voided(len(events), False, {})


async def correct_events(
    cur: Cursor, corrections: Sequence[Correction], request: VoidRequest, ratable: Ratable | None = None
) -> Voided:
    """Void events and store what they should have said, each in the period of the first; all or none.

    Args:
        ratable: what the catalogues in force could rate: a correction that they could not is refused.

    Raises:
        UsageError: as ``void_events``; a correction changes nothing, or could not be rated; roll back.
    """
    ids = [correction.event_id for correction in corrections]
    _check(request, ids)
    by_id = {correction.event_id: correction for correction in corrections}
    done = await _repeated(cur, request, ids)
    if done is not None:
        await _check_repeat(cur, by_id, done, request)
        return Voided(len(done), True, {old: new for old, new in done.items() if new is not None})
    events = await _to_void(cur, ids)
    meant = [_corrected(event, by_id[event.id]) for event in events]
    for before, after in zip(events, meant, strict=True):
        if before == after:
            raise UsageError(f"event {before.id}: the correction says what the event says")
    await _check_meant(cur, meant, ratable or Ratable())
    new_ids = await insert_events(cur, meant, request.name or request.key, request.actor)
    await insert_voids(cur, events, new_ids, request.key, request.why, request.actor)
    return Voided(len(events), False, dict(zip((event.id for event in events), new_ids, strict=True)))


def _check(request: VoidRequest, ids: Sequence[int]) -> None:
    if not 1 <= len(request.key) <= MAX_KEY or not request.key.isprintable():
        raise UsageError(f"the key must be 1 to {MAX_KEY} printable characters")
    if not request.why.strip() or len(request.why) > MAX_WHY or not request.why.isprintable():
        raise UsageError(f"say why: 1 to {MAX_WHY} printable characters")
    if not 1 <= len(ids) <= MAX_EVENTS:
        raise UsageError(f"name 1 to {MAX_EVENTS:,} events")
    seen: set[int] = set()
    for event_id in ids:
        if event_id in seen:
            raise UsageError(f"event {event_id} is named twice")
        seen.add(event_id)


async def _repeated(cur: Cursor, request: VoidRequest, ids: Iterable[int]) -> dict[int, int | None] | None:
    """What the key did before, None if it is new."""
    await hold_void_key(cur, request.key)
    done = await done_under(cur, request.key)
    if done and done.keys() != set(ids):
        raise UsageError(f"key {request.key[:40]!r} was used for other events")
    return done or None


async def _check_repeat(
    cur: Cursor, by_id: Mapping[int, Correction], done: Mapping[int, int | None], request: VoidRequest
) -> None:
    """A repeat says what was stored."""
    new_ids = [new for new in done.values() if new is not None]
    stored = {event.id: event for event in await read_events(cur, [*done, *new_ids])}
    for old, new in done.items():
        if new is None:
            raise UsageError(f"key {request.key[:40]!r} was used for a void")
        said = _said(_corrected(stored[old], by_id[old])) if old in stored else None
        if new not in stored or said != _said(stored[new]):
            raise UsageError(f"key {request.key[:40]!r} was used for another correction of event {old}")


def _said(event: StoredEvent) -> tuple[object, ...]:
    return event.item, event.quantity_micro, event.duration_s, event.destination


async def _to_void(cur: Cursor, ids: Sequence[int]) -> list[StoredEvent]:
    """The events, by id, with billing kept off them until the transaction ends."""
    events = await read_events(cur, ids)
    missing = sorted(set(ids) - {event.id for event in events})
    if missing:
        raise UsageError(f"there is no event {missing[0]}")
    await keep_billing_off(cur, events)
    void = await first_void(cur, ids)
    if void is not None:
        raise UsageError(f"event {void} is void already: see `kopeck usage voids`")
    billed = await first_billed(cur, ids)
    if billed is not None:
        raise UsageError(_billed_words(billed))
    return events


def _billed_words(billed: BilledEvent) -> str:
    if billed.invoice is None:
        return (
            f"event {billed.event_id} is billed: it stands on a draft of run {billed.run_id} for order {billed.order}, "
            f"which is not issued yet; `kopeck bill void-review` takes a review back"
        )
    return (
        f"event {billed.event_id} is billed: it stands on invoice {billed.invoice} for order {billed.order}, which "
        f"never changes; `kopeck invoice credit {billed.invoice}` takes the money back"
    )


def _corrected(event: StoredEvent, said: Correction) -> StoredEvent:
    return StoredEvent(
        event.id,
        event.account_id,
        event.item if said.item is None else said.item,
        event.at,
        event.counts_at,
        event.quantity_micro if said.quantity_micro is None else said.quantity_micro,
        event.duration_s if said.duration_s is None else said.duration_s,
        event.destination if said.destination is None else said.destination,
    )


async def _check_meant(cur: Cursor, meant: Sequence[StoredEvent], ratable: Ratable) -> None:
    for event in meant:
        if not 0 <= event.quantity_micro <= MAX_QUANTITY_MICRO:
            raise UsageError(f"event {event.id}: the quantity is below zero or absurd")
        if not 0 <= event.duration_s <= MAX_DURATION_S:
            raise UsageError(f"event {event.id}: the duration is 0 to {MAX_DURATION_S} seconds")
        if len(event.destination) > 64 or not all("!" <= char <= "~" for char in event.destination):
            raise UsageError(f"event {event.id}: the destination is not up to 64 ASCII characters")
    unknown = await first_unknown_item(cur, (event.item for event in meant))
    if unknown is not None:
        raise UsageError(f"no catalogue has an item {unknown[:40]!r}")
    found = unratable(
        pa.array([event.item for event in meant]),
        np.array([event.quantity_micro for event in meant], np.int64),
        pa.array([event.destination for event in meant]),
        ratable,
    )
    for rows, words in (
        (found.broken_step, "the quantity is in no whole steps of the item"),
        (found.no_number, "the destination is no number of digits"),
        (found.no_rate, "no price of the item has a rate for the destination"),
    ):
        for place in np.flatnonzero(rows)[:1].tolist():
            raise UsageError(f"event {meant[place].id}: {words}")
