"""Legal entities in PostgreSQL, with the prefixes of their series.

Does not know: what an entity may say (billing.customers.legal_entities). Functions take the caller's aiopg cursor.
"""

import json
from typing import Final

from billing.customers.records import LegalEntity
from billing.database.cursors import Cursor
from billing.database.rows import records

_ENTITIES: Final = """
    SELECT e.number, e.name, e.details, jsonb_object_agg(s.kind, s.prefix) AS prefixes
    FROM legal_entities e JOIN invoice_series s ON s.legal_entity_id = e.id
    GROUP BY e.id ORDER BY e.id
"""

_SET_ENTITY: Final = """
    INSERT INTO legal_entities (number, name, details) VALUES (%(number)s, %(name)s, %(details)s::jsonb)
    ON CONFLICT (number) DO UPDATE SET name = excluded.name, details = excluded.details
    RETURNING id
"""

#: A prefix is part of every number of its series, so it stays once a number was given.
_SET_SERIES: Final = """
    INSERT INTO invoice_series AS s (legal_entity_id, kind, prefix) VALUES (%s, %s, %s)
    ON CONFLICT (legal_entity_id, kind) DO UPDATE SET prefix = excluded.prefix
    WHERE s.next_number = 1 OR s.prefix = excluded.prefix
    RETURNING id
"""

_PREFIX_TAKEN: Final = """
    SELECT e.number, s.prefix FROM invoice_series s JOIN legal_entities e ON e.id = s.legal_entity_id
    WHERE s.prefix = ANY(%(prefixes)s::text[]) AND e.number <> %(number)s LIMIT 1
"""


async def list_entities(cur: Cursor) -> list[LegalEntity]:
    """All legal entities, the first one first."""
    await cur.execute(_ENTITIES)
    return await records(cur, LegalEntity)


async def prefix_taken(cur: Cursor, entity: LegalEntity) -> tuple[str, str] | None:
    """Another entity's number and the prefix of this one's that it has; None if it has none."""
    await cur.execute(_PREFIX_TAKEN, {"prefixes": list(entity.prefixes.values()), "number": entity.number})
    row = await cur.fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


async def write_entity(cur: Cursor, entity: LegalEntity) -> int:
    """Add or change an entity without its prefixes; returns its id."""
    details = json.dumps(dict(entity.details), ensure_ascii=False)
    await cur.execute(_SET_ENTITY, {"number": entity.number, "name": entity.name, "details": details})
    return int((await cur.fetchone())[0])


async def write_prefix(cur: Cursor, entity_id: int, kind: str, prefix: str) -> bool:
    """Set the prefix of a series; False if numbers were given with another one."""
    await cur.execute(_SET_SERIES, (entity_id, kind, prefix))
    return await cur.fetchone() is not None
