"""Webhook endpoints and their secrets as rows.

Rules. A secret is sealed with the passphrase of the gateway's keys where there is one. What any enabled endpoint wants
is kept beside the outbox, so that nothing is written there that nobody is told. The caller owns the transaction.

Does not know: what an endpoint may be (endpoints), sending.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from adapters.standard_webhooks import secret_key
from billing.database.cursors import Cursor
from billing.database.rows import records
from gateway.channels.endpoints import Endpoint, EndpointError, EndpointRow, Expects, wants
from gateway.events.types import TOPICS
from gateway.partners.key_material import is_sealed, seal, unsealed

KIND: Final = "webhook"

_ADD: Final = """
    INSERT INTO webhook_endpoints (name, url, types, expects, expected_type, expected_text, created_by)
    VALUES (%(name)s, %(url)s, %(types)s, %(expects)s, %(expected_type)s, %(expected_text)s, %(actor)s)
    ON CONFLICT (name) DO NOTHING RETURNING id
"""
_KNOW_QUEUE: Final = """
    INSERT INTO delivery_recipients (kind, recipient) VALUES ('webhook', %(name)s) ON CONFLICT DO NOTHING
"""
_ADD_SECRET: Final = """
    INSERT INTO webhook_secrets (endpoint_id, material, created_by) VALUES (%(id)s, %(material)s, %(actor)s)
"""
_ID: Final = "SELECT id FROM webhook_endpoints WHERE name = %(name)s FOR UPDATE"
_CLOSE_SECRETS: Final = """
    UPDATE webhook_secrets SET valid_to = %(until)s
    WHERE endpoint_id = %(id)s AND (valid_to IS NULL OR valid_to > %(until)s)
"""
_SET_ENABLED: Final = "UPDATE webhook_endpoints SET is_enabled = %(enabled)s WHERE id = %(id)s"

#: A queue that the engine itself holds takes nothing new: its receiver said that it is gone, or failed for days.
_ENDPOINTS: Final = """
    SELECT e.name, e.url, e.types, e.expects, e.expected_type, e.expected_text,
           e.is_enabled AND coalesce(r.held_by, '') <> 'system:deliveries' AS is_enabled,
           ARRAY(SELECT s.material FROM webhook_secrets s
                 WHERE s.endpoint_id = e.id AND (s.valid_to IS NULL OR s.valid_to > now()) ORDER BY s.id DESC)
    FROM webhook_endpoints e
    LEFT JOIN delivery_recipients r ON r.kind = 'webhook' AND r.recipient = e.name
    ORDER BY e.name
"""

_LIST: Final = """
    SELECT e.name, e.url, e.types, e.expects, e.expected_type, e.expected_text, e.is_enabled,
           coalesce(r.held_why, '') AS held_why, coalesce(r.held_by, '') AS held_by, e.created_by, e.created_at,
           (SELECT count(*) FROM webhook_secrets s
            WHERE s.endpoint_id = e.id AND (s.valid_to IS NULL OR s.valid_to > now())) AS secrets,
           (SELECT count(*) FROM deliveries d WHERE d.kind = 'webhook' AND d.recipient = e.name
              AND d.state IN ('waiting', 'sending', 'unknown')) AS waiting,
           (SELECT count(*) FROM deliveries d
            WHERE d.kind = 'webhook' AND d.recipient = e.name AND d.state = 'manual') AS manual,
           r.failing_since
    FROM webhook_endpoints e
    LEFT JOIN delivery_recipients r ON r.kind = 'webhook' AND r.recipient = e.name
    ORDER BY e.name
"""
_WANTED: Final = "SELECT types FROM webhook_endpoints WHERE is_enabled"
_SET_WANTED: Final = """
    UPDATE event_topics SET is_wanted = topic = ANY(%(topics)s) WHERE is_wanted <> (topic = ANY(%(topics)s))
"""


async def add_endpoint(
    cur: Cursor,
    name: str,
    url: str,
    types: Sequence[str],
    secret: str,
    actor: str,
    *,
    passphrase: str,
    expects: Expects = "no_page",
    expected_type: str = "",
    expected_text: str = "",
) -> None:
    """Add an endpoint with its first secret.

    Raises:
        EndpointError: there is one of that name.
    """
    values = {"name": name, "url": url, "types": list(types), "actor": actor}
    expected = {"expects": expects, "expected_type": expected_type, "expected_text": expected_text}
    await cur.execute(_ADD, {**values, **expected})
    row = await cur.fetchone()
    if row is None:
        raise EndpointError(f"there is an endpoint {name!r} already", code="endpoint_exists", endpoint=name)
    await cur.execute(_KNOW_QUEUE, {"name": name})
    await cur.execute(_ADD_SECRET, {"id": row[0], "material": _stored(secret, passphrase), "actor": actor})
    await _tell_wanted(cur)


async def rotate_secret(cur: Cursor, name: str, secret: str, actor: str, until: datetime, *, passphrase: str) -> None:
    """Sign with a new secret from now on, and with those there are until ``until``.

    Raises:
        EndpointError: there is no such endpoint.
    """
    endpoint_id = await _hold_endpoint(cur, name)
    await cur.execute(_CLOSE_SECRETS, {"id": endpoint_id, "until": until})
    await cur.execute(_ADD_SECRET, {"id": endpoint_id, "material": _stored(secret, passphrase), "actor": actor})


async def set_enabled(cur: Cursor, name: str, enabled: bool) -> None:
    """Queue new events for an endpoint, or none.

    Raises:
        EndpointError: there is no such endpoint.
    """
    await cur.execute(_SET_ENABLED, {"id": await _hold_endpoint(cur, name), "enabled": enabled})
    await _tell_wanted(cur)


async def list_endpoints(cur: Cursor) -> list[EndpointRow]:
    """All endpoints for people, by name."""
    await cur.execute(_LIST)
    return await records(cur, EndpointRow)


async def read_endpoints(cur: Cursor, passphrase: str) -> dict[str, Endpoint]:
    """All endpoints with the keys that sign now, by name. One whose secrets cannot be opened has no keys."""
    await cur.execute(_ENDPOINTS)
    endpoints = {}
    for name, url, types, expects, expected_type, expected_text, is_enabled, materials in await cur.fetchall():
        keys = tuple(key for material in materials if (key := _opened(material, passphrase)) is not None)
        endpoints[name] = Endpoint(name, url, tuple(types), expects, expected_type, expected_text, is_enabled, keys)
    return endpoints


async def _tell_wanted(cur: Cursor) -> None:
    await cur.execute(_WANTED)
    patterns = [pattern for row in await cur.fetchall() for pattern in row[0]]
    topics = sorted({topic for event_type, topic in TOPICS.items() if wants(patterns, event_type)})
    await cur.execute(_SET_WANTED, {"topics": topics})


async def _hold_endpoint(cur: Cursor, name: str) -> int:
    await cur.execute(_ID, {"name": name})
    row = await cur.fetchone()
    if row is None:
        raise EndpointError(f"there is no endpoint {name[:40]!r}", code="endpoint_unknown", endpoint=name[:40])
    return int(row[0])


def _stored(secret: str, passphrase: str) -> str:
    return seal(secret, passphrase) if passphrase else secret


def _opened(material: str, passphrase: str) -> bytes | None:
    try:
        return secret_key(unsealed(material, passphrase).decode() if is_sealed(material) else material)
    except ValueError:
        return None
