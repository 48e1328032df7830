"""What may be done, as a closed list of rights, and what a person's roles together allow.

Rules. A right names a menu and an action. Roles grant rights; a grant holds for every legal entity or for some, and
above a sum the operation waits for a second person. Several roles add up: where any of them allows, it is allowed, and
the highest sum counts. `Access.covers` says whether one person's access contains another's: nobody gives what he lacks.
All of this is arithmetic on one function, `Access.reach(right, entity)`: NEVER, or the sum up to which one person is
enough, or ALONE. tests/web/access/test_rights.py holds it to that.

Does not know: users, rows, pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from billing.language import N_


class Right(StrEnum):
    """One menu and one action. A new page adds its right here and its words to RIGHTS."""

    PAYMENTS_VIEW = "payments.view"
    PAYMENTS_CANCEL = "payments.cancel"
    PAYMENTS_EXPORT = "payments.export"
    ATTEMPTS_VIEW = "attempts.view"
    MONEY_POST = "money.post"
    MONEY_MOVE = "money.move"
    MONEY_REFUND = "money.refund"
    MONEY_PAY_OUT = "money.pay_out"
    MONEY_APPROVE = "money.approve"
    CUSTOMERS_VIEW = "customers.view"
    CUSTOMERS_CHANGE = "customers.change"
    ORDERS_VIEW = "orders.view"
    ORDERS_CHANGE = "orders.change"
    INVOICES_VIEW = "invoices.view"
    INVOICES_CHANGE = "invoices.change"
    RUNS_VIEW = "runs.view"
    RUNS_MANAGE = "runs.manage"
    DUNNING_MANAGE = "dunning.manage"
    CATALOGUE_VIEW = "catalogue.view"
    CATALOGUE_CHANGE = "catalogue.change"
    USAGE_VIEW = "usage.view"
    USAGE_CHANGE = "usage.change"
    PARTNERS_VIEW = "partners.view"
    PARTNERS_TERMS = "partners.terms"
    PARTNERS_CHANGE = "partners.change"
    PARTNERS_APPROVE = "partners.approve"
    EXPORTS_RUN = "exports.run"
    VIEWS_SHARE = "views.share"
    JOBS_VIEW = "jobs.view"
    JOBS_MANAGE = "jobs.manage"
    SCHEDULES_VIEW = "schedules.view"
    SCHEDULES_MANAGE = "schedules.manage"
    DELIVERIES_VIEW = "deliveries.view"
    DELIVERIES_MANAGE = "deliveries.manage"
    USERS_MANAGE = "users.manage"
    ROLES_MANAGE = "roles.manage"
    ROLES_APPROVE = "roles.approve"
    SESSIONS_MANAGE = "sessions.manage"
    AUDIT_VIEW = "audit.view"


class Open(Enum):
    """What a page needs instead of a right."""

    TO_NOBODY = "nobody"  # the default of a page: none is open by forgetting
    TO_SIGNED_IN = "signed in"
    TO_EVERYONE = "everyone"


Need = Right | Open


@dataclass(frozen=True, slots=True)
class RightNote:
    """Where a right stands in the matrix and what it says there.

    menu, words: English, translated where they are shown. has_sum: what it does has a sum of money, so that a limit
    may be a sum; other rights with `may_wait` wait always or never. by_entity: a role for some legal entities may
    grant it, for what it opens is asked about by legal entity.
    """

    menu: str
    words: str
    has_sum: bool = False
    may_wait: bool = False
    by_entity: bool = False


#: Every right, in the order of the matrix.
RIGHTS: Final[Mapping[Right, RightNote]] = MappingProxyType(
    {
        Right.PAYMENTS_VIEW: RightNote(N_("Payments"), N_("See payments")),
        Right.PAYMENTS_CANCEL: RightNote(N_("Payments"), N_("Cancel payments")),
        Right.PAYMENTS_EXPORT: RightNote(N_("Payments"), N_("Export payments")),
        Right.ATTEMPTS_VIEW: RightNote(N_("Payments"), N_("See calls that changed no payment")),
        Right.MONEY_POST: RightNote(N_("Money by hand"), N_("Post money by hand"), has_sum=True, may_wait=True),
        Right.MONEY_MOVE: RightNote(N_("Money by hand"), N_("Move a wrong payment"), has_sum=True, may_wait=True),
        Right.MONEY_REFUND: RightNote(N_("Money by hand"), N_("Refund a payment"), has_sum=True, may_wait=True),
        Right.MONEY_PAY_OUT: RightNote(N_("Money by hand"), N_("Pay out a balance"), has_sum=True, may_wait=True),
        Right.MONEY_APPROVE: RightNote(N_("Money by hand"), N_("Approve what others ask for")),
        Right.CUSTOMERS_VIEW: RightNote(N_("Customers"), N_("See customers"), by_entity=True),
        Right.CUSTOMERS_CHANGE: RightNote(N_("Customers"), N_("Add and change customers")),
        Right.ORDERS_VIEW: RightNote(N_("Orders"), N_("See orders"), by_entity=True),
        Right.ORDERS_CHANGE: RightNote(N_("Orders"), N_("Add, change and end orders")),
        Right.INVOICES_VIEW: RightNote(N_("Invoices"), N_("See invoices"), by_entity=True),
        Right.INVOICES_CHANGE: RightNote(N_("Invoices"), N_("Credit and pay invoices")),
        Right.RUNS_VIEW: RightNote(N_("Bill runs"), N_("See bill runs")),
        Right.RUNS_MANAGE: RightNote(N_("Bill runs"), N_("Start, approve and give up bill runs")),
        Right.DUNNING_MANAGE: RightNote(N_("Bill runs"), N_("Run and delay dunning")),
        Right.CATALOGUE_VIEW: RightNote(N_("Tariffs"), N_("See tariffs")),
        Right.CATALOGUE_CHANGE: RightNote(N_("Tariffs"), N_("Load tariffs")),
        Right.USAGE_VIEW: RightNote(N_("Usage"), N_("See usage and its rejects")),
        Right.USAGE_CHANGE: RightNote(N_("Usage"), N_("Load, correct and void usage")),
        Right.PARTNERS_VIEW: RightNote(N_("Partners"), N_("See partners and what they owe")),
        Right.PARTNERS_TERMS: RightNote(N_("Partners"), N_("See contracts and validity of keys")),
        Right.PARTNERS_CHANGE: RightNote(
            N_("Partners"), N_("Connect, change, re-key and pause partners"), may_wait=True
        ),
        Right.PARTNERS_APPROVE: RightNote(N_("Partners"), N_("Approve changes of contracts")),
        Right.EXPORTS_RUN: RightNote(N_("Lists"), N_("Export lists to files")),
        Right.VIEWS_SHARE: RightNote(N_("Lists"), N_("Share saved views with everyone")),
        Right.JOBS_VIEW: RightNote(N_("Work"), N_("See jobs")),
        Right.JOBS_MANAGE: RightNote(N_("Work"), N_("Retry and cancel jobs")),
        Right.SCHEDULES_VIEW: RightNote(N_("Work"), N_("See schedules")),
        Right.SCHEDULES_MANAGE: RightNote(N_("Work"), N_("Add, pause and run schedules")),
        Right.DELIVERIES_VIEW: RightNote(N_("Work"), N_("See deliveries")),
        Right.DELIVERIES_MANAGE: RightNote(N_("Work"), N_("Push, resend and stop deliveries")),
        Right.USERS_MANAGE: RightNote(N_("People"), N_("Add, change and disable users")),
        Right.ROLES_MANAGE: RightNote(N_("People"), N_("Add and change roles"), may_wait=True),
        Right.ROLES_APPROVE: RightNote(N_("People"), N_("Approve changes of roles")),
        Right.SESSIONS_MANAGE: RightNote(N_("People"), N_("See and end the sessions of others")),
        Right.AUDIT_VIEW: RightNote(N_("People"), N_("See the audit record")),
    }
)
assert set(RIGHTS) == set(Right)

#: Who holds these for every legal entity administers; somebody always does.
ADMINISTERS: Final = frozenset({Right.USERS_MANAGE, Right.ROLES_MANAGE})

_VIEWER: Final = frozenset(
    {
        Right.PAYMENTS_VIEW, Right.ATTEMPTS_VIEW, Right.CUSTOMERS_VIEW, Right.ORDERS_VIEW, Right.INVOICES_VIEW,
        Right.RUNS_VIEW, Right.CATALOGUE_VIEW, Right.USAGE_VIEW, Right.PARTNERS_VIEW,
    }
)  # fmt: skip
_OPERATOR: Final = _VIEWER | {
    Right.PAYMENTS_CANCEL, Right.PAYMENTS_EXPORT, Right.EXPORTS_RUN, Right.MONEY_POST, Right.MONEY_MOVE,
    Right.MONEY_REFUND, Right.MONEY_PAY_OUT, Right.MONEY_APPROVE, Right.JOBS_VIEW, Right.SCHEDULES_VIEW,
    Right.DELIVERIES_VIEW,
}  # fmt: skip
#: Roles that every installation has. Their rights are the program's, so that a new page is open to the right people
#: after an upgrade; nobody changes or removes them.
SYSTEM_ROLES: Final[Mapping[str, frozenset[Right]]] = MappingProxyType(
    {"viewer": _VIEWER, "operator": _OPERATOR, "administrator": frozenset(Right)}
)

#: Of a reach: not allowed at all; allowed to one person whatever the sum. Between them minor units.
NEVER: Final = -1
ALONE: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of one role. entities: ids of legal entities, None: all and what has none. above: minor units above which
    a second person approves; ALONE: never; 0: always."""

    entities: frozenset[int] | None = None
    above: int = ALONE

    def reach(self, entity: int | None) -> int:
        """Up to which sum one person is enough for an object of this legal entity (None: it has none)."""
        return self.above if self.entities is None or entity in self.entities else NEVER


