"""Types of events that others are told of.

Rules. A type ends in its version: what it means and the members of its data never change, a change is a new type.

Does not know: how an event is told.
"""

from typing import Final

PAYMENT_POSTED: Final = "kopeck.payment.posted.v1"
INVOICE_ISSUED: Final = "kopeck.invoice.issued.v1"
CREDIT_NOTE_ISSUED: Final = "kopeck.credit_note.issued.v1"
BILL_RUN_FINISHED: Final = "kopeck.bill_run.finished.v1"
#: Sent by hand, so that the two sides can try each other.
WEBHOOK_TEST: Final = "kopeck.webhook.test.v1"

EVENT_TYPES: Final = (PAYMENT_POSTED, INVOICE_ISSUED, CREDIT_NOTE_ISSUED, BILL_RUN_FINISHED, WEBHOOK_TEST)
#: The topic of the outbox that each comes from (migrations/0025).
TOPICS: Final = {
    PAYMENT_POSTED: "payment",
    INVOICE_ISSUED: "invoices",
    CREDIT_NOTE_ISSUED: "invoices",
    BILL_RUN_FINISHED: "bill_run",
}
