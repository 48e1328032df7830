"""Schedules that come with the program: offered to an installation once each, so that one that is removed stays so.

Rules. What moves money, changes orders or deletes what people may still look for is offered paused: a person resumes it
when the installation is ready. What only looks or tidies up is on. Their zone is that of the pages (web.time_zone). A
schedule whose kind of job this version does not have is not offered.

Does not know: how the jobs do their work.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, NamedTuple

from billing.database.cursors import Cursor
from billing.language import N_
from billing.work.schedules.records import Missed, ScheduleState, ScheduleTerms
from billing.work.schedules.scheduler import Clock
from billing.work.schedules.schedules import add_schedule
from billing.work.schedules.store import find_schedule, mark_offered, offered_defaults

_ACTOR: Final = "system:defaults"


class DefaultSchedule(NamedTuple):
    """A schedule of the program; the zone of its terms is put in when it is offered."""

    name: str
    terms: ScheduleTerms
    state: ScheduleState


DEFAULTS: Final = (
    DefaultSchedule(
        "daily-bills",
        ScheduleTerms(
            "bill.run",
            "daily at 02:00",
            "",
            {"date": "{date}"},
            note=N_("Bills what is due on the day; what was billed is never billed again."),
        ),
        ScheduleState.PAUSED,
    ),
    DefaultSchedule(
        "dunning",
        ScheduleTerms(
            "dunning.run",
            "working days at 10:00",
            "",
            note=N_("Reminds, warns, suspends and cancels by the steps of dunning."),
        ),
        ScheduleState.PAUSED,
    ),
    DefaultSchedule(
        "old-attempts",
        ScheduleTerms(
            "attempts.forget",
            "daily at 04:00",
            "",
            missed=Missed.SKIP,
            note=N_("Deletes calls that changed no payment, by age (gateway.attempts_keep_days)."),
        ),
        ScheduleState.PAUSED,
    ),
    DefaultSchedule(
        "old-sessions",
        ScheduleTerms(
            "sessions.forget",
            "daily at 04:30",
            "",
            missed=Missed.SKIP,
            note=N_("Deletes sign-ins that have expired and counts of wrong tries that mean nothing any more."),
        ),
        ScheduleState.ON,
    ),
    DefaultSchedule(
        "verify",
        ScheduleTerms(
            "verify",
            "daily at 05:00",
            "",
            missed=Missed.SKIP,
            note=N_("Checks that money, usage, invoices and the journal agree."),
        ),
        ScheduleState.ON,
    ),
)


async def offer_defaults(cur: Cursor, clock: Clock, zone: str, kinds: Collection[str]) -> list[str]:
    """Add the schedules of the program that this installation was never offered; their names.

    A schedule of a person that has the name already stays as it is.
    """
    offered = await offered_defaults(cur)
    added = []
    for default in DEFAULTS:
        if default.name in offered or default.terms.kind not in kinds:
            continue
        if not await mark_offered(cur, default.name) or await find_schedule(cur, default.name) is not None:
            continue
        terms = replace(default.terms, zone=zone)
        await add_schedule(cur, clock, default.name, terms, _ACTOR, kinds=kinds, state=default.state)
        added.append(default.name)
    return added
