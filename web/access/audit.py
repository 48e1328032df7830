"""The record of what people saw and did: append-only, by the database itself.

Rules. Written before the thing it names is shown, and in the transaction of the thing it names where that has one:
what could not be recorded does not happen. Functions take the caller's aiopg cursor. Of a change it keeps what was
before and what is after, of changed facts alone. No passwords, no tokens, no keys: of a secret it says that it changed.
A login that does not exist is not kept either, for people type their password into the wrong field.

Does not know: pages, roles.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor
from web.access.actors import Actor

#: Every action that can be on record; web/site/words.py has their words.
ACTIONS: Final = (
    "signed_in",
    "sign_in_failed",
    "signed_out",
    "password_changed",
    "password_change_failed",
    "searched",
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
    "job_file_read",
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
    "delivery_viewed",
    "delivery_pushed",
    "delivery_resent",
    "delivery_settled",
    "delivery_given_up",
    "delivery_queue_held",
    "delivery_queue_released",
    "delivery_policy_set",
    "deliveries_forgotten",
    "webhook_added",
    "webhook_rotated",
    "webhook_disabled",
    "webhook_enabled",
    "webhook_tested",
    "mail_tested",
    "user_added",
    "user_role_set",
    "user_state_set",
    "user_password_reset",
    "role_added",
    "role_changed",
    "role_removed",
    "approval_asked",
    "approval_done",
    "approval_refused",
    "approval_withdrawn",
    "approval_lapsed",
    "sessions_ended",
    "token_made",
    "token_revoked",
    "users_listed",
    "roles_listed",
    "approvals_listed",
    "audit_listed",
    "denied",
)

#: Those that look, sign in or were refused, beside the ones whose names end so.
_LOOKS: Final = frozenset(
    {"signed_in", "sign_in_failed", "signed_out", "password_change_failed", "searched", "job_file_read", "denied"}
)
_LOOK_ENDINGS: Final = ("_listed", "_viewed", "_exported")
#: Those that change something.
CHANGES: Final = tuple(action for action in ACTIONS if action not in _LOOKS and not action.endswith(_LOOK_ENDINGS))

#: What stands for a secret.
MASK: Final = "•••"
_SECRET: Final = re.compile(r"(?i)passw|passphrase|secret|token|private|credential|pin_code")

_INSERT: Final = """
INSERT INTO audit (actor, action, object_kind, object_id, detail, remote_ip, changes, request_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
# Keyset on the primary key; ids of entries committed late may be lower than one already shown, and are then found by
# opening the first page again.
_LIST: Final = """
SELECT id, at, actor, action, object_kind, object_id, detail, remote_ip, changes, request_id FROM audit
WHERE at >= %(start)s AND at < %(end)s
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(text)s = '' OR object_id = %(text)s OR actor = %(text)s OR actor = 'user:' || %(text)s
       OR (request_id = %(text)s AND request_id <> '')
       OR (jsonb_to_tsvector('simple', detail || changes, '["all"]') @@ plainto_tsquery('simple', %(text)s)
           AND action <> 'audit_listed'))
  AND (%(actor)s = '' OR actor = %(actor)s OR actor = 'user:' || %(actor)s)
  AND (%(object_kind)s = '' OR object_kind = %(object_kind)s)
  AND (%(object_id)s = '' OR object_id = %(object_id)s)
  AND (%(actions)s::text[] = '{}' OR action = ANY(%(actions)s::text[]))
ORDER BY id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the record. changes: fact -> (before, after), of a change. request_id: of the request or command."""

    id: int
    at: datetime
    actor: str
    action: str
    object_kind: str
    object_id: str
    detail: Mapping[str, Any]
    remote_ip: str
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to list. start and end: aware UTC, half-open. Empty: all.

    text: an object's id, an actor, a request's id, or whole words of what was recorded. actor: with or without `user:`.
    """

    start: datetime
    end: datetime
    text: str = ""
    actions: tuple[str, ...] = ()
    actor: str = ""
    object_kind: str = ""
    object_id: str = ""


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
    await _append(cur, actor, action, remote_ip, object_kind, object_id, detail, {}, "")


async def record_as(
    cur: Cursor,
    who: Actor,
    action: str,
    object_kind: str = "",
    object_id: str = "",
    /,
    changes: Mapping[str, Sequence[Any]] | None = None,
    **detail: Any,
) -> None:
    """Append an entry of what an actor did.

    Args:
        changes: fact -> (before, after), of facts that changed, as `changed_facts` finds them.
        detail: JSON, beside what the actor claims of itself.
    """
    told = {**detail, **who.claims}
    await _append(cur, who.name, action, who.address, object_kind, object_id, told, changes or {}, who.request_id)


async def _append(
    cur: Cursor,
    actor: str,
    action: str,
    remote_ip: str,
    object_kind: str,
    object_id: str,
    detail: Mapping[str, Any],
    changes: Mapping[str, Sequence[Any]],
    request_id: str,
) -> None:
    if action not in ACTIONS:
        raise ValueError(f"not an action of the audit record: {action}")
    pairs = {fact: list(pair) for fact, pair in changes.items()}
    values = (actor, action, object_kind, object_id, Json(dict(detail)), remote_ip, Json(pairs), request_id)
    await cur.execute(_INSERT, values)


def changed_facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What changed, as fact -> (before, after); a fact that was not, or is not any more, is None. Pure.

    Facts within facts are named with a dot. What a name calls a secret is masked.

    >>> changed_facts({"name": "A", "dialect": {"cancel": "no", "secret": 1}}, {"name": "A", "dialect": {"secret": 2}})
    {'dialect.cancel': ('no', None), 'dialect.secret': ('•••', '•••')}
    """
    was, is_ = _flat(before), _flat(after)
    changed = [fact for fact in dict.fromkeys([*was, *is_]) if not _is_same(was.get(fact), is_.get(fact))]
    return {fact: (_masked(fact, was.get(fact)), _masked(fact, is_.get(fact))) for fact in changed}


def _is_same(before: Any, after: Any) -> bool:
    """Nothing said is the same in whichever way nothing is said; no is not nothing."""
    return before == after or (before in (None, "", []) and after in (None, "", []))


def _flat(facts: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in facts.items():
        found |= _flat(value, f"{within}{name}.") if isinstance(value, Mapping) else {within + name: value}
    return found


def _masked(fact: str, value: Any) -> Any:
    return MASK if value not in (None, "") and _SECRET.search(fact) else value


async def list_entries(cur: Cursor, wanted: AuditFilter, before: int | None, limit: int) -> list[Entry]:
    """Newest first, those with an id below ``before``."""
    values = {
        "start": wanted.start,
        "end": wanted.end,
        "before": before,
        "text": wanted.text,
        "actor": wanted.actor,
        "object_kind": wanted.object_kind,
        "object_id": wanted.object_id,
        "actions": list(wanted.actions),
        "limit": limit,
    }
    await cur.execute(_LIST, values)
    entries = [Entry(*row) for row in await cur.fetchall()]
    return [replace(entry, changes={fact: tuple(pair) for fact, pair in entry.changes.items()}) for entry in entries]
