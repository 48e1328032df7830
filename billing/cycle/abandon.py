"""A run that cannot be completed is given up.

Rules. Shards that are posted stay, and their invoices are numbered without a gap and issued in the transaction that
gives the run up; what is in the others is due again. The run is then done, with who gave it up and why. Shards at work
are waited for, as they hold the run's row; none begins afterwards.

Does not know: how shards are done. Functions take the caller's connection and do not commit.
"""

from typing import Final

from billing.cycle.posting import LOCK_RUN, CycleRefused, number_run
from billing.database.adbc import do, rows
from billing.database.cursors import ColumnConnection

_ABANDONED: Final = """
    UPDATE bill_runs SET state = 'done', finished_at = now(), abandoned_by = $2, abandoned_why = $3 WHERE id = $1::int
"""
_MAX_WHY: Final = 500


def abandon_run(opened: ColumnConnection, run_id: int, actor: str, why: str) -> None:
    """Give up what is left of a run that posts: what is posted is numbered and issued, the rest is due again.

    Waits for shards at work; none begins afterwards.

    Raises:
        CycleRefused: no such run, or one that is not running; a review is voided instead.
    """
    if not why.strip() or not why.isprintable():
        raise CycleRefused("say why the run is given up, in printable characters")
    found = rows(opened, LOCK_RUN, (run_id,))
    if not found:
        raise CycleRefused(f"there is no run {run_id}")
    state, kind = found[0]
    if kind == "review" and state in ("running", "reviewed"):
        raise CycleRefused(f"run {run_id} is a review: `kopeck bill void-review {run_id}` takes its drafts back")
    if state == "approving":
        raise CycleRefused(f"run {run_id} is being approved: `kopeck bill resume` posts what is left of it")
    if state != "running":
        raise CycleRefused(f"run {run_id} is {state}: nothing of it is left")
    number_run(opened, run_id)
    do(opened, _ABANDONED, (run_id, actor, why.strip()[:_MAX_WHY]))
