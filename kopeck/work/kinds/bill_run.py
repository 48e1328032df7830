"""bill.run, bill.resume: a billing run in the background; the work of `kopeck bill run` and `kopeck bill resume`.

Rules. The run's number is saved as soon as there is one, so another attempt goes on with the run and plans no second
one; what an attempt that was killed just before that had planned is found by its date, kind and actor. Asked to stop,
the shards under way are finished, and the run stays under way. A run that is not complete, because shards failed or
workers were lost, is tried again after a pause.

Does not know: how a run is done (billing.cycle.run).
"""

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from billing.cycle.plan import NewRun
from billing.cycle.posting import CycleRefused
from billing.cycle.run import Crew, RunResult, go_on, run_under_way, start_run, summary_of
from billing.cycle.shard import ShardDone
from billing.refusals import Refusal, Unavailable
from billing.work.jobs import JobCancelled
from kopeck.cli.billing.bill_printout import outcome_lines, summary_json
from kopeck.work.context import ChildContext

#: Of a run's summary, what a job's result holds: figures without lists that may be long.
_FIGURES: Final = (
    "run", "date", "kind", "state", "account", "payers", "orders", "periods", "invoices", "lines", "money", "failures",
)  # fmt: skip
_UNDER_WAY: Final = ("running", "approving")


def run_bill(context: ChildContext) -> Mapping[str, Any]:
    """Bill what is due on a date.

    arguments: date (ISO; without one the day of the first attempt, in web.time_zone), review, account, ahead, workers.
    """
    given = context.arguments
    saved = context.saved or {}
    run_id = saved.get("run")
    if run_id is None:
        day = date.fromisoformat(saved.get("date") or given.get("date") or _today(context).isoformat())
        _require_past(day, bool(given.get("ahead")))
        context.save({"date": day.isoformat()})
        kind = "review" if given.get("review") else "post"
        shard_payers = context.settings.billing.shard_payers
        new = NewRun(day, kind, context.asked_by, str(given.get("account", "")), shard_payers)
        run_id = _planned(context, new)
        context.save({"date": day.isoformat(), "run": run_id})
    return _go_on(context, int(run_id), leave_failed=False)


def resume_bill(context: ChildContext) -> Mapping[str, Any]:
    """Go on with the run that is under way. arguments: leave_failed, workers."""
    run_id = (context.saved or {}).get("run") or run_under_way(context.dsn)
    if run_id is None:
        raise CycleRefused("no run is under way: see `kopeck bill status`")
    context.save({"run": run_id})
    return _go_on(context, int(run_id), leave_failed=bool(context.arguments.get("leave_failed")))


def _today(context: ChildContext) -> date:
    return datetime.now(ZoneInfo(context.settings.web.time_zone)).date()


def _require_past(day: date, ahead: bool) -> None:
    if day > datetime.now(UTC).date() + timedelta(days=1) and not ahead:
        raise Refusal(f"{day} has not come yet, and usage up to it would be closed for good")


def _planned(context: ChildContext, new: NewRun) -> int:
    """A run of this job: planned now, or by an attempt that was killed before it could save the number."""
    if context.attempt > 1:
        standing = run_under_way(context.dsn)
        if standing is not None:
            summary = summary_of(context.dsn, standing)
            terms = (summary.bill_on, summary.kind, summary.actor, summary.account)
            if terms == (new.bill_on, new.kind, new.actor, new.account):
                return standing
    return start_run(context.dsn, new)


def _go_on(context: ChildContext, run_id: int, *, leave_failed: bool) -> Mapping[str, Any]:
    summary = summary_of(context.dsn, run_id)
    if summary.state not in _UNDER_WAY:  # an attempt that was killed after its last deed
        return _result(summary_json(summary), summary.failures)
    context.log(f"run {run_id} of {summary.bill_on}")
    begun, done = time.monotonic(), 0

    def progress(total: int, _shard: ShardDone) -> None:
        nonlocal done
        done += 1
        context.progress(done, total, "shards")

    crew = Crew(int(context.arguments.get("workers") or 0), "", float(context.settings.billing.reconnect_limit_s))
    outcome = go_on(context.dsn, run_id, crew, progress, lambda: context.is_cancelled, leave_failed=leave_failed)
    for line in outcome_lines(outcome, time.monotonic() - begun):
        context.log(line)
    return _judged(outcome)


def _judged(outcome: RunResult) -> Mapping[str, Any]:
    summary = outcome.summary
    if summary.state in _UNDER_WAY:
        if outcome.stopped:
            raise JobCancelled(f"run {summary.run_id} is under way still: `kopeck bill resume` goes on with it")
        raise Unavailable(f"run {summary.run_id} is not complete: {summary.failed} shards failed")
    if outcome.reconciled is not None and not outcome.reconciled.agrees:
        raise Refusal(f"run {summary.run_id} does not reconcile: its log says what differs")
    return _result(summary_json(summary), summary.failures)


def _result(told: Mapping[str, Any], failures: int) -> Mapping[str, Any]:
    figures = {name: told[name] for name in _FIGURES}
    return figures | ({"attention": "failures"} if failures else {})
