"""Events as envelopes: what happened here in the words that others are told.

Rules. An event's id follows from its object, so the same event has the same id however often it is made. Sums are
decimal text with two digits and a currency; numbers that may pass 2^53 are text. Nothing that names a person stands in
the attributes.

Does not know: rows, who is told.
"""

from datetime import datetime
from typing import Any

from adapters.cloudevents import CloudEvent
from gateway.events.event_store import FinishedRun, IssuedInvoice, PostedPayment
from gateway.events.types import (
    BILL_RUN_FINISHED,
    CREDIT_NOTE_ISSUED,
    INVOICE_ISSUED,
    PAYMENT_POSTED,
    WEBHOOK_TEST,
)
from ratingcore.money import Minor, format_minor


def payment_event(payment: PostedPayment, source: str) -> CloudEvent:
    """A payment was credited to an account. sequence: the number of that step in the payment's life."""
    data = {
        "payment_id": str(payment.payment_id),
        "partner": payment.partner,
        "partner_key": payment.key,
        "service": payment.service,
        "account": payment.account,
        "amount": _money(payment.amount_minor),
        "currency": payment.currency,
    }
    return CloudEvent(
        f"payment-{payment.payment_id}-{payment.seq}",
        source,
        PAYMENT_POSTED,
        payment.at,
        data,
        f"payment/{payment.payment_id}",
        {"sequence": str(payment.seq), "partitionkey": f"account/{payment.account}"},
    )


def invoice_event(invoice: IssuedInvoice, source: str) -> CloudEvent:
    """An invoice or a credit note was issued."""
    data: dict[str, Any] = {
        "number": invoice.number,
        "account": invoice.account,
        "currency": invoice.currency,
        "invoiced_on": invoice.invoiced_on.isoformat(),
        "due_on": invoice.due_on.isoformat(),
        "net": _money(invoice.net_minor),
        "tax": _money(invoice.tax_minor),
        "total": _money(invoice.total_minor),
    }
    is_credit = invoice.kind == "credit_note"
    if is_credit:
        data["corrects"] = invoice.corrects
    return CloudEvent(
        f"invoice-{invoice.invoice_id}-issued",
        source,
        CREDIT_NOTE_ISSUED if is_credit else INVOICE_ISSUED,
        invoice.at,
        data,
        f"{'credit-note' if is_credit else 'invoice'}/{invoice.number}",
        {"sequence": "1", "partitionkey": f"account/{invoice.account}"},
    )


def bill_run_event(run: FinishedRun, source: str) -> CloudEvent:
    """A bill run is done: everything of it is issued."""
    data = {
        "run_id": str(run.run_id),
        "bill_on": run.bill_on.isoformat(),
        "kind": run.kind,
        "invoices": run.invoices,
    }
    return CloudEvent(
        f"bill-run-{run.run_id}-finished", source, BILL_RUN_FINISHED, run.at, data, f"bill-run/{run.run_id}",
        {"sequence": "1"},
    )  # fmt: skip


def sample_event(endpoint: str, number: str, at: datetime, source: str) -> CloudEvent:
    """What `kopeck webhook test` sends. number: makes it one of its own."""
    data = {"endpoint": endpoint, "note": "Sent by hand to try this endpoint; nothing happened."}
    return CloudEvent(f"test-{endpoint}-{number}", source, WEBHOOK_TEST, at, data, f"endpoint/{endpoint}")


def _money(minor: int) -> str:
    return format_minor(Minor(minor))
