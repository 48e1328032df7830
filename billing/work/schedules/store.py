"""Rows of schedules and of their runs.

Rules. Functions take the caller's cursor; instants travel as whole UTC seconds and are the caller's (scheduler.Clock),
so that one clock rules all that is written. A change of a schedule and a decision about it hold its row; the runs of a
schedule are written by the holder alone.

Does not know: which decision is right (decide), when instants are (instants).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.database.rows import named_rows
from billing.work.schedules.records import (
    SKIPS_BY_RULE,
    Missed,
    Overlap,
    RunDecision,
    RunReason,
    Schedule,
    ScheduleRun,
    ScheduleState,
    ScheduleTerms,
)

_TERMS: Final = tuple(field.name for field in fields(ScheduleTerms))
_COLUMNS: Final = f"""
    s.id, s.name, {", ".join(f"s.{name}" for name in _TERMS)}, s.state,
    extract(epoch FROM s.decided_until)::bigint AS decided_until_s, extract(epoch FROM s.next_at)::bigint AS next_s,
    s.problem, s.state_reason, s.version, s.created_at, s.changed_at, s.changed_by
"""
_CLOCK: Final = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint"

_BY_NAME: Final = f"SELECT {_COLUMNS} FROM schedules s WHERE s.name = %s AND s.state <> 'removed'"
_LIST: Final = f"SELECT {_COLUMNS} FROM schedules s WHERE s.state <> 'removed' ORDER BY s.name"
_HOLD_ALL: Final = f"{_LIST} FOR NO KEY UPDATE"
_INSERT: Final = """
    INSERT INTO schedules (name, kind, arguments, rule, zone, clock_change, missed, missed_max, late_after_s, overlap,
                           stops_after, note, state, state_reason, decided_until, next_at, changed_by)
    VALUES (%(name)s, %(kind)s, %(arguments)s::jsonb, %(rule)s, %(zone)s, %(clock_change)s, %(missed)s, %(missed_max)s,
            %(late_after_s)s, %(overlap)s, %(stops_after)s, %(note)s, %(state)s, %(state_reason)s,
            to_timestamp(%(decided_until_s)s), to_timestamp(%(next_s)s), %(actor)s)
    ON CONFLICT (name) WHERE state <> 'removed' DO NOTHING RETURNING id
"""
_CHANGE: Final = """
    UPDATE schedules SET kind = %(kind)s, arguments = %(arguments)s::jsonb, rule = %(rule)s, zone = %(zone)s,
           clock_change = %(clock_change)s, missed = %(missed)s, missed_max = %(missed_max)s,
           late_after_s = %(late_after_s)s, overlap = %(overlap)s, stops_after = %(stops_after)s, note = %(note)s,
           decided_until = to_timestamp(%(decided_until_s)s), next_at = to_timestamp(%(next_s)s), problem = '',
           version = version + 1, changed_at = now(), changed_by = %(actor)s
    WHERE id = %(id)s
"""
_PUT_STATE: Final = """
    UPDATE schedules SET state = %(state)s, state_reason = %(reason)s, problem = '',
           decided_until = to_timestamp(%(decided_until_s)s), next_at = to_timestamp(%(next_s)s),
           version = version + 1, changed_at = now(), changed_by = %(actor)s
    WHERE id = %(id)s
"""
_PUT_DECIDED: Final = """
    UPDATE schedules SET decided_until = to_timestamp(%(decided_until_s)s), next_at = to_timestamp(%(next_s)s)
    WHERE id = %(id)s
