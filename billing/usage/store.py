"""What people ask about usage: imports, rejects, what is closed. Bulk loading is in usage_bulk.

Rules. A reject is never deleted: it is open until its line is fed again or a person gives it up and says why.

Does not know: how a line is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.refusals import Refusal

PAGE_MAX: Final = 100_000


class UsageError(Refusal):
    """What was asked of usage cannot be."""

    default_code = "usage_refused"


@dataclass(frozen=True, slots=True)
class Import:
    """An import's record; open_rejects: those nobody has dealt with."""

    id: int
    source: str
    format_name: str
    file_name: str
    state: str
    failure: str | None
    lines: int
    accepted: int
    repeated: int
    rejected: int
    late: int
    open_rejects: int
    started_at: datetime
    finished_at: datetime | None
    refeeds_id: int | None


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """By what an import's lines were read: the format file of that time, and the file's header line."""

    source: str
    format_name: str
    format_text: str
    header: str
    late: str


@dataclass(frozen=True, slots=True)
class KeptReject:
    """A rejected line as it is kept."""

    id: int
    import_id: int
    line: int
    reason: str
    detail: str
    raw: bytes
    raw_is_cut: bool
    state: str


_IMPORTS: Final = """
    SELECT i.id, s.name, i.format_name, i.file_name, i.state, i.failure, i.lines_count, i.accepted_count,
           i.repeated_count, i.rejected_count, i.late_count,
           (SELECT count(*) FROM usage_rejects r WHERE r.import_id = i.id AND r.state = 'open'),
           i.started_at, i.finished_at, i.refeeds_id
    FROM usage_imports i JOIN usage_sources s ON s.id = i.source_id
    ORDER BY i.id DESC LIMIT %s
"""

_FORMAT: Final = """
    SELECT s.name, i.format_name, i.format_text, coalesce(i.header, ''), i.late
    FROM usage_imports i JOIN usage_sources s ON s.id = i.source_id
    WHERE i.id = %s
"""

_REJECTS: Final = """
    SELECT id, import_id, line, reason, detail, raw, raw_is_cut, state FROM usage_rejects
    WHERE import_id = %(import_id)s AND state = %(state)s AND line > %(after_line)s
    ORDER BY line LIMIT %(limit)s
"""

_REASONS: Final = """
    SELECT reason, count(*) FROM usage_rejects WHERE import_id = %s AND state = 'open'
    GROUP BY reason ORDER BY 2 DESC, 1
"""

_DROP: Final = """
    UPDATE usage_rejects SET state = 'dropped', dropped_why = %(why)s, actor = %(actor)s, changed_at = now()
    WHERE import_id = %(import_id)s AND state = 'open' AND (%(all)s OR id = ANY (%(ids)s::bigint[]))
"""


async def list_imports(cur: Cursor, limit: int) -> list[Import]:
    """The newest imports, newest first."""
    await cur.execute(_IMPORTS, (min(limit, PAGE_MAX),))
    return [Import(*row) for row in await cur.fetchall()]


async def import_format(cur: Cursor, import_id: int) -> ImportFormat:
    """By what an import was read.

    Raises:
        UsageError: no such import.
    """
    await cur.execute(_FORMAT, (import_id,))
    row = await cur.fetchone()
    if row is None:
        raise UsageError(f"there is no import {import_id}")
    return ImportFormat(*row)


async def list_rejects(
    cur: Cursor, import_id: int, state: str = "open", limit: int = PAGE_MAX, after_line: int = 0
) -> list[KeptReject]:
    """Rejects of an import in order of their lines, those after ``after_line``."""
    asked = {"import_id": import_id, "state": state, "limit": min(limit, PAGE_MAX), "after_line": after_line}
    await cur.execute(_REJECTS, asked)
    rows = [(*row[:5], bytes(row[5]), *row[6:]) for row in await cur.fetchall()]
    return [KeptReject(*row) for row in rows]


async def count_reasons(cur: Cursor, import_id: int) -> list[tuple[str, int]]:
    """How many open rejects an import has for each reason, most first."""
    await cur.execute(_REASONS, (import_id,))
    return [(str(reason), int(count)) for reason, count in await cur.fetchall()]


async def drop_rejects(cur: Cursor, import_id: int, ids: Sequence[int] | None, why: str, actor: str) -> int:
    """Give up open rejects of an import, those with these ids or all; returns how many.

    Raises:
        UsageError: no reason given, or an id that is no open reject of this import.
    """
    if not why.strip():
        raise UsageError("say why these lines are given up")
    asked = {"import_id": import_id, "ids": list(ids or []), "all": ids is None, "why": why.strip(), "actor": actor}
    await cur.execute(_DROP, asked)
    dropped = int(cur.rowcount)
    if ids is not None and dropped != len(set(ids)):
        raise UsageError(f"{len(set(ids)) - dropped} of these are no open rejects of import {import_id}")
    return dropped
