"""The algebra of rights: what roles allow together, and who covers whom."""

from hypothesis import given
from hypothesis import strategies as st

from web.access.rights import (
    ALONE,
    EVERYTHING,
    NEVER,
    NOTHING,
    RIGHTS,
    SYSTEM_ROLES,
    Access,
    Grant,
    Right,
    right_of,
)

SOME = (Right.MONEY_POST, Right.INVOICES_VIEW, Right.PARTNERS_CHANGE)
#: Those that grants below name, one that none does, and none at all.
ENTITIES = (1, 2, 3, 99, None)

scopes = st.none() | st.frozensets(st.sampled_from((1, 2, 3)), min_size=1)
grants = st.builds(Grant, scopes, st.sampled_from((0, 100, 5_000_000, ALONE)))
roles = st.dictionaries(st.sampled_from(SOME), grants)
accesses = st.lists(roles, max_size=3).map(lambda held: Access.of(*held))


def reaches(access):
    return {(right, entity): access.reach(right, entity) for right in SOME for entity in ENTITIES}


@given(accesses, accesses)
def test_covering_is_reaching_as_far_for_every_right_and_legal_entity(mine, yours):
    theirs = reaches(yours)
    assert mine.covers(yours) == all(far >= theirs[key] for key, far in reaches(mine).items())
    assert mine.lacks(yours) == {right for (right, entity), far in reaches(mine).items() if far < theirs[right, entity]}


@given(accesses, accesses, accesses)
def test_covering_is_an_order_and_together_is_the_least_that_covers_both(one, two, three):
    assert one.covers(one)
    assert EVERYTHING.covers(one)
    assert one.covers(NOTHING)
    both = one.with_(two)
    assert both.covers(one)
    assert both.covers(two)
    assert reaches(both) == {key: max(far, reaches(two)[key]) for key, far in reaches(one).items()}
    if three.covers(one) and three.covers(two):
        assert three.covers(both)
        assert not both.covers(three) or reaches(both) == reaches(three)


@given(st.lists(roles, max_size=4))
def test_roles_add_up_whatever_their_order(held):
    assert reaches(Access.of(*held)) == reaches(Access.of(*reversed(held)))
    alone = [reaches(Access.of(role)) for role in held]
    assert reaches(Access.of(*held)) == {
        key: max((role[key] for role in alone), default=NEVER) for key in reaches(NOTHING)
    }


@given(accesses, st.frozensets(st.sampled_from(SOME)))
def test_a_token_allows_what_its_owner_may_and_it_was_given(owner, given_to_token):
    left = owner.only(given_to_token)
    assert owner.covers(left)
    for (right, entity), far in reaches(left).items():
        assert far == (owner.reach(right, entity) if right in given_to_token else NEVER)


@given(accesses, st.sampled_from(SOME))
def test_lists_show_the_legal_entities_for_which_the_right_is_held(access, right):
    shown = access.entities(right)
    for entity in ENTITIES:
        assert access.may_for(right, entity) == (shown is None or entity in shown)
    assert access.may(right) == (shown is None or bool(shown))


def test_system_roles_are_as_they_have_always_been():
    viewer, operator, administrator = (SYSTEM_ROLES[code] for code in ("viewer", "operator", "administrator"))
    assert viewer < operator < administrator == set(Right)
    assert {Right.PAYMENTS_VIEW, Right.ATTEMPTS_VIEW, Right.PARTNERS_VIEW, Right.INVOICES_VIEW} <= viewer
    assert {Right.PAYMENTS_CANCEL, Right.PAYMENTS_EXPORT, Right.MONEY_POST, Right.MONEY_APPROVE} <= operator - viewer
    assert {
        Right.USERS_MANAGE,
        Right.AUDIT_VIEW,
        Right.PARTNERS_TERMS,
        Right.PARTNERS_CHANGE,
    } <= administrator - operator
    assert Access.of({right: Grant() for right in administrator}).administers
    assert not Access.of({right: Grant() for right in operator}).administers


def test_every_right_has_a_menu_and_words_and_no_two_the_same():
    assert list(RIGHTS) == list(Right)
    assert len({(note.menu, note.words) for note in RIGHTS.values()}) == len(Right)
    assert all(right.value.replace(".", "").replace("_", "").isalpha() for right in Right)
    assert right_of("payments.view") is Right.PAYMENTS_VIEW
    assert right_of("payments.fly") is None