"""
_PUT_PROBLEM: Final = "UPDATE schedules SET problem = left(%(problem)s, 500), next_at = NULL WHERE id = %(id)s"

#: One that has something to decide, and that nobody else holds. Its clock may have gone back behind its last decision.
_PICK: Final = f"""
    SELECT {_COLUMNS} FROM schedules s
    WHERE s.state = 'on' AND s.problem = ''
      AND (s.next_at <= to_timestamp(%(now_s)s) OR s.decided_until > to_timestamp(%(now_s)s))
    ORDER BY s.next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_PICK_QUEUED: Final = f"""
    SELECT {_COLUMNS} FROM schedules s
    WHERE s.state = 'on' AND s.problem = ''
      AND EXISTS (SELECT FROM schedule_runs r WHERE r.schedule_id = s.id AND r.decision = 'queued'
                  AND r.planned_at <= to_timestamp(%(now_s)s))
      AND NOT EXISTS (SELECT FROM schedule_runs r JOIN jobs j ON j.id = r.job_id
                      WHERE r.schedule_id = s.id AND j.state IN ('queued', 'running'))
    ORDER BY s.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""
_LOAD: Final = """
    SELECT EXISTS (SELECT FROM schedule_runs r JOIN jobs j ON j.id = r.job_id
                   WHERE r.schedule_id = %(id)s AND j.state IN ('queued', 'running')),
           (SELECT count(*) FROM schedule_runs r WHERE r.schedule_id = %(id)s AND r.decision = 'queued')
"""
_DECIDED: Final = """
    SELECT extract(epoch FROM planned_at)::bigint FROM schedule_runs
    WHERE schedule_id = %(id)s AND origin = 'plan'
      AND planned_at > to_timestamp(%(after_s)s) AND planned_at <= to_timestamp(%(until_s)s)
"""
_ADD_RUN: Final = """
    INSERT INTO schedule_runs (schedule_id, planned_at, origin, decision, reason, stands_for, request_key, job_id,
                               decided_at, decided_by, note)
    VALUES (%(schedule_id)s, to_timestamp(%(planned_s)s), %(origin)s, %(decision)s, %(reason)s, %(stands_for)s,
            %(request_key)s, %(job_id)s, to_timestamp(%(now_s)s), %(by)s, %(note)s)
    ON CONFLICT DO NOTHING RETURNING id
"""
_OLDEST_QUEUED: Final = """
    SELECT id, extract(epoch FROM planned_at)::bigint FROM schedule_runs
    WHERE schedule_id = %s AND decision = 'queued' ORDER BY planned_at, id LIMIT 1
"""
_START_QUEUED: Final = "UPDATE schedule_runs SET decision = 'run', job_id = %(job_id)s WHERE id = %(id)s"
_TAKE_BACK: Final = """
    DELETE FROM schedule_runs
    WHERE schedule_id = %(id)s AND origin = 'plan' AND planned_at > to_timestamp(%(now_s)s)
      AND (decision = 'queued' OR (decision = 'skipped' AND reason = ANY(%(reasons)s)))
"""
_NEWEST_COUNTED: Final = """
    SELECT id, extract(epoch FROM planned_at)::bigint, stands_for FROM schedule_runs
    WHERE schedule_id = %s AND stands_for > 1 ORDER BY planned_at DESC LIMIT 1
"""
_PUT_COUNT: Final = "UPDATE schedule_runs SET stands_for = %(count)s WHERE id = %(id)s"

_UNSKIP: Final = """
    DELETE FROM schedule_runs
    WHERE schedule_id = %(id)s AND origin = 'plan' AND planned_at = to_timestamp(%(planned_s)s)
      AND decision = 'skipped' AND reason = 'asked' AND planned_at > to_timestamp(%(now_s)s)
    RETURNING id
"""
_BY_REQUEST: Final = "SELECT job_id FROM schedule_runs WHERE schedule_id = %s AND request_key = %s"

#: Jobs that are over; jobs that a person began again; jobs that were deleted before anybody looked.
_SETTLE: Final = """
    UPDATE schedule_runs r
    SET result = j.state, started_at = j.started_at, finished_at = j.finished_at, message = j.message
    FROM jobs j
    WHERE j.id = r.job_id AND j.finished_at IS NOT NULL AND r.id = ANY (ARRAY(
        SELECT id FROM schedule_runs WHERE decision = 'run' AND result IS NULL ORDER BY id FOR UPDATE SKIP LOCKED))
    RETURNING r.result
"""
_UNSETTLE: Final = """
    UPDATE schedule_runs r SET result = NULL, finished_at = NULL, message = ''
    FROM jobs j WHERE j.id = r.job_id AND j.state IN ('queued', 'running') AND r.result IS NOT NULL
"""
_LOSE: Final = """
    UPDATE schedule_runs r SET result = 'lost'
    WHERE r.decision = 'run' AND r.result IS NULL AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = r.job_id)
    RETURNING r.result
