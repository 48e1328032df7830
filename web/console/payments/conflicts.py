"""What a conflicting request asked, beside what its payment has, in words.

Rules. A conflict is the payment's own key with another account, sum or service (`gateway.payments.decide`), or a cancel
that names another sum. Every field that differs is told as it was and as it came. The service that came is kept in the
raw request alone, in the dialect's own words; so it is named when neither account nor sum explains the conflict.

Does not know: where payments and requests come from, HTML.
"""

from collections.abc import Iterable
from typing import Any

from billing.language import Language
from gateway.journal.documents import Document
from gateway.payments.states import State
from web.site import formatting as shown


def conflict_words(language: Language, payment: Document, attempt: Document) -> str:
    """Each field of ``attempt`` that differs from ``payment``, one sentence."""
    _, told = language.gettext, []
    if attempt["amount"] is not None and attempt["amount"] != payment["amount"]:
        sums = (payment["amount"], attempt["amount"])
        was, came = (language.formats.money(amount, payment["currency"]) for amount in sums)
        if payment["state"] == State.POSTED:
            told.append(_("%(was)s posted, partner sent %(came)s", was=was, came=came))
        else:
            told.append(_("the payment has %(was)s, partner sent %(came)s", was=was, came=came))
    if attempt["account"] and attempt["account"] != payment["account"]:
        was, came = (shown.raw(row["account"]) or _("—") for row in (payment, attempt))
        told.append(_("the payment has account %(was)s, partner sent %(came)s", was=was, came=came))
    if not told:
        service = shown.raw(payment["service"]) or _("—")
        told.append(_("the payment has service %(was)s, partner sent another", was=service))
    return "; ".join(told)


def conflicts_told(language: Language, payments: dict[int, Document], attempts: Iterable[Document]) -> dict[Any, str]:
    """Words of every conflict among ``attempts`` whose payment is among ``payments``, by the attempt's id."""
    return {
        attempt["_id"]: conflict_words(language, payments[attempt["payment_id"]], attempt)
        for attempt in attempts
        if attempt["kind"] == "conflict" and attempt["payment_id"] in payments
    }


def distinct(told: dict[Any, str]) -> list[tuple[str, Any]]:
    """(words, id of the newest attempt that says so), newest first; ``told`` is in that order."""
    newest: dict[str, Any] = {}
    for attempt_id, words in told.items():
        newest.setdefault(words, attempt_id)
    return list(newest.items())
