"""``kopeck schedule``: when jobs begin by themselves: what comes, what came, rules, working days.

Rules. A process of the role schedules decides (`kopeck serve schedules`; `kopeck run` starts one), one of the role jobs
does the jobs. Instants are shown by the clocks of the schedule's zone. What a person does to a schedule is in the audit
record.

Does not know: when a rule comes, what becomes of a missed run (billing.work.schedules), how it is told
(schedule_printout).
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import click

from billing.database.cursors import Cursor
from billing.work.schedules.instants import CLOCK_CHANGES, next_instants
from billing.work.schedules.records import (
    MAX_LATE_AFTER_S,
    MAX_NAMED,
    Missed,
    Overlap,
    Schedule,
    ScheduleError,
    ScheduleState,
    ScheduleTerms,
)
from billing.work.schedules.scheduler import plan_of
from billing.work.schedules.schedules import (
    COMING,
    add_schedule,
    change_schedule,
    checked_terms,
    coming_of,
    guessed_years,
    held_schedule,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    run_now,
    skip_instant,
    unskip_instant,
)
from billing.work.schedules.store import database_clock, find_schedule, last_runs, list_schedules, runs_of
from billing.work.schedules.working_days_store import read_working_days
from kopeck.cli.context import Context, pass_context, show_table
from kopeck.cli.output import AS_JSON, show_json
from kopeck.cli.system.schedule_printout import (
    HEADINGS,
    RUN_HEADINGS,
    guess_words,
    instant_words,
    list_row,
    run_json,
    run_row,
    schedule_json,
    schedule_lines,
)
from kopeck.cli.system.working_days import calendar
from kopeck.serve.jobs import KINDS
from ratingcore.bands import zone_of
from web.access.actors import Actor
from web.access.audit import record_as
from web.access.rights import Right

NAME = click.argument("name")
REASON = click.option("--reason", required=True, help="Why; it is kept and shown.")


@click.group()
def schedule() -> None:
    """When jobs begin by themselves. docs/schedules.md tells the rules."""


schedule.add_command(calendar)


class _Argument(click.ParamType):  # type: ignore[type-arg]
    """``NAME=VALUE``; the value is JSON where it is some, else text."""

    name = "argument"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Text to a name and a JSON value."""
        name, equals, text = str(value).partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{str(value)[:40]!r} is no NAME=VALUE, such as date={{date}} or review=true", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