"""

_RUN_COLUMNS: Final = """
    r.id, r.schedule_id, r.planned_at, r.origin, r.decision, r.reason, r.stands_for, r.job_id, r.decided_at,
    r.decided_by, r.note,
    CASE WHEN j.finished_at IS NOT NULL THEN j.state WHEN j.id IS NOT NULL THEN NULL ELSE r.result END AS result,
    j.state AS job_state, coalesce(j.started_at, r.started_at) AS started_at,
    coalesce(j.finished_at, r.finished_at) AS finished_at, coalesce(j.message, r.message) AS message
"""
_RUNS: Final = f"""
    SELECT {_RUN_COLUMNS} FROM schedule_runs r LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.schedule_id = %(id)s AND (%(before)s::bigint IS NULL OR (r.planned_at, r.id) < (
        SELECT b.planned_at, b.id FROM schedule_runs b WHERE b.id = %(before)s))
    ORDER BY r.planned_at DESC, r.id DESC LIMIT %(limit)s
"""
#: By the zone's days, where the database knows the zone (migration 0016).
_DAY_RESULTS: Final = """
    SELECT r.schedule_id, (r.planned_at AT TIME ZONE zone_or_utc(s.zone))::date AS day,
           CASE WHEN r.decision = 'skipped' THEN 'skipped' WHEN r.decision = 'queued' THEN 'waiting'
                WHEN j.finished_at IS NOT NULL THEN j.state WHEN j.state = 'running' THEN 'running'
                WHEN j.id IS NOT NULL THEN 'waiting' ELSE coalesce(r.result, 'lost') END AS outcome,
           sum(r.stands_for)::bigint AS count
    FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.schedule_id = ANY(%(ids)s) AND r.planned_at >= to_timestamp(%(since_s)s)
      AND r.planned_at <= to_timestamp(%(until_s)s)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_LAST_RUNS: Final = f"""
    SELECT DISTINCT ON (r.schedule_id) {_RUN_COLUMNS}
    FROM schedule_runs r LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.schedule_id = ANY(%s) AND r.decision <> 'skipped'
    ORDER BY r.schedule_id, r.planned_at DESC, r.id DESC
"""
_STANDING: Final = """
    SELECT count(*) FILTER (WHERE state = 'on'),
           count(*) FILTER (WHERE state = 'on' AND problem <> ''),
           count(*) FILTER (WHERE state = 'on' AND next_at + make_interval(secs => late_after_s)
                                                   < to_timestamp(%(now_s)s)),
           (SELECT count(*) FROM schedule_runs WHERE decision = 'queued')
    FROM schedules WHERE state <> 'removed'
"""
_OFFERED: Final = "SELECT name FROM schedule_defaults"
_OFFER: Final = "INSERT INTO schedule_defaults (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING name"


@dataclass(frozen=True, slots=True)
class SchedulesStanding:
    """Counts for metrics. late: on, and not decided in time. queued: runs that wait for the one before them."""

    on: int
    with_problem: int
    late: int
    queued: int


async def database_clock(cur: Cursor) -> int:
    """The database's clock in whole UTC seconds: the one that rules, whatever the hosts' clocks show."""
    await cur.execute(_CLOCK)
    return int((await cur.fetchone())[0])


async def find_schedule(cur: Cursor, name: str, *, hold: bool = False) -> Schedule | None:
    """The schedule of a name, or None. hold: nobody else changes it or decides until the transaction ends."""
    await cur.execute(f"{_BY_NAME} FOR NO KEY UPDATE" if hold else _BY_NAME, (name,))
    return await _first(cur)


async def list_schedules(cur: Cursor, *, hold: bool = False) -> list[Schedule]:
    """All schedules by name."""
    await cur.execute(_HOLD_ALL if hold else _LIST)
    return [_schedule(row) for row in await named_rows(cur)]


async def insert_schedule(
    cur: Cursor, name: str, terms: ScheduleTerms, state: ScheduleState, reason: str, now_s: int, next_s: int | None,
    actor: str,
) -> int | None:  # fmt: skip
    """A new schedule that has decided everything up to now; None: the name is taken."""
    values = {"name": name, "state": state.value, "state_reason": reason, "decided_until_s": now_s, "next_s": next_s}
    await cur.execute(_INSERT, _values(terms) | values | {"actor": actor})
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def put_terms(
    cur: Cursor, schedule_id: int, terms: ScheduleTerms, now_s: int, next_s: int | None, actor: str
) -> None:
    """Replace what a person sets; everything up to now is decided, a problem is over."""
    values = {"id": schedule_id, "decided_until_s": now_s, "next_s": next_s, "actor": actor}
    await cur.execute(_CHANGE, _values(terms) | values)


