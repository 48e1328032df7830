"""The record of what people saw and did: append-only, by the database itself.

Rules. Written before the thing it names is shown, and in the transaction of the thing it names where that has one:
what could not be recorded does not happen. Functions take the caller's aiopg cursor. No passwords, no tokens; a login
that does not exist is not kept either, for people type their password into the wrong field.

Does not know: pages, roles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor

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
# Keyset on the primary key; ids of entries committed late may be lower than one already shown, and are then found by
# opening the first page again.
_LIST: Final = """
SELECT id, at, actor, action, object_kind, object_id, detail, remote_ip FROM audit
WHERE at >= %(start)s AND at < %(end)s
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(text)s = '' OR object_id = %(text)s OR actor = %(text)s OR actor = 'user:' || %(text)s)
  AND (%(actions)s::text[] = '{}' OR action = ANY(%(actions)s::text[]))
ORDER BY id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the record."""

    id: int
    at: datetime
    actor: str
    action: str
    object_kind: str
    object_id: str
    detail: Mapping[str, Any]
    remote_ip: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to list. start and end: aware UTC, half-open. text: an object's id or an actor; actions: empty is all."""

    start: datetime
    end: datetime
    text: str = ""
    actions: tuple[str, ...] = ()


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


async def list_entries(cur: Cursor, wanted: AuditFilter, before: int | None, limit: int) -> list[Entry]:
    """Newest first, those with an id below ``before``."""
    values = {
        "start": wanted.start,
        "end": wanted.end,
        "before": before,
        "text": wanted.text,
        "actions": list(wanted.actions),
        "limit": limit,
    }
    await cur.execute(_LIST, values)
    return [Entry(*row) for row in await cur.fetchall()]
