"""Roles as rows: what each grants, and their changes.

Rules. Functions take the caller's aiopg cursor; changes stand inside its transaction. Nobody grants a right that he
lacks: whoever changes a role covers it before and after (`Access.covers`). A change names the version of the role it
was made of, so of two administrators the second one is told. System roles stay as the program has them. After every
change somebody still administers. All changes of who may do what take the rows of all roles first (`hold_access`).

Does not know: pages, the audit record (the caller writes it in the same transaction), who asks for a second person's
approval (web/access/approvals.py).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import psycopg2.errors
from psycopg2.extras import Json

from billing.database.cursors import Cursor
from billing.language import N_
from billing.refusals import Refusal
from web.access.rights import ALONE, RIGHTS, SYSTEM_ROLES, Access, Grant, Right, right_of

NAME_MAX: Final = 64
_NAME: Final = re.compile(r"\S(.{0,62}\S)?")
MAX_ROLES: Final = 200
#: A limit above this is none: the ledger's sums are smaller.
_LIMIT_MAX: Final = 10**17

#: A role as JSON, of `roles r`; web/access/users.py reads a user's roles with it.
ROLE_JSON: Final = """jsonb_build_object(
    'id', r.id, 'code', r.code, 'name', r.name, 'rights', r.rights, 'limits', r.limits, 'is_limited', r.is_limited,
    'entities', (SELECT coalesce(jsonb_agg(e.legal_entity_id ORDER BY e.legal_entity_id), '[]')
                 FROM role_legal_entities e WHERE e.role_id = r.id))"""

_READ: Final = f"""
SELECT {ROLE_JSON}, r.version, r.changed_by, r.changed_at, (SELECT count(*) FROM user_roles u WHERE u.role_id = r.id)
FROM roles r
"""
_LIST: Final = f"{_READ} ORDER BY r.code IS NULL, array_position(%s::text[], r.code), lower(r.name), r.id"
_ONE: Final = f"{_READ} WHERE r.id = %s"
_HOLD: Final = "SELECT id FROM roles ORDER BY id FOR UPDATE"
_ADMINISTRATORS: Final = f"""
SELECT u.login, jsonb_agg({ROLE_JSON}) FROM users u
JOIN user_roles ur ON ur.user_id = u.id JOIN roles r ON r.id = ur.role_id
WHERE u.state = 'active' GROUP BY u.login
"""
_INSERT: Final = """
INSERT INTO roles (name, rights, limits, is_limited, changed_by)
SELECT %(name)s, %(rights)s, %(limits)s, %(is_limited)s, %(actor)s WHERE (SELECT count(*) FROM roles) < %(most)s
RETURNING id
"""
_UPDATE: Final = """
UPDATE roles SET name = %(name)s, rights = %(rights)s, limits = %(limits)s, is_limited = %(is_limited)s,
    version = version + 1, changed_by = %(actor)s, changed_at = now() WHERE id = %(id)s
"""
_DELETE: Final = "DELETE FROM roles WHERE id = %s"
_FORGET_ENTITIES: Final = "DELETE FROM role_legal_entities WHERE role_id = %s"
_ADD_ENTITIES: Final = """
INSERT INTO role_legal_entities (role_id, legal_entity_id)
SELECT %(id)s, l.id FROM legal_entities l WHERE l.number = ANY(%(numbers)s::text[])
"""
_ENTITIES: Final = "SELECT id, number, name FROM legal_entities ORDER BY id"


class AccessError(Refusal):
    """What was asked of users, roles or approvals cannot be.

    message: English, for pages, which translate it and put in the values. field: of the form, where it is one's fault.
    `str()` is for the command, which begins its sentences small.
    """

    default_code = "access_refused"

    def __init__(self, message: str, /, *, field: str = "", **values: Any) -> None:
        sentence = message % values if values else message
        super().__init__(sentence[:1].lower() + sentence[1:], **values)
        self.message = message
        self.field = field


class StaleError(AccessError):
    """It was changed meanwhile: look again, then ask again."""

    default_code = "stale"


@dataclass(frozen=True, slots=True)
class Role:
    """What a role grants. code: of a system role, else None. unknown: rights that this version does not know.

    limits: right -> minor units above which a second person approves, 0: always. entities: ids of legal entities,
    None: all.
    """

    id: int
    code: str | None
    name: str
    rights: frozenset[Right]
    limits: Mapping[Right, int]
    entities: frozenset[int] | None
    unknown: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """How people, forms and commands name it."""
        return self.code or self.name

    @property
    def grants(self) -> Mapping[Right, Grant]:
        """Its rights with their bounds."""
        return {right: Grant(self.entities, self.limits.get(right, ALONE)) for right in self.rights}

    @property
    def access(self) -> Access:
        """What somebody with this role alone may do."""
        return Access.of(self.grants)


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role with its history. people: how many users have it."""

    role: Role
    version: int
    changed_by: str
    changed_at: datetime
    people: int


