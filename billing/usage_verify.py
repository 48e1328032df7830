"""Usage on a live database: every event is kept once, where it belongs, and imports account for all their lines.

Rules. As in billing.verify: nothing written, PostgreSQL does the adding. Events and their imports are counted in one
snapshot, for they are compared. These are checks
of truth 6, for what is not kept once cannot be billed once. Months that were detached and archived (docs/usage.md) are
no difference: their keys stay, and how many those are is told.

Does not know: whether events were billed, how a report is printed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from billing.verify import Guard, check_guards, count
from billing.verify_records import MAX_LISTED, Check, check_of
from billing.verify_slices import Say, silent, snapshot

TRUTH: Final = 6

GUARDS: Final = (
    Guard("usage_keys", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("usage_events", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("usage_rejects", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
)

#: Keys without event and events without key; a key of a month that has no partition is one of an archived month.
_APART: Final = """
    WITH months AS (
        SELECT right(c.relname, 6) AS month FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'usage_events'::regclass
    ), apart AS MATERIALIZED (
        SELECT k.key, k.usage_id, e.id, coalesce(k.counts_at, e.counts_at) AS counts_at
        FROM usage_keys k FULL JOIN usage_events e ON e.id = k.usage_id AND e.counts_at = k.counts_at
        WHERE k.usage_id IS NULL OR e.id IS NULL
    ), judged AS (
        SELECT key, usage_id, id, counts_at,
               id IS NULL AND to_char(counts_at AT TIME ZONE 'UTC', 'YYYYMM') NOT IN (SELECT month FROM months)
                   AS is_archived
        FROM apart
    )
    SELECT is_archived, key, usage_id, id, counts_at, count(*) FILTER (WHERE is_archived) OVER (),
           count(*) FILTER (WHERE NOT is_archived AND id IS NULL) OVER (), count(id) OVER ()
    FROM judged ORDER BY is_archived, counts_at, coalesce(id, usage_id) LIMIT %(limit)s
"""

_SLICES: Final = """
    SELECT tableoid::regclass::text, import_id, count(*), count(*) FILTER (WHERE counts_at > at),
           count(*) FILTER (WHERE counts_at < at), min(counts_at), max(counts_at)
    FROM usage_events GROUP BY tableoid, import_id
"""

_IMPORTS: Final = """
    SELECT i.id, i.state, i.lines_count, i.accepted_count, i.repeated_count, i.rejected_count, i.late_count,
           coalesce(r.kept, 0)
    FROM usage_imports i
    LEFT JOIN (SELECT import_id, count(*) AS kept FROM usage_rejects GROUP BY import_id) r ON r.import_id = i.id
    ORDER BY i.id
"""

#: A blank line among corrected ones is no line, so an import of rejects may have fewer lines than it had rejects.
_REFED: Final = """
    SELECT r.refed_import_id, r.import_id, count(*), i.refeeds_id, i.lines_count, i.state
    FROM usage_rejects r LEFT JOIN usage_imports i ON i.id = r.refed_import_id
    WHERE r.state = 'refed'
    GROUP BY r.refed_import_id, r.import_id, i.refeeds_id, i.lines_count, i.state
    HAVING i.refeeds_id IS DISTINCT FROM r.import_id OR i.state <> 'done' OR i.lines_count > count(*)
    ORDER BY r.refed_import_id
"""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Events of one import in one partition. early: those that count before they happened, which nothing may."""

    partition: str
    import_id: int
    events: int
    late: int
    early: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class _Import:
    id: int
    state: str
    lines: int
    accepted: int
    repeated: int
    rejected: int
    late: int
    kept_rejects: int


async def verify_usage(cur: Any, say: Say = silent) -> list[Check]:
    """Every check of usage.

    Args:
        cur: aiopg cursor, in no transaction.
    """
    say("usage", 0, None)
    async with snapshot(cur):
        await cur.execute(_SLICES)
        slices = [_Slice(*row) for row in await cur.fetchall()]
        keys, archived = await _check_keys(cur, sum(one.events for one in slices))
        imports = await _check_imports(cur, slices, archived)
    return [keys, _check_months(slices), imports, await _check_refed(cur), await check_guards(cur, TRUTH, GUARDS)]


