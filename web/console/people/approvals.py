"""What waits for a second person: waiting for me, asked by me, decided; and one request with all it would change.

Rules. Who asked sees its own request and may withdraw it; who could approve, and who reads the audit record, see it
too; for others there is none. A second press, or two people at once, do it once.

Does not know: what may wait and how it is done (web/access/approvals.py, approval_kinds.py).
"""

from collections.abc import Mapping
from typing import Final

from tornado.web import HTTPError

from billing.language import N_
from billing.refusals import Refusal
from web.access import approvals
from web.access.approval_store import Approval, count_waiting, list_approvals, read
from web.access.approvals import Ending
from web.access.rights import Open
from web.access.roles import AccessError
from web.console.system.audit import changes_told
from web.site.page import Page

VIEWS: Final = ("waiting", "mine", "decided")
ROWS: Final = 100
#: What a request would do, by its kind, or by the kind of the posting.
WHAT: Final[Mapping[str, str]] = {
    "cash": N_("Cash to account %(object)s"),
    "bank": N_("Bank payment to account %(object)s"),
    "correction": N_("Correction of account %(object)s"),
    "write_off": N_("Write-off of the debt of account %(object)s"),
    "move": N_("Move of a payment from account %(object)s"),
    "refund": N_("Refund from account %(object)s"),
    "payout": N_("Payout of account %(object)s"),
    "role": N_("Role %(object)s"),
    "partner_contract": N_("Contract of partner %(object)s"),
}
#: Where the object of a request is looked at.
PLACES: Final[Mapping[str, str]] = {"account": "/payments?q=", "partner": "/partners/", "role": "/roles#"}


class ApprovalsPage(Page):
    """GET /approvals."""

    needs = Open.TO_SIGNED_IN
    section = "approvals"

    async def get(self) -> None:
        """One of the three views, the newest first."""
        view = self.get_query_argument("view", "waiting")
        before = self.get_query_argument("before", "")
        if view not in VIEWS or (before and not (before.isascii() and before.isdecimal() and len(before) < 19)):
            raise HTTPError(400)
        async with self.site.cursor() as cur:
            await self.record("approvals_listed", "", "", cur)
            found = await list_approvals(cur, view, self.actor, int(before) if before else None, ROWS + 1)
            waiting = await count_waiting(cur, self.actor)
        following = f"/approvals?view={view}&before={found[ROWS - 1].id}" if len(found) > ROWS else ""
        rows = [(approval, what_words(self, approval)) for approval in found[:ROWS]]
        await self.show("approvals.html", rows=rows, view=view, waiting=waiting, next=following, is_first=not before)


class ApprovalPage(Page):
    """/approvals/ID."""

    needs = Open.TO_SIGNED_IN
    section = "approvals"

    async def get(self, number: str) -> None:
        """Everything about one request."""
        await self._show(number, "")

    async def post(self, number: str) -> None:
        """Approve, refuse or withdraw."""
        why = " ".join(self.get_body_argument("why", "").split())[: approvals.WHY_MAX]
        what = self.get_body_argument("do", "")
        await self._found(number)
        try:
            async with self.site.transaction() as cur:
                if what == "approve":
                    outcome = await approvals.approve(cur, self.site.kinds, int(number), self.actor, why, self.now)
                elif what == "refuse":
                    outcome = await approvals.refuse(cur, self.site.kinds, int(number), self.actor, why)
                else:
                    raise HTTPError(400)
        except AccessError as error:
            self.set_status(400)
            await self._show(number, self.refusal(error), why)
            return
        except Refusal as error:  # of what would be done: it cannot be, as things stand
            self.set_status(400)
            await self._show(number, self._("It cannot be done now: %(why)s", why=str(error)), why)
            return
        tone = "good" if outcome.ending is Ending.DONE else "info"
        await self.notify(_ENDED[outcome.ending], tone)
        self.redirect(f"/approvals/{number}", status=303)

    async def _found(self, number: str) -> Approval:
        async with self.site.cursor() as cur:
            approval = await read(cur, int(number))
        if approval is None or not approvals.may_see(approval, self.actor):
            raise HTTPError(404)
        return approval

    async def _show(self, number: str, wrong: str, why: str = "") -> None:
        approval = await self._found(number)
        is_own = approval.asked_by == self.actor.name
        is_open = approval.state_at(self.now).value == "waiting"
        await self.show(
            "approval.html",
            approval=approval,
            what=what_words(self, approval),
            changes=changes_told(self.spoken, approval.changes),
            place=PLACES[approval.object_kind] + approval.object_id if approval.object_kind in PLACES else "",
            may_approve=approvals.may_approve(approval, self.actor, self.now),
            may_withdraw=is_own and is_open,
            wrong=wrong,
            why=why,
        )


_ENDED: Final[Mapping[Ending, str]] = {
    Ending.DONE: N_("Approved and done."),
    Ending.WAITS: N_("Your request waits for a second person."),
    Ending.REFUSED: N_("Nothing was done, and the request is closed."),
    Ending.STALE: N_("What it is about has changed since: nothing was done, it has to be asked again."),
    Ending.EXPIRED: N_("It has expired: nothing was done, it has to be asked again."),
}


def what_words(page: Page, approval: Approval) -> str:
    """What a request would do, in the page's language."""
    code = str(approval.arguments.get("kind", "")) if approval.kind == "money" else approval.kind
    return page._(WHAT[code], object=approval.object_id) if code in WHAT else approval.summary