@dataclass(frozen=True, slots=True)
class WantedRole:
    """What a role shall be. rights: by name. limits: by name of the right. entities: numbers; empty: all."""

    name: str
    rights: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegalEntity:
    """A legal entity a role may be limited to."""

    id: int
    number: str
    name: str


def role_of(told: Mapping[str, Any]) -> Role:
    """A role out of ROLE_JSON."""
    if told["code"] is not None:
        return Role(told["id"], told["code"], told["name"], SYSTEM_ROLES[told["code"]], MappingProxyType({}), None)
    known = {name: right_of(name) for name in told["rights"]}
    limits = {right: int(told["limits"][name]) for name, right in known.items() if right and name in told["limits"]}
    return Role(
        told["id"],
        None,
        told["name"],
        frozenset(right for right in known.values() if right),
        MappingProxyType(limits),
        frozenset(told["entities"]) if told["is_limited"] else None,
        tuple(sorted(name for name, right in known.items() if right is None)),
    )


def checked(wanted: WantedRole, entities: Sequence[LegalEntity]) -> Role:
    """The role that is wanted, without a number. Pure.

    Raises:
        AccessError: a name, right, limit or legal entity that cannot be; ``field`` names the field.
    """
    name = " ".join(wanted.name.split())
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise AccessError(N_("A role's name has 1 to %(most)s characters"), field="name", most=NAME_MAX)
    if name.lower() in SYSTEM_ROLES:
        raise AccessError(N_("%(name)s is the name of a role that every installation has"), field="name", name=name)
    rights = _checked_rights(wanted)
    entities_of_role = _checked_entities(wanted, rights, {entity.number: entity.id for entity in entities})
    return Role(0, None, name, rights, MappingProxyType(_checked_limits(wanted, rights)), entities_of_role)


def _checked_rights(wanted: WantedRole) -> frozenset[Right]:
    rights = set()
    for text in wanted.rights:
        right = right_of(text)
        if right is None:
            raise AccessError(N_("There is no right %(right)s"), field="rights", right=text[:40])
        rights.add(right)
    if not rights:
        raise AccessError(N_("A role grants one right at least"), field="rights")
    return frozenset(rights)


def _checked_entities(wanted: WantedRole, rights: frozenset[Right], known: Mapping[str, int]) -> frozenset[int] | None:
    for number in wanted.entities:
        if number not in known:
            raise AccessError(N_("There is no legal entity %(number)s"), field="entities", number=number[:40])
    everywhere = [right.value for right in sorted(rights) if not RIGHTS[right].by_entity]
    if wanted.entities and everywhere:
        raise AccessError(
            N_(
                "What these rights open is not told apart by legal entity, so a limited role cannot grant them: "
                "%(rights)s. Put them into a role of their own"
            ),
            field="entities",
            rights=", ".join(everywhere),
        )
    return frozenset(known[number] for number in wanted.entities) or None


def _checked_limits(wanted: WantedRole, rights: frozenset[Right]) -> dict[Right, int]:
    limits = {}
    for text, above in wanted.limits.items():
        right = right_of(text)
        if right is None or right not in rights:
            raise AccessError(
                N_("A limit stands beside a right the role grants: %(right)s"), field="limits", right=text[:40]
            )
        note = RIGHTS[right]
        if not note.may_wait:
            raise AccessError(N_("%(right)s never waits for a second person"), field="limits", right=text)
        if not 0 <= above <= _LIMIT_MAX or (above and not note.has_sum):
            raise AccessError(N_("The limit of %(right)s is not a sum it can have"), field="limits", right=text)
        limits[right] = above
    return limits


async def list_roles(cur: Cursor) -> list[RoleRow]:
    """All roles: the system's first, then by name."""
    await cur.execute(_LIST, (list(SYSTEM_ROLES),))
    return [RoleRow(role_of(row[0]), *row[1:]) for row in await cur.fetchall()]


async def read_role(cur: Cursor, role_id: int) -> RoleRow:
    """One role. Raises AccessError where there is none."""
    await cur.execute(_ONE, (role_id,))
    row = await cur.fetchone()
    if row is None:
        raise AccessError(N_("There is no such role"))
    return RoleRow(role_of(row[0]), *row[1:])


async def roles_named(cur: Cursor, names: Iterable[str]) -> list[Role]:
    """Roles by their keys, each once. Raises AccessError for one that is not there."""
    known = {row.role.key.lower(): row.role for row in await list_roles(cur)}
    wanted = dict.fromkeys(name.strip().lower() for name in names)
    for name in wanted:
        if name not in known:
            raise AccessError(
                N_("There is no role %(role)s; there are %(roles)s"),
                field="roles",
                role=name[:40],
                roles=", ".join(role.key for role in known.values()),
            )
    return [known[name] for name in wanted]


async def legal_entities(cur: Cursor) -> list[LegalEntity]:
    """Legal entities a role may be limited to."""
    await cur.execute(_ENTITIES)
    return [LegalEntity(*row) for row in await cur.fetchall()]


