"""Words of codes that several pages show: states, reasons, kinds, actions.

Rules. A table holds every code of its kind, and a test walks them: a code without a word is an error, never an empty
place. What one page alone shows has its table beside that page.

Does not know: languages; ``word`` is told one.
"""

from collections.abc import Mapping
from typing import Final

from billing.language import N_, NP_, Language

#: States of payments (gateway.payments.states).
STATES: Final[Mapping[str, str]] = {
    "refused": N_("Refused"),
    "held": N_("Held"),
    "sent": N_("Sent"),
    "unknown": N_("Unknown"),
    "posted": N_("Posted"),
    "voided": N_("Voided"),
    "reversed": N_("Reversed"),
}

#: Events of a payment.
EVENTS: Final[Mapping[str, str]] = {
    "accept": N_("Accepted and posted"),
    "hold": N_("Money held"),
    "refuse": NP_("event", "Refused"),
    "tombstone": NP_("event", "Cancelled before it arrived"),
    "send": N_("Sent on"),
    "silence": N_("No answer"),
    "post": N_("Posted"),
    "void": N_("Voided, hold released"),
    "reverse": N_("Reversed, given back to the partner"),
    "refund": N_("Refunded by hand"),
    "move": N_("Moved to another account by hand"),
}

#: Steps of postings.
STEPS: Final[Mapping[str, str]] = {
    "hold": N_("Hold"),
    "post": N_("Post"),
    "void": N_("Void"),
    "reverse": N_("Reverse"),
    "refund": N_("Refund by hand"),
    "move": N_("Move by hand"),
}

#: Operations of partners (adapters.messages).
OPERATIONS: Final[Mapping[str, str]] = {
    "check": N_("Check"),
    "pay": N_("Payment"),
    "confirm": N_("Confirm"),
    "cancel": N_("Cancel"),
    "status": N_("Status"),
    "balance": N_("Balance"),
    "registry": N_("Registry"),
    "notify": N_("Notify"),
}

#: Kinds of attempts (gateway.payments.attempts).
ATTEMPT_KINDS: Final[Mapping[str, str]] = {
    "call": N_("Call"),
    "repeat": N_("Repeat"),
    "refusal": N_("Refusal"),
    "conflict": N_("Conflict"),
    "bad_signature": N_("Bad signature"),
    "bad_source": N_("Foreign address"),
    "malformed": N_("Malformed"),
    "overload": N_("Overload"),
}

#: Reasons of answers to partners (adapters.messages).
REASONS: Final[Mapping[str, str]] = {
    "ok": N_("OK"),
    "duplicate_ok": N_("Repeat of an accepted one"),
    "in_progress": N_("In progress"),
    "temporary": N_("Temporarily unavailable"),
    "bad_request": N_("Bad request"),
    "unknown_verb": N_("Unknown verb"),
    "bad_signature": N_("Bad signature"),
    "bad_source": N_("Foreign sender"),
    "bad_service": N_("Unknown service"),
    "bad_account_format": N_("Malformed account number"),
    "account_not_found": N_("Account not found"),
    "account_inactive": N_("Account is not active"),
    "forbidden": N_("Forbidden"),
    "bad_amount": N_("Bad amount"),
    "amount_too_small": N_("Amount too small"),
    "amount_too_large": N_("Amount too large"),
    "bad_ext_id": N_("Bad payment key"),
    "bad_date": N_("Bad date"),
    "bad_extras": N_("Bad extra fields"),
    "conflict": N_("Same key, different contents"),
    "payment_not_found": N_("Payment not found"),
    "already_cancelled": N_("Already reversed or voided"),
    "cancel_impossible": N_("Reversal is impossible"),
    "other": N_("Other"),
}

#: Who did it: the beginning of an actor, name is the rest of it.
ACTORS: Final[Mapping[str, str]] = {
    "partner": N_("Partner %(name)s"),
    "user": N_("User %(name)s"),
    "system": N_("System: %(name)s"),
    "anonymous": N_("Not signed in"),
}

