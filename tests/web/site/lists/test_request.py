"""Addresses of lists: what they ask, and what is wrong with them."""

from datetime import UTC, date, datetime
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.language import language_of
from billing.listing.records import Between, Emptiness, Field, ListSource, Match, OneOf, RowOrder, Search, TextIs
from web.access.rights import Right
from web.site.lists.declaration import Kind, ListColumn, Listing, linked
from web.site.lists.request import ListRequest, read_request, with_dates

SOURCE = ListSource(
    "things", "things t", "t.id", "bigint",
    {
        "code": Field("t.code", search=Search.CODE, is_ordered=True),
        "name": Field("t.name", search=Search.WORDS, is_ordered=True, is_null=True),
        "sum": Field("t.sum", (), "bigint", Search.RANGE),
        "size": Field("t.size", (), "integer", Search.RANGE),
        "state": Field("t.state", search=Search.CHOICE),
        "owner": Field("t.owner", search=Search.CHOICE),
        "day": Field("t.day", (), "date", Search.RANGE),
        "at": Field("t.at", (), "timestamptz", Search.RANGE, is_null=True),
        "run": Field("t.run", (), "integer", Search.CODE),
        "note": Field("t.note"),
    },
)  # fmt: skip


async def owners(cur):
    return [("7", "Seven")]


COLUMNS = (
    ListColumn("code", "Code", Kind.CODE, "/things/{code}"),
    ListColumn("name", "Name"),
    ListColumn("sum", "Sum", Kind.MONEY),
    ListColumn("size", "Size", Kind.NUMBER),
    ListColumn("state", "State", Kind.STATE, words={"new": "new", "old": "old"}),
    ListColumn("owner", "Owner", Kind.STATE, options=owners, is_shown=False),
    ListColumn("day", "Day", Kind.DATE),
    ListColumn("at", "At", Kind.INSTANT),
    ListColumn("run", "Run", Kind.CODE, is_shown=False),
    ListColumn("note", "Note", why_not="Notes are read, not searched."),
)
THINGS = Listing("things", "Things", SOURCE, COLUMNS, "-code", lambda language, n: f"{n} things", Right.CUSTOMERS_VIEW)
NOW = datetime(2026, 3, 15, 22, 30, tzinfo=UTC)  # the 16th in Moscow
ZONE = ZoneInfo("Europe/Moscow")


def read(query: str = "", chosen: tuple[str, ...] = ()) -> ListRequest:
    arguments = parse_qs(query, keep_blank_values=True)
    return read_request(
        THINGS, arguments, language_of("en"), NOW, ZONE, chosen=chosen, options={"owner": [("7", "Seven")]}
    )


