"""The navigation: every page that can be reached from every page, in one table.

Rules. A page appears for those who may open it, a group when one of its pages does. The right of an entry is
the right of its page (a test compares the two). Texts are English, told in the reader's language.

Does not know: requests, addresses of single objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from billing.language import N_
from web.access.rights import Need, Open, Right


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """One line of the navigation.

    section: what pages that belong to it name as their ``section``. icon: a name of web.site.icons.
    """

    section: str
    path: str
    text: str
    icon: str
    needs: Need


@dataclass(frozen=True, slots=True)
class Group:
    """Lines under one heading; no text: no heading."""

    text: str
    entries: Sequence[MenuEntry]


GROUPS: Final = (
    Group("", (MenuEntry("home", "/", N_("Home"), "house", Open.TO_SIGNED_IN),)),
    Group(
        N_("Payments"),
        (
            MenuEntry("payments", "/payments", N_("Payments"), "credit-card", Right.PAYMENTS_VIEW),
            MenuEntry("attempts", "/attempts", N_("Partner requests"), "inbox", Right.ATTEMPTS_VIEW),
        ),
    ),
    Group(
        N_("Customers"),
        (
            MenuEntry("customers", "/customers", N_("Customers"), "contact", Right.CUSTOMERS_VIEW),
            MenuEntry("orders", "/orders", N_("Orders"), "package", Right.ORDERS_VIEW),
        ),
    ),
    Group(
        N_("Billing"),
        (
            MenuEntry("invoices", "/invoices", N_("Invoices"), "receipt-text", Right.INVOICES_VIEW),
            MenuEntry("runs", "/runs", N_("Billing runs"), "repeat", Right.RUNS_VIEW),
        ),
    ),
    Group(N_("Partners"), (MenuEntry("partners", "/partners", N_("Partners"), "handshake", Right.PARTNERS_VIEW),)),
    Group(
        N_("System"),
        (
            MenuEntry("approvals", "/approvals", N_("Approvals"), "check", Open.TO_SIGNED_IN),
            MenuEntry("jobs", "/jobs", N_("Background jobs"), "list-checks", Right.JOBS_VIEW),
            MenuEntry("schedules", "/schedules", N_("Schedules"), "calendar-clock", Right.SCHEDULES_VIEW),
            MenuEntry("deliveries", "/deliveries", N_("Deliveries"), "send", Right.DELIVERIES_VIEW),
            MenuEntry("webhooks", "/webhooks", N_("Webhooks"), "bell", Right.DELIVERIES_VIEW),
            MenuEntry("users", "/users", N_("Users"), "users", Right.USERS_MANAGE),
            MenuEntry("roles", "/roles", N_("Roles"), "shield-check", Right.ROLES_MANAGE),
            MenuEntry("audit", "/audit", N_("Audit"), "scroll-text", Right.AUDIT_VIEW),
        ),
    ),
)


def shown_groups(may: Callable[[Right], bool]) -> list[Group]:
    """The groups with what one person may open; ``may`` says which rights the person holds."""
    groups = [
        Group(group.text, [entry for entry in group.entries if not isinstance(entry.needs, Right) or may(entry.needs)])
        for group in GROUPS
    ]
    return [group for group in groups if group.entries]
