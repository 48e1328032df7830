"""What people call jobs: kinds, states, what the machinery did, why one failed. Texts are msgids of `billing.language`.

Does not know: who shows them.
"""

from collections.abc import Mapping
from typing import Final

from billing.language import N_, NP_
from billing.work.jobs.records import JobState

#: By kind; the test of kopeck/serve/jobs.py holds it against the kinds there are.
TITLES: Final[Mapping[str, str]] = {
    "attempts.forget": N_("Deletion of old partner requests"),
    "bill.resume": N_("Billing run, resumed"),
    "bill.run": N_("Billing run"),
    "bulk.invoice_pdfs": N_("PDF files of invoices"),
    "dunning.run": N_("Dunning"),
    "list.export": N_("Export of a list"),
    "sessions.forget": N_("Deletion of expired sign-ins"),
    "usage.import": N_("Import of usage"),
    "verify": N_("Verification"),
}

STATES: Final[Mapping[JobState, str]] = {
    JobState.QUEUED: NP_("job", "Queued"),
    JobState.RUNNING: NP_("job", "Running"),
    JobState.DONE: NP_("job", "Done"),
    JobState.FAILED: NP_("job", "Failed"),
    JobState.CANCELLED: NP_("job", "Cancelled"),
}

FAILURES: Final[Mapping[str, str]] = {
    "refused": NP_("job", "refused"),
    "error": NP_("job", "an error"),
    "silent": NP_("job", "told nothing for too long and was ended"),
    "interrupted": NP_("job", "interrupted: what was done of it has to be looked at"),
}

#: With the detail of the log's line as ``detail``.
EVENTS: Final[Mapping[str, str]] = {
    "began": N_("Attempt begins on %(detail)s"),
    "done": N_("Done"),
    "failed": N_("Failed: %(detail)s"),
    "cancelled": N_("Cancelled: %(detail)s"),
    "cancel_asked": N_("%(detail)s asks it to stop"),
    "again": N_("Tried again after %(detail)s"),
    "given_back": N_("Given back to the queue: %(detail)s"),
    "by_hand": N_("%(detail)s begins it again"),
}

OUTCOMES: Final[Mapping[str, str]] = {
    "done": NP_("row", "Done"),
    "skipped": NP_("row", "Skipped"),
    "refused": NP_("row", "Refused"),
    "failed": NP_("row", "Failed"),
}


def title_of(kind: str) -> str:
    """What people call a kind, as a msgid; the kind itself where this version does not know it."""
    return TITLES.get(kind, kind)
