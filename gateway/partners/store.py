"""SQL of partners, contracts and keys. One call is one round trip.

Rules. Every function takes the caller's cursor, and the caller owns the transaction. Rows become records before they
leave. A contract version and a key are only ever added; of a key the end alone changes.

Does not know: whether a contract holds, what key material is.
"""

import json
from datetime import datetime
from typing import Any, Final, NamedTuple

from billing.database.cursors import Cursor
from gateway.partners.records import ContractError


class StoredContract(NamedTuple):
    """A partner with its newest contract, in the order of the columns of `_PARTNERS`.

    clearing_balance: minor units. stripping: the contract's versions, older ones too, that drop zeros at the front of
    account numbers.
    """

    partner_id: int
    code: str
    name: str
    state: str
    version: int
    body: dict[str, Any]
    clearing_account_id: int
    clearing_balance: int
    currency: str
    stripping: list[int]


class KeyRow(NamedTuple):
    """A key as it is stored, in the order of the columns of `_USABLE_KEYS`; valid_to None is without end."""

    partner_id: int
    key_id: int
    purpose: str
    material: str
    valid_from: datetime
    valid_to: datetime | None


class RsaKeyRow(NamedTuple):
    """An RSA key that is or will be valid, in the order of the columns of `_RSA_KEYS`; material as stored."""

    key_id: int
    partner: str
    purpose: str
    material: str


_PARTNERS: Final = """
    SELECT p.id, p.code, p.name, p.state, c.version, c.body, p.clearing_account_id, a.balance_minor, a.currency,
        ARRAY(SELECT version FROM contracts WHERE partner_id = p.id AND body @> '{"strip_leading_zeros": true}')
    FROM partners p
    JOIN accounts a ON a.id = p.clearing_account_id
    JOIN LATERAL (SELECT version, body FROM contracts WHERE partner_id = p.id ORDER BY version DESC LIMIT 1) c ON true
    ORDER BY p.code
"""

_USABLE_KEYS: Final = """
    SELECT partner_id, id, purpose, material, valid_from, valid_to FROM partner_keys
    WHERE valid_to IS NULL OR valid_to > now() ORDER BY valid_from DESC, id DESC
"""

#: By number, which is a unique index: there is none by kind, and the accounts may be millions.
_TRANSIT: Final = "SELECT currency, id FROM accounts WHERE number = ANY(%(numbers)s) AND kind = 'transit'"

_ADD_PARTNER: Final = """
    INSERT INTO partners (code, name, clearing_account_id) VALUES (%s, %s, %s)
    ON CONFLICT (code) DO NOTHING RETURNING id
"""

_ADD_CONTRACT: Final = """
    INSERT INTO contracts (partner_id, version, body, created_by)
    SELECT %(partner_id)s, coalesce(max(version), 0) + 1, %(body)s::jsonb, %(actor)s
    FROM contracts WHERE partner_id = %(partner_id)s
    RETURNING version
"""

_ADD_KEY: Final = """
    INSERT INTO partner_keys (partner_id, purpose, material, valid_from, valid_to, created_by)
    VALUES (%s, %s, %s, coalesce(%s, now()), %s, %s) RETURNING id
"""

_RSA_KEYS: Final = """
    SELECT k.id, p.code, k.purpose, k.material FROM partner_keys k JOIN partners p ON p.id = k.partner_id
    WHERE k.purpose IN ('verify', 'sign') AND (k.valid_to IS NULL OR k.valid_to > now())
    ORDER BY p.code, k.id
"""

_KEYS_OF: Final = """
    SELECT id, purpose, valid_from, valid_to, created_by FROM partner_keys WHERE partner_id = %s ORDER BY id
"""

_CURRENCY_OF: Final = """
    SELECT a.currency FROM partners p JOIN accounts a ON a.id = p.clearing_account_id WHERE p.id = %s
"""

_PARTNER_OF_KEY: Final = "SELECT p.code FROM partner_keys k JOIN partners p ON p.id = k.partner_id WHERE k.id = %s"

_END_KEY: Final = "UPDATE partner_keys SET valid_to = greatest(%s, valid_from) WHERE id = %s"


