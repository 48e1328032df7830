"""``kopeck bill``: the billing cycle: run it, look at it, go on with it, approve or void a review.

Rules. Status 0: everything was billed; 1: done, but something failed, or the run was stopped or hindered; 2: refused,
nothing was changed. Progress goes to the terminal, results to standard output.

Does not know: how a run is done (billing.cycle.run), how it is told (kopeck.cli.billing.bill_printout).
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from billing.cycle.plan import NewRun
from billing.cycle.posting import CycleRefused
from billing.cycle.run import Crew, RunResult, go_on, newest, run_under_way, start_run, summary_of
from billing.cycle.run import abandon as abandon_run
from billing.cycle.run import approve as approve_run
from billing.cycle.run import void_review as void_run
from billing.cycle.shard import ShardDone
from billing.cycle.workers import WorkersLost
from billing.database.link import CycleStoreError
from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.billing.bill_printout import outcome_json, outcome_lines, summary_json, summary_lines
from kopeck.cli.context import Context, Day, pass_context, show_table, shown_time
from kopeck.databases.transactions import CommandFailed
from web.access.rights import Right

_STOPPED = 130


@click.group()
def bill() -> None:
    """The billing cycle: orders become invoices. docs/operators.md says how to run it."""


def _crew_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words."),
        click.option("--dask", metavar="ADDRESS", default="", help="Scheduler of a Dask cluster that does the shards."),
        click.option("--workers", type=click.IntRange(1, 256), help="Processes of this machine; else one a core."),
    ):
        command = option(command)
    return command


@bill.command()
@click.option("--date", "bill_on", type=Day(), required=True, help="Bills what is due when it begins.")
@click.option("--review", is_flag=True, help="Drafts only, for a person to approve or void.")
@click.option("--account", default="", metavar="NUMBER", help="One paying account instead of all.")
@click.option("--ahead", is_flag=True, help="Allow a date that has not come yet; usage is closed up to it.")
@BACKGROUND
@_crew_options
@pass_context
def run(
    context: Context,
    bill_on: datetime,
    review: bool,
    account: str,
    ahead: bool,
    background: bool,
    workers: int | None,
    dask: str,
    as_json: bool,
) -> None:
    """Bill everything that is due on a date: invoices, transfers, numbers.

    What a run was stopped at, `kopeck bill resume` goes on with. What was billed before is never billed again.
    """
    day = bill_on.date()
    _check_date(day, ahead)
    if background:
        wanted = {"date": day.isoformat(), "review": review, "account": account, "ahead": ahead, "workers": workers}
        _queue(context, "bill.run", wanted, dask, as_json)
        return
    with context.stores() as stores:
        new = NewRun(
            day,
            "review" if review else "post",
            context.actor(stores, Right.RUNS_MANAGE).name,
            account,
            context.settings.billing.shard_payers,
        )
        crew = _crew(context, workers, dask)
        _go_on(stores.dsn, start_run(stores.dsn, new), crew, as_json)


def _queue(context: Context, kind: str, arguments: dict[str, Any], dask: str, as_json: bool) -> None:
    if dask:
        raise click.UsageError("--dask is for a run in the foreground; a job's shards are done where the job is")
    queue_job(
        context, Right.RUNS_MANAGE, kind, {name: value for name, value in arguments.items() if value}, as_json=as_json
    )


def _check_date(day: date, ahead: bool) -> None:
    if day > datetime.now(UTC).date() + timedelta(days=1) and not ahead:
        raise click.UsageError(
            f"{day} has not come yet, and usage up to it would be closed for good: --ahead if that is meant"
        )


@bill.command()
@click.option("--leave-failed", is_flag=True, help="Finish without shards that fail; what is in them stays due.")
@BACKGROUND
@_crew_options
@pass_context
def resume(
    context: Context, leave_failed: bool, background: bool, workers: int | None, dask: str, as_json: bool
) -> None:
    """Go on with the run that was stopped, whatever stopped it; shards that failed are tried again."""
    if background:
        _queue(context, "bill.resume", {"leave_failed": leave_failed, "workers": workers}, dask, as_json)
        return
    with context.stores() as stores:
        context.actor(stores, Right.RUNS_MANAGE)
        _go_on(stores.dsn, _under_way(stores.dsn), _crew(context, workers, dask), as_json, leave_failed)


@bill.command()
@click.argument("run_id", metavar="[RUN]", type=int, required=False)
@_crew_options
@pass_context
def approve(context: Context, run_id: int | None, workers: int | None, dask: str, as_json: bool) -> None:
    """Post the drafts of a review, precisely as they are, and number them.

    Refused while a prepaid account cannot bear its invoice any more.
    """
    with context.stores() as stores:
        who = context.actor(stores, Right.RUNS_MANAGE)
        number = _under_way(stores.dsn) if run_id is None else run_id
        approve_run(stores.dsn, number, who.name)
        _go_on(stores.dsn, number, _crew(context, workers, dask), as_json)


@bill.command()
@click.argument("run_id", metavar="[RUN]", type=int, required=False)
@click.option("--why", required=True, help="Why it is given up; kept with the run.")
@pass_context
def abandon(context: Context, run_id: int | None, why: str) -> None:
    """Give up what is left of a run that cannot be completed.

    Shards that are done stay billed, and their invoices are numbered without a gap and issued. What is in the others is
    due again, for the next run. A review is voided instead.
    """
    with context.stores() as stores:
        who = context.actor(stores, Right.RUNS_MANAGE)
        number = _under_way(stores.dsn) if run_id is None else run_id
        summary = abandon_run(stores.dsn, number, who.name, why)
    for line in summary_lines(summary):
        click.echo(line)


@bill.command("void-review")
@click.argument("run_id", metavar="[RUN]", type=int, required=False)
@pass_context
def void_review(context: Context, run_id: int | None) -> None:
    """Delete the drafts of a review; what they billed is due again."""
    with context.stores() as stores:
        context.actor(stores, Right.RUNS_MANAGE)
        number = _under_way(stores.dsn) if run_id is None else run_id
        void_run(stores.dsn, number)
    click.echo(f"run {number} is void; what it drafted is due again")


@bill.command()
@click.argument("run_id", metavar="[RUN]", type=int, required=False)
@click.option("--limit", type=click.IntRange(1, 1_000), default=12, show_default=True, help="Newest runs shown.")
@click.option("--json", "as_json", is_flag=True, help="Integers for programs instead of words.")
@pass_context
def status(context: Context, run_id: int | None, limit: int, as_json: bool) -> None:
    """List runs, newest first, or tell everything of one RUN."""
    with context.stores() as stores:
        found = newest(stores.dsn, limit) if run_id is None else [summary_of(stores.dsn, run_id)]
    if as_json:
        told = [summary_json(one) for one in found]
        click.echo(json.dumps(told if run_id is None else told[0], ensure_ascii=False, indent=1))
        return
    if run_id is not None:
        for line in summary_lines(found[0]):
            click.echo(line)
        return
    rows = [
        (
            str(one.run_id),
            one.bill_on.isoformat(),
            one.kind,
            one.state,
            f"{one.drafted + one.posted}/{one.due + one.drafted + one.posted + one.failed}",
            str(one.invoices),
            str(one.failures),
            shown_time(one.started_at),
            shown_time(one.finished_at),
            one.actor,
        )
        for one in found
    ]
    right = ("run", "shards", "invoices", "failures")
    show_table(("run", "date", "kind", "state", *right[1:], "started", "finished", "by"), rows, right=right)


def _crew(context: Context, workers: int | None, dask: str) -> Crew:
    if workers and dask:
        raise click.UsageError("--workers are processes of this machine; with --dask the cluster has its own")
    if dask and find_spec("distributed") is None:
        raise click.UsageError("--dask needs Dask: pip install 'kopeck[dask]'")
    return Crew(workers or 0, dask, float(context.settings.billing.reconnect_limit_s))


def _under_way(dsn: str) -> int:
    found = run_under_way(dsn)
    if found is None:
        raise CycleRefused("no run is under way: see `kopeck bill status`")
    return found


def _go_on(dsn: str, run_id: int, crew: Crew, as_json: bool, leave_failed: bool = False) -> None:
    begun = time.monotonic()
    try:
        with _stoppable() as stopping, _progress(run_id) as progress:
            outcome = go_on(dsn, run_id, crew, progress, stopping, leave_failed=leave_failed)
    except (CycleStoreError, WorkersLost) as error:
        raise CommandFailed(f"{error}; `kopeck bill resume` goes on with run {run_id}") from error
    took_s = time.monotonic() - begun
    if as_json:
        click.echo(json.dumps(outcome_json(outcome, took_s), ensure_ascii=False, indent=1))
    else:
        for line in outcome_lines(outcome, took_s):
            click.echo(line)
    _end(outcome)


def _end(outcome: RunResult) -> None:
    run_id = outcome.summary.run_id
    if outcome.stopped and outcome.summary.state in ("running", "approving"):
        click.echo(f"kopeck: stopped; nothing is lost: `kopeck bill resume` goes on with run {run_id}", err=True)
        sys.exit(_STOPPED)
    if outcome.summary.state in ("running", "approving"):
        click.echo(f"kopeck: run {run_id} is not complete: `kopeck bill resume` tries again", err=True)
    is_bad = outcome.troubles or (outcome.reconciled is not None and not outcome.reconciled.agrees)
    if is_bad or not outcome.summary.is_clean:
        sys.exit(1)


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM once: shards under way are finished; twice: at once."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        click.echo("kopeck: stopping; shards under way are finished (Ctrl-C again: at once)", err=True)

    kept = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def _progress(run_id: int) -> Iterator[Callable[[int, ShardDone], None]]:
    """A progress bar with invoices/s on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _left, _done: None
        return
    parts = (
        TextColumn("run {task.fields[run]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards, {task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    begun, invoices, failures = time.monotonic(), 0, 0
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*parts, console=console))
        task = bar.add_task("bill", total=None, run=run_id, said="planning")

        def show(left: int, done: ShardDone) -> None:
            nonlocal invoices, failures
            invoices, failures = invoices + done.invoices, failures + done.failures
            pace = invoices / max(0.001, time.monotonic() - begun)
            said = f"{invoices:,} invoices, {pace:,.0f}/s, {failures:,} failures"
            bar.update(task, total=left, advance=1, said=said)

        yield show