def _terms_options(command: Any) -> Any:
    late = click.IntRange(1, MAX_LATE_AFTER_S // 60)
    for option in (
        click.option("--zone", help="Zone of the rule, an IANA name; else web.time_zone."),
        click.option("--argument", "arguments", multiple=True, type=_Argument(), metavar="NAME=VALUE",
                     help="For the job; {date}, {date-1}, {month} name the planned day. Several times."),
        click.option("--missed", type=click.Choice([rule.value for rule in Missed]),
                     help="Runs nobody was there for: skip them, once for all (the default), or each."),
        click.option("--missed-max", type=click.IntRange(1, MAX_NAMED), help="Of --missed each, the newest so many."),
        click.option("--late-after", "late_after_min", type=late,
                     help="Minutes after which a run was missed, else 10."),
        click.option("--overlap", type=click.Choice([rule.value for rule in Overlap]),
                     help="While a run is not over, the next one is skipped (the default) or queued."),
        click.option("--clock-change", type=click.Choice([change.replace("_", "-") for change in CLOCK_CHANGES]),
                     help="A time that clocks skip or show twice: once (the default), or as shown."),
        click.option("--stops-after", metavar="INSTANT", help="Last instant; without a zone, in the zone of the rule."),
        click.option("--note", help="For people: what it is for."),
    ):  # fmt: skip
        command = option(command)
    return command


@schedule.command("list")
@AS_JSON
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List schedules: the last run and its result, the next one, problems.

    Says on standard error when runs are due and no process decides about them.
    """

    async def work(cur: Cursor) -> Any:
        schedules = await list_schedules(cur)
        now_s, working_days = await database_clock(cur), await read_working_days(cur)
        comings = [await coming_of(cur, found, working_days, now_s) for found in schedules]
        return schedules, await last_runs(cur, [found.id for found in schedules]), comings, now_s

    schedules, lasts, comings, now_s = context.in_transaction(work)
    if as_json:
        pairs = zip(schedules, comings, strict=True)
        show_json([schedule_json(found, lasts.get(found.id), coming) for found, coming in pairs])
        return
    show_table(HEADINGS, [list_row(found, lasts.get(found.id)) for found in schedules])
    for found, coming in zip(schedules, comings, strict=True):
        if coming.guessed_years:
            click.echo(f"kopeck: {guess_words(found.name, coming.guessed_years)}", err=True)
    late = [found.name for found in schedules if found.is_late(now_s)]
    if late:
        click.echo(f"kopeck: late: {', '.join(late)}: is `kopeck serve schedules` running?", err=True)


@schedule.command()
@NAME
@click.option(
    "--runs", "count", type=click.IntRange(0, 1_000), default=10, show_default=True, help="Newest runs shown."
)
@AS_JSON
@pass_context
def show(context: Context, name: str, count: int, as_json: bool) -> None:
    """Tell everything of a schedule: its rule, the next instants, the last runs."""

    async def work(cur: Cursor) -> Any:
        found = await _found(cur, name)
        now_s, working_days = await database_clock(cur), await read_working_days(cur)
        runs = await runs_of(cur, found.id, limit=count) if count else []
        return found, await coming_of(cur, found, working_days, now_s), runs, now_s

    found, coming, runs, now_s = context.in_transaction(work)
    if as_json:
        last = next((run for run in runs if run.decision != "skipped"), None)
        show_json(schedule_json(found, last, coming) | {"runs": [run_json(run) for run in runs]})
        return
    for line in schedule_lines(found, coming, now_s):
        click.echo(line)
    if runs:
        show_table(RUN_HEADINGS, [run_row(run, found.terms.zone) for run in runs], right=("job",))


@schedule.command()
@NAME
@click.argument("kind")
@click.argument("rule", nargs=-1, required=True)
@click.option("--paused", is_flag=True, help="Plan nothing until it is resumed.")
@_terms_options
@pass_context
def add(context: Context, /, name: str, kind: str, rule: tuple[str, ...], paused: bool, **options: Any) -> None:
    """Begin jobs of a KIND by a RULE from now on.

    \b
    kopeck schedule add night-bills bill.run daily at 02:00 --argument 'date={date}'
    kopeck schedule add acts bill.run 'monthly on 1st working day at 09:00' --zone Europe/Moscow
    """
    zone = options["zone"] or context.settings.web.time_zone
    terms = _changed(ScheduleTerms(kind, " ".join(rule), zone), options | {"kind": None, "rule": None})
    state = ScheduleState.PAUSED if paused else ScheduleState.ON

    async def work(cur: Cursor, who: Actor) -> Any:
        added = await add_schedule(cur, database_clock, name, terms, who.name, kinds=KINDS, state=state)
        await record_as(cur, who, "schedule_added", "schedule", name, **_told(added.terms))
        return added, await coming_of(cur, added, await read_working_days(cur), await database_clock(cur))

    _tell_coming(*context.act(Right.SCHEDULES_MANAGE, work))


@schedule.command()
@NAME
@click.option("--kind", help="Kind of job.")
@click.option("--rule", help="Rule, as one argument.")
@_terms_options
@pass_context
def change(context: Context, /, name: str, **options: Any) -> None:
    """Change a schedule; what is not named stays.

    What comes next follows from the new rule alone. --argument replaces all arguments; --argument none= takes them
    away, --stops-after never lets it go on.
    """
    if all(value in (None, ()) for value in options.values()):
        raise click.UsageError("say what to change: --rule, --zone, --missed ...")

    async def work(cur: Cursor, who: Actor) -> Any:
        before = await held_schedule(cur, name)
        terms = _changed(before.terms, options)
        changed = await change_schedule(cur, database_clock, name, terms, who.name, kinds=KINDS)
        old, new = _told(before.terms), _told(changed.terms)
        differences = {key: [old[key], new[key]] for key in new if old[key] != new[key]}
        await record_as(cur, who, "schedule_changed", "schedule", name, changes=differences)
        return changed, await coming_of(cur, changed, await read_working_days(cur), await database_clock(cur))

    _tell_coming(*context.act(Right.SCHEDULES_MANAGE, work))


@schedule.command()
@click.argument("rule", nargs=-1, required=True)
@click.option("--zone", help="An IANA name; else web.time_zone.")
@click.option("--count", type=click.IntRange(1, 1_000), default=COMING, show_default=True, help="Instants shown.")
@pass_context
def preview(context: Context, rule: tuple[str, ...], zone: str | None, count: int) -> None:
    """Show when a RULE would come; nothing is changed."""
    terms = checked_terms(
        ScheduleTerms(next(iter(KINDS)), " ".join(rule), zone or context.settings.web.time_zone), KINDS
    )

    async def work(cur: Cursor) -> Any:
        return await read_working_days(cur), await database_clock(cur)

    working_days, now_s = context.in_transaction(work)
    instants = next_instants(plan_of(terms, working_days), now_s, count)
    click.echo(terms.rule)
    for instant in instants:
        click.echo(f"  {instant_words(instant, terms.zone)}")
    years = guessed_years(terms, working_days, now_s, instants)
    if years:
        click.echo(f"kopeck: {guess_words('this rule', years)}", err=True)


@schedule.command()
@NAME
@REASON
@pass_context
def pause(context: Context, name: str, reason: str) -> None:
    """Plan nothing until it is resumed; runs that are queued already go on."""

    async def work(cur: Cursor, who: Actor) -> bool:
        is_new = await pause_schedule(cur, database_clock, name, reason, who.name)
        if is_new:
            await record_as(cur, who, "schedule_paused", "schedule", name, note=reason)
        return is_new

    is_new = context.act(Right.SCHEDULES_MANAGE, work)
    click.echo(f"{name} is paused{'' if is_new else ' already'}")


@schedule.command()
@NAME
@pass_context
def resume(context: Context, name: str) -> None:
    """Plan again from now on; what came meanwhile is not made up."""

    async def work(cur: Cursor, who: Actor) -> tuple[bool, Schedule]:
        is_new = await resume_schedule(cur, database_clock, name, who.name)
        if is_new:
            await record_as(cur, who, "schedule_resumed", "schedule", name)
        return is_new, await held_schedule(cur, name)

    is_new, found = context.act(Right.SCHEDULES_MANAGE, work)
    coming = "" if found.next_s is None else f"; next {instant_words(found.next_s, found.terms.zone)}"
    click.echo(f"{name} is on{'' if is_new else ' already'}{coming}")


@schedule.command()
@NAME
@REASON
@pass_context
def remove(context: Context, name: str, reason: str) -> None:
    """Plan nothing more and give the name free; its runs are kept."""

    async def work(cur: Cursor, who: Actor) -> None:
        await remove_schedule(cur, database_clock, name, reason, who.name)
        await record_as(cur, who, "schedule_removed", "schedule", name, note=reason)

    context.act(Right.SCHEDULES_MANAGE, work)
    click.echo(f"{name} is removed")


@schedule.command()
@NAME
@click.option("--note", default="", help="Why; kept with the run.")
@pass_context
def run(context: Context, name: str, note: str) -> None:
    """Run a schedule's job now, beside its plan, also while it is paused."""
    key = secrets.token_urlsafe(16)

    async def work(cur: Cursor, who: Actor) -> int:
        job_id = await run_now(cur, database_clock, name, who.name, request_key=key, note=note)
        await record_as(cur, who, "schedule_run_asked", "schedule", name, job=job_id, note=note)
        return job_id

    job_id = context.act(Right.SCHEDULES_MANAGE, work)
    click.echo(f"job {job_id} is queued: `kopeck job show {job_id}` tells how it goes")


@schedule.command()
@NAME
@click.argument("instant", required=False)
@REASON
@pass_context
def skip(context: Context, name: str, instant: str | None, reason: str) -> None:
    """Let a coming INSTANT of the plan not run; without one, the next.

    An instant without an offset is by the clocks of the schedule's zone, such as 2026-12-31T02:00.
    """

    async def work(cur: Cursor, who: Actor) -> str:
        found = await held_schedule(cur, name)
        planned_s = await _instant_of(cur, found, instant)
        await skip_instant(cur, database_clock, name, planned_s, reason, who.name)
        words = instant_words(planned_s, found.terms.zone)
        await record_as(cur, who, "schedule_instant_skipped", "schedule", name, at=words, note=reason)
        return words

    click.echo(f"{name} does not run at {context.act(Right.SCHEDULES_MANAGE, work)}")


@schedule.command()
@NAME
@click.argument("instant")
@pass_context
def unskip(context: Context, name: str, instant: str) -> None:
    """Let a coming INSTANT that was skipped run after all."""

    async def work(cur: Cursor, who: Actor) -> str:
        found = await held_schedule(cur, name)
        planned_s = await _instant_of(cur, found, instant)
        await unskip_instant(cur, database_clock, name, planned_s)
        words = instant_words(planned_s, found.terms.zone)
        await record_as(cur, who, "schedule_instant_unskipped", "schedule", name, at=words)
        return words

    click.echo(f"{name} runs at {context.act(Right.SCHEDULES_MANAGE, work)}")


async def _found(cur: Cursor, name: str) -> Schedule:
    found = await find_schedule(cur, name)
    if found is None:
        raise ScheduleError(f"there is no schedule {name[:60]}", code="schedule_unknown", schedule=name)
    return found


async def _instant_of(cur: Cursor, found: Schedule, text: str | None) -> int:
    """A planned instant as it was typed; without one, the next that is not skipped."""
    if text is not None:
        return int(_instant(text, found.terms.zone).timestamp())
    coming = await coming_of(cur, found, await read_working_days(cur), await database_clock(cur))
    instant = next((at for at in coming.instants if at not in coming.skipped), None)
    if instant is None:
        raise ScheduleError(f"schedule {found.name} has no coming instant to skip: name one")
    return instant


def _instant(text: str, zone: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ScheduleError(f"{text[:40]!r} is no instant such as 2026-12-31T02:00") from None
    try:
        return moment if moment.tzinfo else moment.replace(tzinfo=zone_of(zone))
    except ValueError as error:
        raise ScheduleError(str(error), code="schedule_zone") from error


def _changed(terms: ScheduleTerms, options: Mapping[str, Any]) -> ScheduleTerms:
    """The terms with what was named on the command line."""
    named = {
        name: options[name] for name in ("kind", "rule", "zone", "note", "missed_max") if options[name] is not None
    }
    if options["missed"]:
        named["missed"] = Missed(options["missed"])
    if options["overlap"]:
        named["overlap"] = Overlap(options["overlap"])
    if options["clock_change"]:
        named["clock_change"] = options["clock_change"].replace("-", "_")
    if options["late_after_min"]:
        named["late_after_s"] = 60 * options["late_after_min"]
    if options["arguments"]:
        named["arguments"] = _arguments(options["arguments"])
    if options["stops_after"]:
        zone = named.get("zone", terms.zone)
        named["stops_after"] = None if options["stops_after"] == "never" else _instant(options["stops_after"], zone)
    return replace(terms, **named)


def _arguments(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    return {} if given == {"none": ""} else given


def _told(terms: ScheduleTerms) -> dict[str, Any]:
    """What a person set, for the audit record: JSON values."""
    told = asdict(terms)
    told |= {"missed": terms.missed.value, "overlap": terms.overlap.value}
    return told | {"stops_after": terms.stops_after.isoformat() if terms.stops_after else ""}


def _tell_coming(found: Schedule, coming: Any) -> None:
    state = "is on" if found.state is ScheduleState.ON else "is paused; resumed now, it would come"
    click.echo(f"{found.name}: {found.terms.rule} ({found.terms.zone}) {state}")
    for instant in coming.instants:
        click.echo(f"  {instant_words(instant, found.terms.zone)}")
    if coming.guessed_years:
        click.echo(f"kopeck: {guess_words(found.name, coming.guessed_years)}", err=True)