async def _check_keys(cur: Any, events: int) -> tuple[Check, int]:
    """The check, and how many keys are of archived months."""
    keys = await count(cur, "usage_keys")
    await cur.execute(_APART, {"limit": MAX_LISTED})
    rows = await cur.fetchall()
    archived, without_event, without_key = (int(number) for number in rows[0][-3:]) if rows else (0, 0, 0)
    found = [_apart(*row[1:5]) for row in rows if not row[0]]
    shared = keys - archived - without_event - (events - without_key)
    if shared > 0:
        found.append(f"{shared} keys share an event with another key")
    note = f"{archived} keys are of months that were archived" if archived else ""
    checked = check_of(TRUTH, "each usage key has its event and each event its key", events, "events", found, note)
    differing = without_event + without_key + max(0, shared)
    return Check(TRUTH, checked.name, events, "events", differing, checked.findings, note), archived


def _apart(key: str | None, usage_id: int | None, event_id: int | None, counts_at: datetime) -> str:
    if key is None:
        return f"event {event_id} of {counts_at:%Y-%m-%d} has no key"
    return f"key {key[:80]!r} has no event {usage_id} of {counts_at:%Y-%m-%d}"


def _check_months(slices: Sequence[_Slice]) -> Check:
    found = [fault for one in slices for fault in _misplaced(one)]
    events = sum(one.events for one in slices)
    return check_of(TRUTH, "each event lies in the month it counts in", events, "events", found)


def _misplaced(one: _Slice) -> Iterator[str]:
    whose = f"{one.partition}, import {one.import_id}"
    if one.early:
        yield f"{whose}: {one.early} events count before they happened"
    for at in {one.first_at, one.last_at}:
        if not one.partition.endswith(f"_{at.astimezone(UTC):%Y%m}"):
            yield f"{whose}: an event counts at {at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


async def _check_imports(cur: Any, slices: Iterable[_Slice], archived: int) -> Check:
    await cur.execute(_IMPORTS)
    imports = [_Import(*row) for row in await cur.fetchall()]
    stored: dict[int, tuple[int, int]] = {}
    for one in slices:
        events, late = stored.get(one.import_id, (0, 0))
        stored[one.import_id] = events + one.events, late + one.late
    missing = sum(one.accepted - stored.get(one.id, (0, 0))[0] for one in imports if one.state == "done")
    is_archive = archived > 0 and missing == archived
    found = [fault for one in imports for fault in _miscounted(one, *stored.pop(one.id, (0, 0)), is_archive)]
    found += [f"{events} events are of import {id_}, which is not there" for id_, (events, _) in stored.items()]
    note = "events of archived months are not counted" if is_archive else ""
    return check_of(TRUTH, "imports account for every line, event and reject", len(imports), "imports", found, note)


def _miscounted(one: _Import, events: int, late: int, is_archive: bool) -> Iterator[str]:
    if one.state != "done":
        if events or one.kept_rejects:
            yield f"import {one.id} is {one.state} and has {events} events and {one.kept_rejects} rejects"
        return
    if one.lines != one.accepted + one.repeated + one.rejected:
        parts = f"{one.accepted} accepted, {one.repeated} repeated, {one.rejected} rejected"
        yield f"import {one.id}: {one.lines} lines, but {parts}"
    if one.rejected != one.kept_rejects:
        yield f"import {one.id}: {one.rejected} lines rejected, {one.kept_rejects} kept"
    for what, told, has in (("accepted", one.accepted, events), ("late", one.late, late)):
        if told < has or (told > has and not is_archive):
            yield f"import {one.id}: {told} lines {what}, {has} such events"


async def _check_refed(cur: Any) -> Check:
    examined = await count(cur, "usage_rejects")
    await cur.execute(_REFED)
    found = [
        f"{rejects} rejects of import {first} were fed again by import {by}, which is {state or 'not there'}, "
        f"of {lines} lines and of rejects of import {of}"
        for by, first, rejects, of, lines, state in await cur.fetchall()
    ]
    return check_of(TRUTH, "rejects that were fed again are lines of an import", examined, "rejects", found)
