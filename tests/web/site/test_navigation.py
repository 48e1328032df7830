"""The navigation: each entry leads to a page of its section, with the right of that page."""

import re

from web.access.rights import SYSTEM_ROLES, Right
from web.app import ROUTES
from web.site.icons import icon
from web.site.navigation import GROUPS, shown_groups

ENTRIES = [entry for group in GROUPS for entry in group.entries]


def test_every_entry_leads_to_a_page_of_its_section_with_the_pages_right():
    assert ENTRIES
    for entry in ENTRIES:
        [handler] = [handler for pattern, handler in ROUTES if re.fullmatch(pattern, entry.path)]
        assert (handler.section, handler.needs) == (entry.section, entry.needs), entry.path
        assert "<path" in icon(entry.icon)


def test_sections_and_addresses_are_named_once():
    assert len({entry.section for entry in ENTRIES}) == len({entry.path for entry in ENTRIES}) == len(ENTRIES)


def test_a_person_sees_what_his_rights_open_and_no_empty_group():
    assert [entry.path for group in shown_groups(lambda right: False) for entry in group.entries] == ["/", "/approvals"]
    shown = [entry.path for group in shown_groups(lambda right: right is Right.AUDIT_VIEW) for entry in group.entries]
    assert shown == ["/", "/approvals", "/audit"]
    viewer = SYSTEM_ROLES["viewer"]
    assert "/payments" in [entry.path for group in shown_groups(viewer.__contains__) for entry in group.entries]
