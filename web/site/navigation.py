"""The navigation: every page that can be reached from every page, in one table.

Rules. A page appears for those whose role may open it, a group when one of its pages does. The right of an entry is
the right of its page (a test compares the two). Texts are msgids.

Does not know: requests, addresses of single objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from web.access.users import Role


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation.

    section: what pages that belong to it name as their ``section``. icon: a name of web.site.icons.
    """

    section: str
    path: str
    text: str
    icon: str
    needs: Role = Role.VIEWER


@dataclass(frozen=True, slots=True)
class Group:
    """Lines under one heading; no text: no heading."""

    text: str
    entries: Sequence[Entry]


GROUPS: Final = (
    Group("", ()),
    Group(
        "Payments",
        (
            Entry("payments", "/payments", "Payments", "credit-card"),
            Entry("attempts", "/attempts", "Partner requests", "inbox"),
        ),
    ),
    Group("Customers", ()),
    Group("Billing", ()),
    Group("Partners", (Entry("partners", "/partners", "Partners", "handshake"),)),
    Group(
        "System",
        (
            Entry("users", "/users", "Users", "users", Role.ADMINISTRATOR),
            Entry("audit", "/audit", "Audit", "scroll-text", Role.ADMINISTRATOR),
        ),
    ),
)


def shown_groups(may: Callable[[Role], bool]) -> list[Group]:
    """The groups with what one person may open; ``may`` says what the person's role allows."""
    groups = [Group(group.text, [entry for entry in group.entries if may(entry.needs)]) for group in GROUPS]
    return [group for group in groups if group.entries]