#: Actions on the audit record (web.access.audit).
ACTIONS: Final[Mapping[str, str]] = {
    "signed_in": N_("Signed in"),
    "sign_in_failed": N_("Failed to sign in"),
    "signed_out": N_("Signed out"),
    "password_changed": N_("Changed password"),
    "password_change_failed": N_("Failed to change password"),
    "searched": N_("Searched"),
    "payments_listed": N_("Listed payments"),
    "payment_viewed": N_("Viewed payment"),
    "payment_cancel_asked": N_("Asked to reverse payment"),
    "payment_cancelled": N_("Got the answer to a reversal"),
    "payments_exported": N_("Exported payments"),
    "attempts_listed": N_("Listed partner requests"),
    "attempts_forgotten": N_("Deleted old partner requests"),
    "partners_listed": N_("Listed partners"),
    "partner_viewed": N_("Viewed contract"),
    "partner_added": N_("Connected partner"),
    "partner_contract_set": N_("Set contract"),
    "partner_key_added": N_("Added partner key"),
    "partner_key_retired": N_("Retired partner key"),
    "partner_paused": N_("Paused partner"),
    "partner_resumed": N_("Resumed partner"),
    "list_viewed": N_("Viewed a list"),
    "list_exported": N_("Exported a list"),
    "list_view_saved": N_("Saved a view of a list"),
    "list_view_removed": N_("Removed a view of a list"),
    "bulk_started": N_("Started a bulk action"),
    "customer_viewed": N_("Opened customer"),
    "order_viewed": N_("Opened order"),
    "run_viewed": N_("Opened billing run"),
    "invoice_viewed": N_("Viewed invoice"),
    "catalogue_loaded": N_("Loaded catalogue"),
    "customer_added": N_("Added customer"),
    "customer_changed": N_("Changed customer"),
    "customer_moved": N_("Moved customer"),
    "customer_closed": N_("Closed customer"),
    "customer_account_added": N_("Added account of customer"),
    "customers_imported": N_("Imported customers"),
    "legal_entity_set": N_("Set legal entity"),
    "job_cancelled": N_("Cancelled a background job"),
    "job_file_read": N_("Read a file of a background job"),
    "job_retried": N_("Began a background job again"),
    "posting_requested": N_("Asked for a posting by hand"),
    "posting_posted": N_("Posted by hand"),
    "posting_approved": N_("Approved a posting by hand"),
    "posting_rejected": N_("Rejected a posting by hand"),
    "schedule_added": N_("Added schedule"),
    "schedule_changed": N_("Changed schedule"),
    "schedule_instant_skipped": N_("Skipped a run of schedule"),
    "schedule_instant_unskipped": N_("Took back the skip of a run"),
    "schedule_paused": N_("Paused schedule"),
    "schedule_removed": N_("Removed schedule"),
    "schedule_resumed": N_("Resumed schedule"),
    "schedule_run_asked": N_("Ran schedule by hand"),
    "working_days_loaded": N_("Loaded working days"),
    "delivery_viewed": N_("Viewed delivery"),
    "delivery_pushed": N_("Pushed delivery"),
    "delivery_resent": N_("Sent delivery again"),
    "delivery_settled": N_("Marked delivery as delivered"),
    "delivery_given_up": N_("Gave delivery up"),
    "delivery_queue_held": N_("Held queue of deliveries"),
    "delivery_queue_released": N_("Released queue of deliveries"),
    "delivery_policy_set": N_("Set policy of deliveries"),
    "deliveries_forgotten": N_("Deleted old deliveries"),
    "webhook_added": N_("Added webhook endpoint"),
    "webhook_rotated": N_("Replaced secret of webhook endpoint"),
    "webhook_disabled": N_("Disabled webhook endpoint"),
    "webhook_enabled": N_("Enabled webhook endpoint"),
    "webhook_tested": N_("Sent test event to webhook endpoint"),
    "mail_tested": N_("Sent test letter"),
    "user_added": N_("Added user"),
    "user_role_set": N_("Changed roles of user"),
    "user_state_set": N_("Enabled or disabled"),
    "user_password_reset": N_("Reset password"),
    "role_added": N_("Added role"),
    "role_changed": N_("Changed rights of role"),
    "role_removed": N_("Removed role"),
    "approval_asked": N_("Asked for approval"),
    "approval_done": N_("Approved"),
    "approval_refused": N_("Refused to approve"),
    "approval_withdrawn": N_("Withdrew request"),
    "approval_lapsed": N_("Closed request that expired or is out of date"),
    "sessions_ended": N_("Ended sessions"),
    "token_made": N_("Made token"),
    "token_revoked": N_("Revoked token"),
    "users_listed": N_("Listed users"),
    "roles_listed": N_("Listed roles"),
    "approvals_listed": N_("Listed approvals"),
    "audit_listed": N_("Read the audit record"),
    "denied": N_("Was denied"),
}

#: States of invoices (billing.invoicing.invoices).
INVOICE_STATES: Final[Mapping[str, str]] = {
    "draft": N_("draft"),
    "issued": N_("issued"),
    "paid": N_("paid"),
    "overdue": N_("overdue"),
    "credited": N_("credited"),
}

#: States of partners.
PARTNER_STATES: Final[Mapping[str, str]] = {
    "active": N_("Active"),
    "paused": N_("Paused"),
}

#: What keys of partners are for.
PURPOSES: Final[Mapping[str, str]] = {
    "verify": N_("Verifies the partner's signature"),
    "sign": N_("Our signature"),
    "basic": N_("Login and password (Basic)"),
    "secret": N_("Shared secret"),
}

#: States of users.
USER_STATES: Final[Mapping[str, str]] = {
    "active": NP_("user", "Active"),
    "disabled": N_("Disabled"),
}

#: States of tokens (web.access.tokens).
TOKEN_STATES: Final[Mapping[str, str]] = {
    "active": NP_("token", "Active"),
    "expired": NP_("token", "Expired"),
    "revoked": NP_("token", "Revoked"),
}

