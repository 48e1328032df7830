"""Partners and their contracts: listed, connected, changed, paused. For the command, the pages and later the API.

Rules. A contract version is never changed; a change is a new version. A contract is checked whole, by its dialect too,
before it is stored. A partner keeps its currency.

Does not know: SQL, keys, what a dialect's settings mean (adapters.protocols), what a gateway makes of it
(gateway.partners.contract_book).
"""

import re
from typing import Any, Final

from adapters.messages import Contract
from adapters.protocols import contract_from_json
from billing.database.cursors import Cursor
from billing.ledger.account_store import system_account
from gateway.partners import store
from gateway.partners.records import ContractError, PartnerRow

#: A partner's code is the last part of its address.
CODE: Final = re.compile("[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


async def list_partners(cur: Cursor) -> list[PartnerRow]:
    """Every partner with its newest contract, by code."""
    return [
        PartnerRow(
            row.partner_id,
            row.code,
            row.name,
            row.state,
            row.body.get("protocol", ""),
            row.version,
            row.clearing_balance,
            row.body,
        )
        for row in await store.read_partners(cur)
    ]


async def add_partner(cur: Cursor, code: str, name: str, body: dict[str, Any], actor: str) -> int:
    """Connect a partner: the row, its clearing account and version 1 of its contract. Returns the partner's id.

    Raises:
        ContractError: no code or one that is taken, or a contract that does not hold (the sentence names the field).
    """
    if CODE.fullmatch(code) is None:
        raise ContractError(
            f"code {code[:40]!r} must be 1 to 32 small Latin letters, digits and dashes, and not begin with a dash"
        )
    contract = _checked(0, code, 1, body)
    clearing = await system_account(cur, "clearing", code, contract.currency)
    await system_account(cur, "transit", "", contract.currency)
    partner_id = await store.insert_partner(cur, code, name, clearing)
    if partner_id is None:
        raise ContractError(f"there is a partner {code!r} already; change it with set")
    await store.insert_contract(cur, partner_id, body, actor)
    return partner_id


async def set_contract(cur: Cursor, code: str, body: dict[str, Any], actor: str) -> int:
    """Write the next version of a partner's contract; returns its number.

    Raises:
        ContractError: no such partner, a contract that does not hold, or another currency than before.
    """
    partner_id = await store.partner_id_of(cur, code)
    contract = _checked(partner_id, code, 1, body)
    if await store.currency_of(cur, partner_id) != contract.currency:
        raise ContractError("a partner's currency cannot change: connect it again under another code")
    return await store.insert_contract(cur, partner_id, body, actor)


async def set_partner_state(cur: Cursor, code: str, state: str) -> None:
    """Pause a partner (every call gets the protocol's temporary code) or resume it.

    Raises:
        ContractError: no such partner or state.
    """
    if state not in ("active", "paused"):
        raise ContractError(f"state {state[:40]!r} must be active or paused")
    await store.write_state(cur, await store.partner_id_of(cur, code), state)


def _checked(partner_id: int, code: str, version: int, body: dict[str, Any]) -> Contract:
    try:
        return contract_from_json(partner_id, code, version, body, active=True)
    except ContractError:
        raise
    except ValueError as error:
        raise ContractError(str(error)) from error
