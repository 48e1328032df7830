"""Billing runs: start one, go on with it, approve or void a review.

Rules. Everything that is decided is in the database, so a run can be stopped by anything at any instant and goes on
where it was. Shards are done by workers (processes here, or a Dask cluster) in any order; when all are done, one short
transaction numbers the invoices. Several may go on with one run at once: a shard is done by whoever holds its row.

Does not know: how progress and results are shown.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from billing.cycle import boundary_store as usage_boundary
from billing.cycle.abandon import abandon_run
from billing.cycle.plan import NewRun, ensure_system_accounts, plan_run
from billing.cycle.posting import CycleRefused, begin_approval, finish_run, run_state, undo_review
from billing.cycle.shard import ShardDone, ShardJob, ShardWorker
from billing.cycle.summary import Reconciled, Summary, newest_runs, reconcile, summarise, under_way
from billing.cycle.workers import run_shards
from billing.database.adbc import rows
from billing.database.cursors import ColumnConnection
from billing.database.link import RECONNECT_LIMIT_S, Link

_LEFT: Final = """
    SELECT shard_no FROM bill_shards WHERE run_id = $1::int AND state = ANY (string_to_array($2, ' ')) ORDER BY shard_no
"""
#: By the state of a run: the states of shards that are to be done.
_TO_DO: Final = {"running": "due failed", "approving": "drafted"}

T = TypeVar("T")
Progress = Callable[[int, ShardDone], None]


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the shards: processes of this machine (0: one a core), or the cluster of a Dask scheduler.

    reconnect_limit_s: how long workers wait for a database that is away.
    """

    processes: int = 0
    dask: str = ""
    reconnect_limit_s: float = RECONNECT_LIMIT_S


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run, or of the part of it that was done now.

    stopped: it was asked to stop. troubles: shards that were not done, and why. seconds: by stage, over all workers.
    """

    summary: Summary
    reconciled: Reconciled | None
    stopped: bool
    troubles: tuple[ShardDone, ...]
    seconds: dict[str, float]


def start_run(dsn: str, new: NewRun) -> int:
    """Plan a run; nothing of it is billed yet.

    Raises:
        CycleRefused: another run is under way, or something it needs is missing.
    """
    return _in_one_go(dsn, lambda opened: plan_run(opened, new))


def go_on(
    dsn: str,
    run_id: int,
    crew: Crew,
    progress: Progress = lambda _left, _done: None,
    stopping: Callable[[], bool] = lambda: False,
    *,
    leave_failed: bool = False,
) -> RunResult:
    """Do what is left of a run, and number its invoices when nothing is.

    Args:
        progress: called with how many shards were to be done, and each as it is done.
        stopping: asked now and then; once true, no further shard is begun.
        leave_failed: finish although shards failed; what is in them stays due.

    Raises:
        CycleRefused: no such run, or one that is over.
        CycleStoreError: the database refused, or stayed away.
        WorkersLost: processes die one after another, or no cluster answers.
    """
    link = Link(dsn, crew.reconnect_limit_s)
    try:
        shards = link.run(lambda opened: _shards_left(opened, run_id))
        troubles, seconds = [], dict[str, float]()
        for done in _done_by(crew, ShardJob(dsn, run_id, crew.reconnect_limit_s), shards, stopping):
            progress(len(shards), done)
            for stage, took_s in done.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + took_s
            if done.state not in ("posted", "drafted"):
                troubles.append(done)
        if not stopping():
            link.run(lambda opened: finish_run(opened, run_id, leave_failed=leave_failed))
        summary = link.run(lambda opened: _summary(opened, run_id))
        reconciled = None
        if summary.state in ("done", "reviewed"):
            is_posted = summary.state == "done"
            reconciled = link.run(lambda opened: reconcile(opened, run_id, is_posted=is_posted))
        return RunResult(summary, reconciled, stopping(), tuple(troubles), seconds)
    finally:
        link.close()


def _done_by(crew: Crew, job: ShardJob, shards: list[int], stopping: Callable[[], bool]) -> Iterator[ShardDone]:
    if crew.dask:
        from billing.cycle import dask as cycle_dask  # an optional dependency

        return cycle_dask.run_shards(job, shards, crew.dask, stopping)
    if len(shards) <= 1:  # no processes for the invoice of one account
        return _done_here(job, shards)
    return run_shards(job, shards, crew.processes or os.cpu_count() or 1, stopping)


def _done_here(job: ShardJob, shards: list[int]) -> Iterator[ShardDone]:
    worker = ShardWorker(job)
    try:
        yield from map(worker.do, shards)
    finally:
        worker.close()


def _shards_left(opened: ColumnConnection, run_id: int) -> list[int]:
    state = run_state(opened, run_id)
    if state not in _TO_DO:
        raise CycleRefused(f"run {run_id} is {state}: nothing of it is left to be done")
    ensure_system_accounts(opened)
    return [int(row[0]) for row in rows(opened, _LEFT, (run_id, _TO_DO[state]))]


def approve(dsn: str, run_id: int, actor: str) -> None:
    """Decide that a review is posted as it stands; ``go_on`` then does it.

    Raises:
        CycleRefused: no complete review, or prepaid payers cannot bear their drafts.
    """

    def decide(opened: ColumnConnection) -> None:
        begin_approval(opened, run_id, actor)
        usage_boundary.approved(opened, run_id)

    _in_one_go(dsn, decide)


def void_review(dsn: str, run_id: int) -> None:
    """Delete a review's drafts; what they billed is due again.

    Raises:
        CycleRefused: no review, or something of it is posted.
    """

    def undo(opened: ColumnConnection) -> None:
        undo_review(opened, run_id)
        usage_boundary.voided(opened, run_id)

    _in_one_go(dsn, undo)


def reopen_usage(dsn: str) -> tuple[datetime | None, datetime | None]:
    """Move the boundary of open usage back to where done runs rely on it; returns what it was and what it is."""
    return _in_one_go(dsn, usage_boundary.reopen)


def abandon(dsn: str, run_id: int, actor: str, why: str) -> Summary:
    """Give up what is left of a run: shards that are posted stay and are issued, the others are due again.

    Raises:
        CycleRefused: no run that is running.
    """
    _in_one_go(dsn, lambda opened: abandon_run(opened, run_id, actor, why))
    return summary_of(dsn, run_id)


def run_under_way(dsn: str) -> int | None:
    """The run that is not done, if there is one."""
    return _in_one_go(dsn, under_way)


def summary_of(dsn: str, run_id: int) -> Summary:
    """A run as it stands. Raises CycleRefused where there is none."""
    return _in_one_go(dsn, lambda opened: _summary(opened, run_id))


def newest(dsn: str, limit: int) -> list[Summary]:
    """Runs, newest first, without their details."""

    def read(opened: ColumnConnection) -> list[Summary]:
        found = [summarise(opened, number, with_details=False) for number in newest_runs(opened, limit)]
        return [one for one in found if one is not None]

    return _in_one_go(dsn, read)


def _summary(opened: ColumnConnection, run_id: int) -> Summary:
    found = summarise(opened, run_id)
    if found is None:
        raise CycleRefused(f"there is no run {run_id}")
    return found


def _in_one_go(dsn: str, work: Callable[[Any], T]) -> T:
    link = Link(dsn, 0.0)
    try:
        return link.run(work)
    finally:
        link.close()
