"""Billing runs for people: the list, and one run with its totals, shards and what failed.

Rules. Read-only: runs are started, approved and voided by commands. Numbers are those of `kopeck bill show`.

Does not know: how a run is done, how rows are found (billing.cycle.list_store).
"""

from typing import Final

from tornado.web import HTTPError

from billing.cycle.list_store import RUN_ROWS, RUN_STATES, failures_of_run, shards_of_run, totals_of_run
from billing.language import N_
from billing.listing.records import Match, Question, TextIs
from billing.listing.store import page_of
from web.access.rights import Right
from web.console.billing.invoice_list import INVOICES
from web.site.lists.declaration import Kind, ListColumn, Listing, Tab
from web.site.lists.excerpts import excerpt_of
from web.site.lists.pages import ListedPage
from web.site.site import SNAPSHOT

STATE_WORDS: Final = {
    "running": N_("running"),
    "reviewed": N_("waits for review"),
    "approving": N_("being approved"),
    "done": N_("done"),
    "void": N_("void"),
}
assert tuple(STATE_WORDS) == RUN_STATES
KIND_WORDS: Final = {"post": N_("posted at once"), "review": N_("with review")}

RUNS: Final = Listing(
    "runs",
    N_("Billing runs"),
    RUN_ROWS,
    (
        ListColumn("run", N_("Run"), Kind.CODE, "/runs/{run}", place="title", is_primary=True),
        ListColumn("bill_on", N_("Billed on"), Kind.DATE, place="under", is_primary=True),
        ListColumn("kind", N_("Kind"), Kind.STATE, words=KIND_WORDS),
        ListColumn(
            "state", N_("State"), Kind.STATE, words=STATE_WORDS, tones="run_state", place="mark", is_primary=True
        ),
        ListColumn("invoices", N_("Invoices"), Kind.NUMBER, "/invoices?run={run}"),
        ListColumn(
            "totals", N_("Total"), Kind.SUMS, place="figure",
            why_not=N_("The sums of a run are by currency; the list of invoices has a filter by sum."),
        ),
        ListColumn("failures", N_("Failures"), Kind.NUMBER),
        ListColumn("started", N_("Started"), Kind.INSTANT),
        ListColumn("finished", N_("Finished"), Kind.INSTANT, is_shown=False),
        ListColumn("orders", N_("Orders"), Kind.NUMBER, is_shown=False),
        ListColumn("shards", N_("Shards"), Kind.NUMBER, is_shown=False),
        ListColumn("shards_done", N_("Shards done"), Kind.NUMBER, is_shown=False),
        ListColumn("shards_failed", N_("Shards failed"), Kind.NUMBER, is_shown=False),
        ListColumn("account", N_("Only account"), Kind.CODE, is_shown=False),
        ListColumn("actor", N_("Started by"), is_shown=False),
        ListColumn("approved_by", N_("Approved by"), is_shown=False),
    ),
    order="-run",
    noun=lambda language, rows: language.ngettext("%(num)s billing run", "%(num)s billing runs", rows),
    needs=Right.RUNS_VIEW,
    tabs=(Tab(N_("All"), ""), Tab(N_("Under way"), "state=running&state=reviewed&state=approving")),
)  # fmt: skip

#: Shards and failures that the page shows; the numbers above are of all.
SHOWN_ROWS: Final = 50
SHARD_WORDS: Final = {
    "due": N_("due"),
    "drafted": N_("drafted"),
    "posted": N_("posted"),
    "failed": N_("failed"),
}


class RunPage(ListedPage):
    """GET /runs/ID."""

    needs = Right.RUNS_VIEW
    section = "runs"

    async def get(self, run_id: str) -> None:
        """The run with its totals, its shards (those that failed first) and what could not be billed."""
        question = Question((TextIs("run", Match.EQUALS, run_id),))
        async with self.site.transaction(SNAPSHOT) as cur:
            rows = (await page_of(cur, RUN_ROWS, question, list(RUN_ROWS.fields), None, 1)).rows
            if not rows:
                raise HTTPError(404)
            await self.record("run_viewed", "run", run_id, cur)
            totals = await totals_of_run(cur, int(run_id))
            shards = await shards_of_run(cur, int(run_id), SHOWN_ROWS)
            failures = await failures_of_run(cur, int(run_id), SHOWN_ROWS)
            invoices = await excerpt_of(
                self,
                cur,
                INVOICES,
                f"run={run_id}",
                ("number", "customer", "account", "due", "total", "unpaid", "state"),
            )
        words = self.spoken.gettext
        await self.show(
            "run.html",
            run=rows[0],
            totals=totals,
            shards=shards,
            failures=failures,
            invoices=invoices,
            state_word=words(STATE_WORDS[rows[0]["state"]]),
            kind_word=words(KIND_WORDS[rows[0]["kind"]]),
            shard_word=lambda state: words(SHARD_WORDS[state]),
        )
