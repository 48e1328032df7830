"""A run that cannot be completed is given up.

Rules. Shards that are posted stay, and their invoices are numbered without a gap and issued in the transaction that
gives the run up; what is in the others is due again. The run is then done, with the actor and the reason. Shards at
work are waited for, as they hold the run's row; none begins afterwards. Of a review that is being approved, the drafts
that are not posted become void and are deleted (migration 0021 allows it of a run that was given up), so a prepaid
balance that fell after the approval holds up no other payer.

Does not know: how shards are done. Functions take the caller's connection and do not commit.
"""

from typing import Final

from billing.cycle.posting import LOCK_RUN, CycleRefused, delete_drafts, number_run, release_drafts
from billing.database.adbc import do, rows
from billing.database.cursors import ColumnConnection

_ABANDONED: Final = """
    UPDATE bill_runs SET state = 'done', finished_at = now(), abandoned_by = $2, abandoned_why = $3 WHERE id = $1::int
"""
_MAX_WHY: Final = 500


def abandon_run(opened: ColumnConnection, run_id: int, actor: str, why: str) -> None:
    """Give up what is left of a run that posts or is being approved.

    What is posted is numbered and issued, the rest is due again. Waits for shards at work; none begins afterwards.

    Raises:
        CycleRefused: no such run, or one that is over; a review that is not approved is voided instead.
    """
    if not why.strip() or not why.isprintable():
        raise CycleRefused("say why the run is given up, in printable characters")
    found = rows(opened, LOCK_RUN, (run_id,))
    if not found:
        raise CycleRefused(f"there is no run {run_id}")
    state, kind = found[0]
    if kind == "review" and state in ("running", "reviewed"):
        raise CycleRefused(f"run {run_id} is a review: `kopeck bill void-review {run_id}` takes its drafts back")
    if state not in ("running", "approving"):
        raise CycleRefused(f"run {run_id} is {state}: nothing of it is left")
    number_run(opened, run_id)
    if state == "approving":
        release_drafts(opened, run_id)
    do(opened, _ABANDONED, (run_id, actor, why.strip()[:_MAX_WHY]))
    if state == "approving":
        delete_drafts(opened, run_id)