async def put_state(
    cur: Cursor, schedule_id: int, state: ScheduleState, reason: str, now_s: int, next_s: int | None, actor: str
) -> None:
    """Pause, resume or remove; everything up to now is decided, a problem is over."""
    values = {"id": schedule_id, "state": state.value, "reason": reason, "decided_until_s": now_s, "next_s": next_s}
    await cur.execute(_PUT_STATE, values | {"actor": actor})


async def put_decided(cur: Cursor, schedule_id: int, decided_until_s: int, next_s: int | None) -> None:
    """What is decided, and what comes next."""
    await cur.execute(_PUT_DECIDED, {"id": schedule_id, "decided_until_s": decided_until_s, "next_s": next_s})


async def put_problem(cur: Cursor, schedule_id: int, problem: str) -> None:
    """Why a schedule decides nothing more until a person looks at it."""
    await cur.execute(_PUT_PROBLEM, {"id": schedule_id, "problem": problem})


async def pick_due(cur: Cursor, now_s: int) -> Schedule | None:
    """Hold a schedule that has something to decide; None: there is none, or others hold them all."""
    await cur.execute(_PICK, {"now_s": now_s})
    return await _first(cur)


async def pick_queued(cur: Cursor, now_s: int) -> Schedule | None:
    """Hold a schedule with a run that waits, whose instant has come, and none that is not over."""
    await cur.execute(_PICK_QUEUED, {"now_s": now_s})
    return await _first(cur)


async def load_of(cur: Cursor, schedule_id: int) -> tuple[bool, int]:
    """(whether a run is not over, how many runs wait for it)."""
    await cur.execute(_LOAD, {"id": schedule_id})
    is_busy, queued = await cur.fetchone()
    return bool(is_busy), int(queued)


async def decided_between(cur: Cursor, schedule_id: int, after_s: int, until_s: int) -> set[int]:
    """Planned instants in (after_s, until_s] that are decided already: a person skipped them, or a clock went back."""
    await cur.execute(_DECIDED, {"id": schedule_id, "after_s": after_s, "until_s": until_s})
    return {int(instant_s) for (instant_s,) in await cur.fetchall()}


async def add_run(
    cur: Cursor, schedule_id: int, decision: RunDecision, now_s: int, by: str, *, job_id: int | None = None,
    origin: str = "plan", request_key: str | None = None, note: str = "",
) -> int | None:  # fmt: skip
    """Write a decision; None: the instant, or the request, is decided already."""
    values = {
        "schedule_id": schedule_id, "planned_s": decision.planned_s, "origin": origin, "decision": decision.decision,
        "reason": decision.reason.value, "stands_for": decision.stands_for, "request_key": request_key,
        "job_id": job_id, "now_s": now_s, "by": by, "note": note,
    }  # fmt: skip
    await cur.execute(_ADD_RUN, values)
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def oldest_queued(cur: Cursor, schedule_id: int) -> tuple[int, int] | None:
    """(run id, planned instant) of the run that waits longest."""
    await cur.execute(_OLDEST_QUEUED, (schedule_id,))
    row = await cur.fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


async def start_queued(cur: Cursor, run_id: int, job_id: int) -> None:
    """The run waits no more: its job is queued."""
    await cur.execute(_START_QUEUED, {"id": run_id, "job_id": job_id})


async def take_back_future(cur: Cursor, schedule_id: int, now_s: int) -> int:
    """Delete what the rules decided about instants that have not come; how many. Runs and skips by a person stay."""
    reasons = [reason.value for reason in SKIPS_BY_RULE]
    await cur.execute(_TAKE_BACK, {"id": schedule_id, "now_s": now_s, "reasons": reasons})
    return cur.rowcount