@dataclass(frozen=True, slots=True)
class Access:
    """What a person may do: the grants of all his roles.

    >>> clerk = Access.of({Right.MONEY_POST: Grant(above=500)})
    >>> clerk.may(Right.MONEY_POST), clerk.may(Right.MONEY_REFUND), clerk.reach(Right.MONEY_POST)
    (True, False, 500)
    """

    grants: Mapping[Right, frozenset[Grant]]

    @classmethod
    def of(cls, *roles: Mapping[Right, Grant]) -> "Access":
        """The access of roles together."""
        grants: dict[Right, frozenset[Grant]] = {}
        for role in roles:
            for right, grant in role.items():
                grants[right] = grants.get(right, frozenset()) | {grant}
        return cls(MappingProxyType(grants))

    def may(self, right: Right) -> bool:
        """Whether the right is held at all, for whichever legal entity."""
        return bool(self.grants.get(right))

    def may_for(self, right: Right, entity: int | None) -> bool:
        """Whether the right is held for an object of a legal entity; None: an object that belongs to none."""
        return self.reach(right, entity) > NEVER

    def reach(self, right: Right, entity: int | None = None) -> int:
        """Up to which sum, in minor units, one person is enough: NEVER, a sum, or ALONE."""
        return max((grant.reach(entity) for grant in self.grants.get(right, ())), default=NEVER)

    def entities(self, right: Right) -> frozenset[int] | None:
        """Legal entities whose objects may be seen or changed; None: of all, and those that belong to none."""
        scopes = [grant.entities for grant in self.grants.get(right, ())]
        if None in scopes:
            return None
        return frozenset().union(*(scope for scope in scopes if scope is not None))

    @property
    def rights(self) -> frozenset[Right]:
        """Every right held."""
        return frozenset(right for right, grants in self.grants.items() if grants)

    @property
    def administers(self) -> bool:
        """Whether users and roles can be managed with it, all of them."""
        return all(self.may_for(right, None) for right in ADMINISTERS)

    def with_(self, other: "Access") -> "Access":
        """What two people's accesses allow together."""
        rights = self.rights | other.rights
        none: frozenset[Grant] = frozenset()
        joined = {right: self.grants.get(right, none) | other.grants.get(right, none) for right in rights}
        return Access(MappingProxyType(joined))

    def only(self, rights: Iterable[Right]) -> "Access":
        """What is left of it under a token that was given these rights."""
        wanted = frozenset(rights)
        kept = {right: grants for right, grants in self.grants.items() if right in wanted}
        return Access(MappingProxyType(kept))

    def covers(self, other: "Access") -> bool:
        """Whether everything the other allows is allowed here too, up to the same sums."""
        return not self.lacks(other)

    def lacks(self, other: "Access") -> frozenset[Right]:
        """The rights of the other that are not held here, or for fewer legal entities, or up to a smaller sum."""
        return frozenset(
            right
            for right in other.rights
            if any(
                self.reach(right, entity) < other.reach(right, entity)
                for entity in {None, *self._named(right), *other._named(right)}
            )
        )

    def _named(self, right: Right) -> frozenset[int]:
        """Legal entities that a grant of this right names; of all others None tells."""
        return frozenset().union(*(grant.entities or () for grant in self.grants.get(right, ())))


#: Of who is signed in nowhere.
NOTHING: Final = Access.of()
#: Of the installation itself: its first start, the owner of its machine (kopeck/cli/person.py).
EVERYTHING: Final = Access.of({right: Grant() for right in Right})


def right_of(name: str) -> Right | None:
    """The right of that name; None for one that this version of the program does not know."""
    try:
        return Right(name)
    except ValueError:
        return None