@pytest.mark.parametrize(
    ("query", "conditions"),
    [
        ("", ()),
        ("code=K-1", (TextIs("code", Match.STARTS, "K-1"),)),
        ("code=K-1&code.match=equals", (TextIs("code", Match.EQUALS, "K-1"),)),
        ("name=+Ёлка++и+", (TextIs("name", Match.CONTAINS, "Ёлка и"),)),
        ("name=Ё&name.match=starts", (TextIs("name", Match.STARTS, "Ё"),)),
        ("name.is=empty", (Emptiness("name", True),)),
        ("sum.min=1 234,5&sum.max=10 000 000 000", (Between("sum", 123_450, 10**12),)),
        ("sum.max=-21474836,48", (Between("sum", None, -2_147_483_648),)),
        ("size.min=10 000", (Between("size", 10_000, None),)),
        ("size.max=9 999 999 999", (Between("size", None, 2**31 - 1),)),
        ("state=old&state=new&state=old", (OneOf("state", ("old", "new")),)),
        ("owner=7", (OneOf("owner", ("7",)),)),
        ("day.from=01.02.2026&day.to=2026-02-03", (Between("day", date(2026, 2, 1), date(2026, 2, 4), True),)),
        ("day.period=yesterday&day.from=01.01.2020", (Between("day", date(2026, 3, 15), date(2026, 3, 16), True),)),
        ("at.from=16.03.2026", (Between("at", datetime(2026, 3, 15, 21, tzinfo=UTC), None, True),)),
        ("run=12", (TextIs("run", Match.EQUALS, "12"),)),
    ],
)  # fmt: skip
def test_an_address_asks(query, conditions) -> None:
    request = read(query)
    assert not request.errors
    assert request.question is not None
    assert request.question.conditions == conditions


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("name=ё", "name", "At least 3 letters"),
        (f"code={'9' * 201}", "code", "At most 200 letters"),
        ("code=K%00", "code", "At most 200 letters"),
        ("code=K&code.match=contains", "code", "cannot be compared so"),
        ("name.is=maybe", "name.is", "“empty”, “filled” or left out"),
        ("sum.min=много", "sum.min", "A sum, such as"),
        ("sum.min=92233720368547758,08", "sum.min", "A sum, such as"),
        ("sum.min=5&sum.max=4", "sum.max", "below the lower one"),
        ("size.min=1,5", "size.min", "A number"),
        ("state=odd", "state", "Choose from the list"),
        ("owner=8", "owner", "Choose from the list"),
        ("day.from=31.02.2026", "day.from", "A day, such as"),
        ("day.from=02.02.2026&day.to=01.02.2026", "day.to", "before the beginning"),
        ("at.period=century", "at.from", "no such period"),
        ("run=x", "run", "This is a number"),
        ("sort=note", "sort", "cannot be ordered by “note”"),
        ("columns=code.nothing", "columns", "no column “nothing”"),
        ("count=all", "count", "“exact” or left out"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_and_nothing_is_asked(query, field, words) -> None:
    request = read(query)
    assert request.question is None
    assert words in request.errors[field]


def test_a_parameter_that_the_list_does_not_know_is_told() -> None:
    request = read("code=1&colour=red&note=x&sum=5")
    assert request.unknown == ("colour", "note", "sum")
    assert request.question is None


def test_days_of_a_preset_are_the_preset_and_its_days_stand_in_the_fields() -> None:
    request = read("day.from=01.03.2026&day.to=16.03.2026")
    assert request.query() == "day.period=month"
    assert request.days["day"] == ("01.03.2026", "16.03.2026")


def test_the_users_columns_are_shown_and_stand_in_the_address_so_that_it_is_whole() -> None:
    request = read("", chosen=("note", "gone", "code"))
    assert request.columns == ("note", "code")
    assert request.address() == "/things?columns=note.code"
    assert not request.is_canonical("")
    assert read("columns=sum", chosen=("note",)).columns == ("sum",)
    assert read("").address() == "/things"


def test_the_order_is_the_lists_own_unless_the_address_says_another() -> None:
    assert read("").question.order == RowOrder("code", True)
    assert read("sort=name").question.order == RowOrder("name", False)
    assert read("sort=-code").address() == "/things"


PARAMETERS = [
    "code", "code.match", "name", "name.is", "name.match", "sum.min", "sum.max", "state", "day.from", "day.to",
    "day.period", "at.from", "at.is", "sort", "columns", "count", "run", "size.max",
]  # fmt: skip
VALUES = [
    "1", "12,5", "-3", "new", "old", "equals", "starts", "contains", "empty", "today", "7d", "01.01.2026", "15.03.2026",
    "16.03.2026", "name", "-code", "code.sum", "exact", "абв", "%_&=",
]  # fmt: skip
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), st.sampled_from(["", *VALUES])), max_size=6)


@given(queries)
def test_a_canonical_address_is_read_as_what_wrote_it(pairs) -> None:
    arguments: dict[str, list[str]] = {}
    for name, value in pairs:
        arguments.setdefault(name, []).append(value)
    first = read_request(THINGS, arguments, language_of("en"), NOW, ZONE)
    if first.question is None:
        assert first.errors or first.unknown
        return
    query = first.own_address.partition("?")[2]
    again = read(query)
    assert again.question == first.question
    assert again.own_address == first.own_address
    assert again.is_canonical(query)


def test_a_view_without_days_keeps_those_of_the_page() -> None:
    current = read("day.period=7d&state=new&sum.min=1")
    assert with_dates(THINGS, "state=old", current) == "day.period=7d&state=old"
    assert with_dates(THINGS, "state=old&day.from=01.01.2026", current) == "state=old&day.from=01.01.2026"


def test_a_link_is_quoted_and_none_where_a_value_is_missing() -> None:
    assert linked("/things/{code}?a={name}", {"code": "A/1 ё", "name": "?"}) == "/things/A%2F1%20%D1%91?a=%3F"
    assert linked("/things/{code}", {"code": ""}) == ""


@pytest.mark.parametrize(
    ("columns", "order", "words"),
    [
        ((ListColumn("code", "Code"), ListColumn("code", "Code")), "code", "stands twice"),
        ((ListColumn("nothing", "Nothing"),), "nothing", "no field nothing"),
        ((ListColumn("code", "Code", link="/{gone}"),), "code", "no field gone"),
        ((ListColumn("code", "Code"), ListColumn("note", "Note")), "code", "does not say why"),
        ((ListColumn("code", "Code", why_not="no"),), "code", "says why not"),
        ((ListColumn("code", "Code"), ListColumn("state", "State")), "code", "chosen from nothing"),
        ((ListColumn("sum", "Sum"),), "sum", "not ordered by sum"),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_hold_together_is_refused(columns, order, words) -> None:
    with pytest.raises(ValueError, match=words):
        Listing("things", "Things", SOURCE, columns, order, lambda language, n: "", Right.CUSTOMERS_VIEW)