async def newest_counted(cur: Cursor, schedule_id: int) -> tuple[int, int, int] | None:
    """(run id, first planned instant, how many) of the newest decision that stands for several instants."""
    await cur.execute(_NEWEST_COUNTED, (schedule_id,))
    row = await cur.fetchone()
    return None if row is None else (int(row[0]), int(row[1]), int(row[2]))


async def put_count(cur: Cursor, run_id: int, count: int) -> None:
    """How many instants a decision stands for after all."""
    await cur.execute(_PUT_COUNT, {"id": run_id, "count": count})


async def delete_skip(cur: Cursor, schedule_id: int, planned_s: int, now_s: int) -> bool:
    """Take back a person's skip of an instant that has not come; False: there is none."""
    await cur.execute(_UNSKIP, {"id": schedule_id, "planned_s": planned_s, "now_s": now_s})
    return await cur.fetchone() is not None


async def job_of_request(cur: Cursor, schedule_id: int, request_key: str) -> int | None:
    """The job of a run that was asked for by this key, or None."""
    await cur.execute(_BY_REQUEST, (schedule_id, request_key))
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def settle_runs(cur: Cursor) -> list[str]:
    """Copy how jobs ended into their runs; the results that are new."""
    await cur.execute(_UNSETTLE)
    await cur.execute(_SETTLE)
    results = [result for (result,) in await cur.fetchall()]
    await cur.execute(_LOSE)
    return results + [result for (result,) in await cur.fetchall()]


async def runs_of(cur: Cursor, schedule_id: int, *, before: int | None = None, limit: int = 50) -> list[ScheduleRun]:
    """Decisions of a schedule, newest instants first. before: those that follow this run in that order."""
    await cur.execute(_RUNS, {"id": schedule_id, "before": before, "limit": limit})
    return await _runs(cur)


async def day_results(
    cur: Cursor, schedule_ids: Collection[int], since_s: int, until_s: int
) -> dict[int, dict[date, dict[str, int]]]:
    """How many runs of each schedule came to which outcome, by the local day of their instant."""
    await cur.execute(_DAY_RESULTS, {"ids": list(schedule_ids), "since_s": since_s, "until_s": until_s})
    results: dict[int, dict[date, dict[str, int]]] = {schedule_id: {} for schedule_id in schedule_ids}
    for schedule_id, day, outcome, count in await cur.fetchall():
        results[schedule_id].setdefault(day, {})[outcome] = int(count)
    return results


async def last_runs(cur: Cursor, schedule_ids: Collection[int]) -> dict[int, ScheduleRun]:
    """The newest run of each schedule that was not skipped."""
    await cur.execute(_LAST_RUNS, (list(schedule_ids),))
    return {run.schedule_id: run for run in await _runs(cur)}


async def standing(cur: Cursor, now_s: int) -> SchedulesStanding:
    """How the schedules stand, for metrics."""
    await cur.execute(_STANDING, {"now_s": now_s})
    return SchedulesStanding(*(int(count) for count in await cur.fetchone()))


async def offered_defaults(cur: Cursor) -> set[str]:
    """Schedules of the program that were offered before."""
    await cur.execute(_OFFERED)
    return {name for (name,) in await cur.fetchall()}


async def mark_offered(cur: Cursor, name: str) -> bool:
    """Note that a schedule of the program is offered now; False: it was before."""
    await cur.execute(_OFFER, (name,))
    return await cur.fetchone() is not None


async def _first(cur: Cursor) -> Schedule | None:
    rows = await named_rows(cur)
    return _schedule(rows[0]) if rows else None


def _schedule(row: dict[str, Any]) -> Schedule:
    terms = {name: row.pop(name) for name in _TERMS}
    terms |= {"missed": Missed(terms["missed"]), "overlap": Overlap(terms["overlap"])}
    return Schedule(**row | {"terms": ScheduleTerms(**terms), "state": ScheduleState(row["state"])})


def _values(terms: ScheduleTerms) -> dict[str, Any]:
    values = {name: getattr(terms, name) for name in _TERMS}
    values["arguments"] = json.dumps(dict(terms.arguments), ensure_ascii=False)
    return values | {"missed": terms.missed.value, "overlap": terms.overlap.value}


async def _runs(cur: Cursor) -> list[ScheduleRun]:
    return [ScheduleRun(**row | {"reason": RunReason(row["reason"])}) for row in await named_rows(cur)]