async def revision(cur: Cursor) -> int:
    """The number that moves with every change of partners, contracts or keys."""
    await cur.execute("SELECT revision FROM contracts_revision")
    return int((await cur.fetchone())[0])


async def begin_snapshot(cur: Cursor) -> None:
    """Begin a transaction whose statements all see one instant."""
    await cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


async def read_partners(cur: Cursor) -> list[StoredContract]:
    """Every partner with its newest contract, by code."""
    await cur.execute(_PARTNERS)
    return [StoredContract(*row) for row in await cur.fetchall()]


async def read_keys(cur: Cursor) -> dict[int, list[KeyRow]]:
    """The keys that are or will be valid, by partner id, the one that comes into force last first."""
    await cur.execute(_USABLE_KEYS)
    keys: dict[int, list[KeyRow]] = {}
    for row in await cur.fetchall():
        key = KeyRow(*row)
        keys.setdefault(key.partner_id, []).append(key)
    return keys


async def read_transits(cur: Cursor, currencies: set[str]) -> dict[str, int]:
    """The ids of the transit accounts by currency."""
    await cur.execute(_TRANSIT, {"numbers": sorted(f"transit:{currency}" for currency in currencies)})
    return {row[0]: row[1] for row in await cur.fetchall()}


async def read_rsa_keys(cur: Cursor) -> list[RsaKeyRow]:
    """Every RSA key that is or will be valid, by partner's code and id."""
    await cur.execute(_RSA_KEYS)
    return [RsaKeyRow(*row) for row in await cur.fetchall()]


async def partner_id_of(cur: Cursor, code: str) -> int:
    """A partner's id.

    Raises:
        ContractError: there is none of this code.
    """
    await cur.execute("SELECT id FROM partners WHERE code = %s", (code,))
    row = await cur.fetchone()
    if row is None:
        raise ContractError(f"there is no partner {code[:40]!r}")
    return int(row[0])


async def currency_of(cur: Cursor, partner_id: int) -> str:
    """The currency of a partner's clearing account."""
    await cur.execute(_CURRENCY_OF, (partner_id,))
    return str((await cur.fetchone())[0])


async def insert_partner(cur: Cursor, code: str, name: str, clearing_account_id: int) -> int | None:
    """A new partner's id; None when the code is taken."""
    await cur.execute(_ADD_PARTNER, (code, name, clearing_account_id))
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def insert_contract(cur: Cursor, partner_id: int, body: dict[str, Any], actor: str) -> int:
    """The number of the version that was added."""
    await cur.execute(_ADD_CONTRACT, {"partner_id": partner_id, "body": json.dumps(body), "actor": actor})
    return int((await cur.fetchone())[0])


async def write_state(cur: Cursor, partner_id: int, state: str) -> None:
    """Set a partner's state."""
    await cur.execute("UPDATE partners SET state = %s WHERE id = %s", (state, partner_id))


async def insert_key(
    cur: Cursor,
    partner_id: int,
    purpose: str,
    material: str,
    valid_from: datetime | None,
    valid_to: datetime | None,
    actor: str,
) -> int:
    """The id of the key that was added. valid_from: None is now."""
    await cur.execute(_ADD_KEY, (partner_id, purpose, material, valid_from, valid_to, actor))
    return int((await cur.fetchone())[0])


async def partner_of_key(cur: Cursor, key_id: int) -> str | None:
    """The code of a key's partner; None when there is no such key."""
    await cur.execute(_PARTNER_OF_KEY, (key_id,))
    row = await cur.fetchone()
    return None if row is None else str(row[0])


async def end_key(cur: Cursor, key_id: int, at: datetime) -> None:
    """End a key's validity, not before its start."""
    await cur.execute(_END_KEY, (at, key_id))


async def keys_of(cur: Cursor, partner_id: int) -> list[tuple[int, str, datetime, datetime | None, str]]:
    """(id, purpose, valid_from, valid_to, created_by) of a partner's keys, without their material."""
    await cur.execute(_KEYS_OF, (partner_id,))
    return [tuple(row) for row in await cur.fetchall()]