#: States of requests that wait for a second person (web.access.approval_store).
APPROVAL_STATES: Final[Mapping[str, str]] = {
    "waiting": NP_("request", "Waiting"),
    "done": NP_("request", "Done"),
    "refused": NP_("request", "Refused"),
    "withdrawn": NP_("request", "Withdrawn"),
    "expired": NP_("request", "Expired"),
    "stale": NP_("request", "Out of date"),
}

#: Roles of users (web.access.rights).
ROLES: Final[Mapping[str, str]] = {
    "viewer": N_("Viewer"),
    "operator": N_("Operator"),
    "administrator": N_("Administrator"),
}

#: What a role may do.
ROLE_RIGHTS: Final[Mapping[str, str]] = {
    "viewer": N_("sees payments, customers, orders, invoices, runs"),
    "operator": N_("also cancels payments, posts money by hand, exports"),
    "administrator": N_("also manages people and partners"),
}

#: Periods a list may be asked for by name (web.site.filters).
PERIODS: Final[Mapping[str, str]] = {
    "today": N_("Today"),
    "yesterday": N_("Yesterday"),
    "7d": N_("7 days"),
    "30d": N_("30 days"),
    "month": N_("This month"),
    "last_month": N_("Last month"),
    "year": N_("Year"),
}

#: How templates and handlers call a table.
#: Kinds of deliveries (kopeck.serve.deliveries).
DELIVERY_KINDS: Final[Mapping[str, str]] = {
    "webhook": N_("Webhook"),
    "mail": N_("Mail"),
}

#: States of deliveries (billing.work.deliveries.records).
DELIVERY_STATES: Final[Mapping[str, str]] = {
    "waiting": NP_("delivery", "Waiting"),
    "sending": NP_("delivery", "Being sent"),
    "unknown": NP_("delivery", "Unknown"),
    "accepted": NP_("delivery", "Accepted, receipt awaited"),
    "delivered": NP_("delivery", "Delivered"),
    "refused": NP_("delivery", "Refused"),
    "manual": NP_("delivery", "Needs a person"),
    "abandoned": NP_("delivery", "Given up"),
}

#: Why a delivery stands where it stands (billing.work.deliveries.decide).
DELIVERY_REASONS: Final[Mapping[str, str]] = {
    "temporary": N_("The recipient could not take it, and it will be tried again"),
    "silence": N_("No answer: it may have arrived"),
    "missing": N_("The recipient never had it, and it is sent again"),
    "recalled": N_("It was never sent, and waits again"),
    "refused": N_("The recipient refused it"),
    "stopped": N_("Its time is over"),
    "no_receipt": N_("No receipt came"),
    "pushed": N_("Pushed by a person"),
    "resent": N_("Sent again by a person"),
    "settled": N_("Marked as delivered by a person"),
    "given_up": N_("Given up by a person"),
    "contradiction": N_("Accepted after it was refused: look at both answers"),
}

#: What became of an attempt.
DELIVERY_OUTCOMES: Final[Mapping[str, str]] = {
    "": NP_("attempt", "Under way"),
    "accepted": NP_("attempt", "Accepted"),
    "delivered": NP_("attempt", "Delivered"),
    "refused": NP_("attempt", "Refused"),
    "temporary": NP_("attempt", "Later"),
    "missing": NP_("attempt", "Never arrived"),
    "silent": NP_("attempt", "No answer"),
    "recalled": NP_("attempt", "Not sent"),
}

#: What an attempt does, and what people do.
DELIVERY_ACTS: Final[Mapping[str, str]] = {
    "send": NP_("attempt", "Sent"),
    "ask": NP_("attempt", "Asked for the status"),
    "push": NP_("delivery", "Pushed"),
    "resend": NP_("delivery", "Sent again"),
    "settle": NP_("delivery", "Marked as delivered"),
    "give_up": NP_("delivery", "Given up by hand"),
}

TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "delivery_kind": DELIVERY_KINDS,
    "delivery_state": DELIVERY_STATES,
    "delivery_reason": DELIVERY_REASONS,
    "delivery_outcome": DELIVERY_OUTCOMES,
    "delivery_act": DELIVERY_ACTS,
    "state": STATES,
    "event": EVENTS,
    "step": STEPS,
    "op": OPERATIONS,
    "kind": ATTEMPT_KINDS,
    "reason": REASONS,
    "actor": ACTORS,
    "action": ACTIONS,
    "invoice_state": INVOICE_STATES,
    "partner_state": PARTNER_STATES,
    "purpose": PURPOSES,
    "user_state": USER_STATES,
    "token_state": TOKEN_STATES,
    "approval_state": APPROVAL_STATES,
    "role": ROLES,
    "role_rights": ROLE_RIGHTS,
    "period": PERIODS,
}


def word(language: Language, table: str, code: str, /, **values: object) -> str:
    """The word of a code in a language.

    Raises:
        KeyError: there is no such table, or it lacks the code: our own mistake.
    """
    return language.gettext(TABLES[table][code], **values)
