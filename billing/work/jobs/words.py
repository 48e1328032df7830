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
    "payments.export": N_("Export of payments"),
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
    "again": N_("To be tried again: %(detail)s"),
    "given_back": N_("Given back to the queue: %(detail)s"),
    "by_hand": N_("%(detail)s begins it again"),
}

#: Names of arguments and of figures in results.
FIGURES: Final[Mapping[str, str]] = {
    "accepted": N_("Accepted"),
    "account": N_("Account"),
    "again": N_("Once more, although it was done before"),
    "ahead": N_("Before the day has come"),
    "all_lines": N_("All lines computed again"),
    "before": N_("Older than"),
    "checks": N_("Checks"),
    "date": N_("Date"),
    "days": N_("Age in days"),
    "deleted": N_("Deleted"),
    "deleted_in_journal": N_("Deleted in the journal"),
    "differences": N_("Differences"),
    "failures": N_("Failures"),
    "file": N_("File"),
    "format": N_("Format"),
    "import": N_("Import"),
    "invoices": N_("Invoices"),
    "kind": N_("Kind"),
    "late": N_("Late"),
    "leave_failed": N_("Finished without shards that fail"),
    "lines": N_("Lines"),
    "money": N_("Total"),
    "no_journal": N_("Without the journal"),
    "orders": N_("Orders"),
    "orders_cancelled": N_("Orders cancelled"),
    "orders_suspended": N_("Orders suspended"),
    "payers": N_("Paying accounts"),
    "periods": N_("Periods"),
    "rejected": N_("Rejected"),
    "repeated": N_("Repeated"),
    "review": N_("For review"),
    "rows": N_("Rows"),
    "run": N_("Run"),
    "same_as": N_("The same file as import"),
    "state": N_("State"),
    "warnings": N_("Warnings"),
    "workers": N_("Processes"),
}

#: Units in which works count, as they name them.
DOING: Final[Mapping[str, str]] = {
    "accounts": NP_("progress", "accounts"),
    "attempts": NP_("progress", "attempts"),
    "bytes": NP_("progress", "bytes"),
    "rows": NP_("progress", "rows"),
    "shards": NP_("progress", "shards"),
}

#: What of a result somebody should look at: by the code in its ``attention``, with the result's figures as values. A
#: text that is no code here is told as it is.
ATTENTION: Final[Mapping[str, str]] = {
    "failures": N_("Failures: %(failures)s. kopeck bill status %(run)s lists them."),
    "rejected": N_("Rejected lines: %(rejected)s. kopeck usage rejects list %(import)s lists them."),
    "differences": N_("Differences: %(differences)s. The log lists them."),
}

OUTCOMES: Final[Mapping[str, str]] = {
    "done": NP_("row", "Done"),
    "skipped": NP_("row", "Skipped"),
    "refused": NP_("row", "Refused"),
    "failed": NP_("row", "Failed"),
}


def attention_of(result: Mapping[str, object] | None) -> str:
    """What of a result somebody should look at, in English; empty where nothing."""
    code = str((result or {}).get("attention", ""))
    return ATTENTION[code] % dict(result or {}) if code in ATTENTION else code


def title_of(kind: str) -> str:
    """What people call a kind, as a msgid; the kind itself where this version does not know it."""
    return TITLES.get(kind, kind)
