"""The record of what people saw and did: append-only, by the database itself.

Rules. Written before the thing it names is shown, and in the transaction of the thing it names where that has one:
what could not be recorded does not happen. Functions take the caller's aiopg cursor. No passwords, no tokens; a login
that does not exist is not kept either, for people type their password into the wrong field.

Does not know: pages, roles.
"""

from typing import Any, Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor
from billing.listing.records import Field, Search, Source

#: Every action that can be on record; web/site/texts.py words each as ``audit.ACTION``.
ACTIONS: Final = (
    "signed_in",
    "sign_in_failed",
    "signed_out",
    "password_changed",
    "password_change_failed",
    "payments_listed",
    "payment_viewed",
    "payment_cancel_asked",
    "payment_cancelled",
    "payments_exported",
    "attempts_listed",
    "attempts_forgotten",
    "list_viewed",
    "list_exported",
    "list_view_saved",
    "list_view_removed",
    "bulk_started",
    "customer_viewed",
    "order_viewed",
    "run_viewed",
    "invoice_viewed",
    "partners_listed",
    "partner_viewed",
    "partner_added",
    "partner_contract_set",
    "partner_key_added",
    "partner_key_retired",
    "partner_paused",
    "partner_resumed",
    "catalogue_loaded",
    "customer_added",
    "customer_changed",
    "customer_moved",
    "customer_closed",
    "customer_account_added",
    "customers_imported",
    "legal_entity_set",
    "job_cancelled",
    "job_retried",
    "schedule_added",
    "schedule_changed",
    "schedule_instant_skipped",
    "schedule_instant_unskipped",
    "schedule_paused",
    "schedule_removed",
    "schedule_resumed",
    "schedule_run_asked",
    "working_days_loaded",
    "posting_requested",
    "posting_posted",
    "posting_approved",
    "posting_rejected",
    "user_added",
    "user_role_set",
    "user_state_set",
    "user_password_reset",
    "users_listed",
    "audit_listed",
    "denied",
)

#: Those that change something, as against looking and signing in.
CHANGES: Final = (
    "password_changed",
    "payment_cancel_asked",
    "payment_cancelled",
    "attempts_forgotten",
    "list_view_saved",
    "list_view_removed",
    "bulk_started",
    "partner_added",
    "partner_contract_set",
    "partner_key_added",
    "partner_key_retired",
    "partner_paused",
    "partner_resumed",
    "catalogue_loaded",
    "customer_added",
    "customer_changed",
    "customer_moved",
    "customer_closed",
    "customer_account_added",
    "customers_imported",
    "legal_entity_set",
    "job_cancelled",
    "job_retried",
    "schedule_added",
    "schedule_changed",
    "schedule_instant_skipped",
    "schedule_instant_unskipped",
    "schedule_paused",
    "schedule_removed",
    "schedule_resumed",
    "schedule_run_asked",
    "working_days_loaded",
    "posting_requested",
    "posting_posted",
    "posting_approved",
    "posting_rejected",
    "user_added",
    "user_role_set",
    "user_state_set",
    "user_password_reset",
)
assert tuple(action for action in ACTIONS if action in CHANGES) == CHANGES  # the order of a canonical address

_INSERT: Final = """
INSERT INTO audit (actor, action, object_kind, object_id, detail, remote_ip) VALUES (%s, %s, %s, %s, %s, %s)
"""

#: The record as a list. An actor is asked for as people name him: a user by the login alone.
AUDIT_ROWS: Final = Source(
    "audit",
    table="audit t",
    key="t.id",
    key_type="bigint",
    fields={
        "at": Field("t.at", (), "timestamptz", Search.RANGE, is_ordered=True, is_quick=True),
        "actor": Field("t.actor", search=Search.CODE, equals="t.actor IN ({0}, 'user:' || {0})", is_quick=True),
        "action": Field("t.action", search=Search.CHOICE),
        "object": Field("t.object_id", search=Search.CODE, equals="t.object_id = {0}", is_quick=True, is_null=True),
        "object_kind": Field("t.object_kind"),
        "detail": Field("t.detail", (), "json"),
        "address": Field("t.remote_ip", search=Search.CODE, is_null=True),
    },
)


async def record(
    cur: Cursor,
    actor: str,
    action: str,
    remote_ip: str,
    object_kind: str = "",
    object_id: str = "",
    **detail: Any,
) -> None:
    """Append one entry. ``action`` is one of ACTIONS; ``detail`` is JSON."""
    if action not in ACTIONS:
        raise ValueError(f"not an action of the audit record: {action}")
    await cur.execute(_INSERT, (actor, action, object_kind, object_id, Json(detail), remote_ip))
