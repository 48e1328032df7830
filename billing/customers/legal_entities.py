"""Legal entities: the sellers, what an invoice shows of them, and the prefixes of their series of numbers.

Rules. A prefix is part of every number of its series, so it stays once a number was given; it belongs to one entity.

Does not know: invoices. Functions take the caller's aiopg cursor.
"""

import re
from typing import Final

from billing.customers.legal_entities_store import list_entities, prefix_taken, write_entity, write_prefix
from billing.customers.records import LegalEntity
from billing.customers.rules import ENTITY_DETAILS, CustomerError, problem_with_texts
from billing.database.cursors import Cursor

_NUMBER: Final = re.compile(r"[0-9A-Za-z._-]{1,30}", re.ASCII)
MAX_PREFIX: Final = 20


async def set_entity(cur: Cursor, entity: LegalEntity) -> None:
    """Add a legal entity or change one; prefixes it does not name stay, and a new one needs both.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    is_known = entity.number in {known.number for known in await list_entities(cur)}
    problem = problem_with_entity(entity, is_known)
    if problem:
        raise CustomerError(problem)
    taken = await prefix_taken(cur, entity)
    if taken is not None:
        raise CustomerError(f"prefix {taken[1]!r} is that of legal entity {taken[0]} already")
    entity_id = await write_entity(cur, entity)
    for kind, prefix in entity.prefixes.items():
        if not await write_prefix(cur, entity_id, kind, prefix):
            raise CustomerError(f"numbers were given in the series of {kind}s already, so its prefix stays")


def problem_with_entity(entity: LegalEntity, is_known: bool) -> str | None:
    """What is wrong with a legal entity, as a sentence, or None."""
    if not _NUMBER.fullmatch(entity.number):
        return f"legal entity {entity.number[:40]!r} must be 1 to 30 letters, digits or ._-"
    problem = problem_with_texts(ENTITY_DETAILS, entity.details)
    if problem or not entity.name:
        return problem or "a legal entity needs a name"
    if not is_known and {"invoice", "credit_note"} - set(entity.prefixes):
        return "a new legal entity needs a prefix for its invoices and one for its credit notes"
    if any(len(prefix) > MAX_PREFIX or not prefix.isprintable() for prefix in entity.prefixes.values()):
        return f"a prefix must be printable and at most {MAX_PREFIX} characters"
    if len(set(entity.prefixes.values())) < len(entity.prefixes):
        return "invoices and credit notes need prefixes of their own"
    return None