async def add_role(cur: Cursor, wanted: WantedRole, by: Access, actor: str) -> Role:
    """Add a role. Inside the caller's transaction.

    Raises:
        AccessError: it cannot be so, its name is taken, or ``by`` lacks something of it.
    """
    await hold_access(cur)
    role = checked(wanted, await legal_entities(cur))
    refuse_what_is_lacked(by, role.access)
    try:
        await cur.execute(_INSERT, {**_values(role, actor), "most": MAX_ROLES})
    except psycopg2.errors.UniqueViolation as error:
        raise AccessError(N_("There is a role %(name)s already"), field="name", name=role.name) from error
    row = await cur.fetchone()
    if row is None:
        raise AccessError(N_("There are %(most)s roles already"), most=MAX_ROLES)
    await cur.execute(_ADD_ENTITIES, {"id": row[0], "numbers": list(wanted.entities)})
    return (await read_role(cur, row[0])).role


async def change_role(
    cur: Cursor, role_id: int, version: int, wanted: WantedRole, by: Access, actor: str
) -> tuple[Role, Role]:
    """Change a role to what is wanted; returns it before and after. Inside the caller's transaction.

    Raises:
        StaleError: it is not in this version any more.
        AccessError: as add_role, or it is a system role, or nobody would be left to administer.
    """
    somebody_did = await hold_access(cur)
    before = await _changeable(cur, role_id, version)
    after = checked(wanted, await legal_entities(cur))
    refuse_what_is_lacked(by, before.access)
    refuse_what_is_lacked(by, after.access)
    try:
        await cur.execute(_UPDATE, {**_values(after, actor), "id": role_id})
    except psycopg2.errors.UniqueViolation as error:
        raise AccessError(N_("There is a role %(name)s already"), field="name", name=after.name) from error
    await cur.execute(_FORGET_ENTITIES, (role_id,))
    await cur.execute(_ADD_ENTITIES, {"id": role_id, "numbers": list(wanted.entities)})
    await keep_an_administrator(cur, somebody_did)
    return before, (await read_role(cur, role_id)).role


async def remove_role(cur: Cursor, role_id: int, version: int, by: Access) -> Role:
    """Remove a role that nobody has; returns it. Inside the caller's transaction.

    Raises:
        StaleError, AccessError: as change_role, or somebody has it.
    """
    await hold_access(cur)
    before = await _changeable(cur, role_id, version)
    refuse_what_is_lacked(by, before.access)
    people = (await read_role(cur, role_id)).people
    if people:
        raise AccessError(N_("%(people)s users have this role: take it from them first"), people=people)
    await cur.execute(_DELETE, (role_id,))
    return before


async def hold_access(cur: Cursor) -> bool:
    """Make others who would change who may do what wait until the transaction ends; returns whether anybody
    administers."""
    await cur.execute(_HOLD)
    return await _somebody_administers(cur)


async def keep_an_administrator(cur: Cursor, somebody_did: bool) -> None:
    """See, after a change, that an active user still administers, where one did when access was held.

    Raises:
        AccessError: nobody does any more.
    """
    if somebody_did and not await _somebody_administers(cur):
        raise AccessError(N_("Somebody has to manage users and roles: this is the last active administrator"))


async def _somebody_administers(cur: Cursor) -> bool:
    await cur.execute(_ADMINISTRATORS)
    people = [[role_of(told).grants for told in roles] for _, roles in await cur.fetchall()]
    return any(Access.of(*roles).administers for roles in people)


def refuse_what_is_lacked(by: Access, wanted: Access) -> None:
    """Raises AccessError where ``wanted`` allows what ``by`` does not."""
    lacked = by.lacks(wanted)
    if lacked:
        raise AccessError(
            N_("You cannot give or take what you do not have yourself: %(rights)s"),
            rights=", ".join(sorted(right.value for right in lacked)),
        )


def role_facts(role: Role, entities: Sequence[LegalEntity] = ()) -> dict[str, Any]:
    """A role as the audit record and approvals tell it."""
    numbers = {entity.id: entity.number for entity in entities}
    return {
        "name": role.key,
        "rights": sorted(right.value for right in role.rights),
        "limits": {right.value: above for right, above in sorted(role.limits.items())},
        "legal_entities": sorted(numbers.get(entity, str(entity)) for entity in role.entities or ()),
    }


async def _changeable(cur: Cursor, role_id: int, version: int) -> Role:
    row = await read_role(cur, role_id)
    if row.role.code is not None:
        raise AccessError(N_("%(name)s is a role that every installation has and stays as it is"), name=row.role.key)
    if row.version != version:
        changed_by = row.changed_by.partition(":")[2]
        raise StaleError(N_("%(by)s changed this role meanwhile: look at it again"), by=changed_by)
    return row.role


def _values(role: Role, actor: str) -> dict[str, Any]:
    return {
        "name": role.name,
        "rights": sorted(right.value for right in role.rights),
        "limits": Json({right.value: above for right, above in role.limits.items()}),
        "is_limited": role.entities is not None,
        "actor": actor,
    }
