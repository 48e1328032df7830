"""The query string to a filter and back."""

from datetime import UTC, date, datetime
from urllib.parse import parse_qs, parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payments.states import State
from ratingcore.money import read_typed_sum
from web.site import filters
from web.site.filters import Choices, is_canonical, parse_form, period_days, query_string, typed_date

MOSCOW = ZoneInfo("Europe/Moscow")
NOW = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)  # already the 24th in Moscow
CHOICES = Choices("state", tuple(state.value for state in State), ("osmp", "cyberplat"))


def form(query, choices=CHOICES, now=NOW):
    return parse_form(parse_qs(query, keep_blank_values=True), choices, now, MOSCOW)


def test_no_query_is_the_last_thirty_days_of_the_configured_zone():
    found = form("")
    assert found.is_plain
    assert (found.start, found.end) == ("26.10.2026", "24.11.2026")
    assert found.filter.start == datetime(2026, 10, 25, 21, tzinfo=UTC)
    assert found.filter.end == datetime(2026, 11, 24, 21, tzinfo=UTC)


def test_every_field_reaches_the_filter():
    found = form(
        "q=79161234567&from=01.11.2026&to=02.11.2026&state=posted&state=refused&partner=osmp&min=1+234,56&max=2000"
    )
    assert found.errors == {}
    assert found.filter.text == "79161234567"
    assert found.filter.start == datetime(2026, 10, 31, 21, tzinfo=UTC)
    assert found.filter.end == datetime(2026, 11, 2, 21, tzinfo=UTC)
    assert found.filter.states == ("refused", "posted")
    assert found.filter.partners == ("osmp",)
    assert (found.filter.min_minor, found.filter.max_minor) == (123456, 200000)


@pytest.mark.parametrize(
    ("query", "field", "key"),
    [
        ("min=abc", "min", "This is not an amount. Write 1 234,56"),
        ("max=1,234", "max", "This is not an amount. Write 1 234,56"),
        ("min=-5", "min", "This is not an amount. Write 1 234,56"),
        ("min=1e3", "min", "This is not an amount. Write 1 234,56"),
        ("min=10000000000001", "min", "This is not an amount. Write 1 234,56"),
        ("min=5&max=4.99", "max", "Below the lower bound"),
        ("from=31.02.2026", "from", "There is no such date. Write dd.mm.yyyy"),
        ("to=2026-13-01", "to", "There is no such date. Write dd.mm.yyyy"),
        ("from=yesterday", "from", "There is no such date. Write dd.mm.yyyy"),
        ("from=01.01.0001", "from", "There is no such date. Write dd.mm.yyyy"),
        ("from=02.11.2026&to=01.11.2026", "to", "The end is before the start"),
        ("from=01.01.2020&to=01.01.2026", "from", "At most %(days)s days at a time"),
        ("state=lost", "state", "There is no such choice"),
        ("state=posted&state=lost", "state", "There is no such choice"),
        ("partner=nobody", "partner", "There is no such choice"),
        ("period=century", "from", "There is no such period"),
        ("q=" + "x" * 101, "q", "At most %(chars)s characters"),
        ("q=a+b+c+d+e+f+g+h", "q", "At most %(words)s words"),
    ],
)
def test_what_cannot_be_read_has_a_message_beside_its_field_and_no_filter(query, field, key):
    found = form(query)
    assert dict(found.errors) == {field: key}
    assert found.filter is None


def test_what_was_typed_stays_in_the_field():
    found = form("min=abc&from=31.02.2026&to=1.3.2026")
    assert (found.min, found.start, found.end) == ("abc", "31.02.2026", "1.3.2026")


@pytest.mark.parametrize("period", filters.PERIODS)
def test_each_preset_is_a_range_of_whole_days_that_ends_when_it_should(period):
    first, last = period_days(period, date(2026, 3, 31))
    assert first <= last <= date(2026, 3, 31)
    assert (last - first).days < filters.MAX_RANGE_DAYS
    found = form(f"period={period}")
    assert found.period == period
    first, last = period_days(period, date(2026, 11, 24))
    assert (found.filter.end - found.filter.start).days == (last - first).days + 1


def test_last_month_is_the_calendar_month_before():
    assert period_days("last_month", date(2026, 3, 31)) == (date(2026, 2, 1), date(2026, 2, 28))
    assert period_days("last_month", date(2026, 1, 1)) == (date(2025, 12, 1), date(2025, 12, 31))


def test_the_button_of_a_preset_wins_over_dates_that_stood_in_the_fields():
    assert form("from=01.11.2026&to=02.11.2026&preset=today").period == "today"


def test_dates_that_equal_a_preset_are_that_preset_and_others_are_the_persons_own():
    assert form("period=7d&from=18.11.2026&to=24.11.2026").period == "7d"
    assert form("period=7d&from=17.11.2026&to=24.11.2026").period == ""


def test_one_date_alone_completes_itself():
    assert (form("from=20.11.2026").start, form("from=20.11.2026").end) == ("20.11.2026", "24.11.2026")
    assert (form("to=30.06.2026").start, form("to=30.06.2026").end) == ("01.06.2026", "30.06.2026")


def test_a_day_of_the_clock_change_has_its_own_length():
    berlin = ZoneInfo("Europe/Berlin")
    found = parse_form({"from": ["29.03.2026"], "to": ["29.03.2026"]}, CHOICES, NOW, berlin)
    assert (found.filter.end - found.filter.start).total_seconds() == 23 * 3600


words = st.text(max_size=130)
values = st.one_of(
    words,
    st.sampled_from(["", "posted", "osmp", "01.11.2026", "2026-11-20", "31.02.2026", "1 234,56", "5", "today", "7d"]),
)
queries = st.dictionaries(
    st.sampled_from(["q", "from", "to", "period", "preset", "state", "partner", "min", "max", "after", "other"]),
    st.lists(values, min_size=1, max_size=3),
)


@given(queries)
def test_any_query_is_a_filter_or_messages_and_its_canonical_form_means_the_same(arguments):
    found = parse_form(arguments, CHOICES, NOW, MOSCOW)
    assert (found.filter is None) == bool(found.errors)
    if found.filter is None:
        return
    canonical = query_string(found, after=found.after)
    again = form(canonical)
    assert again.filter == found.filter
    assert query_string(again, after=again.after) == canonical
    assert is_canonical(again, parse_qsl(canonical))


def test_a_canonical_address_has_nothing_empty_and_nothing_default():
    found = form("q=&period=30d&from=26.10.2026&to=24.11.2026&min=&max=")
    assert query_string(found) == ""
    assert query_string(form("q=a+b&state=posted&preset=today")) == "q=a+b&period=today&state=posted"


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("5", 500),
        ("5,5", 550),
        ("5.05", 505),
        ("1 234,56", 123456),
        ("1\u00a0234\u00a0567,89", 123456789),
        ("250 ₽", 25000),
        ("250 руб.", 25000),
        ("0", 0),
        ("", None),
        ("12 34", None),
        ("1.234", None),
        ("5,", None),
        ("-5", None),
        ("٥", None),
        ("9 999 999 999 999 999", None),
        ("₽1,234.56", 123456),
        ("1,234.5", 123450),
        ("1,234,567", 123456700),
        ("₽ 500", 50000),
        ("1,234", None),
        ("12,34.5", None),
        ("five", None),
    ],
)
def test_sums_are_read_as_people_type_them(text, minor):
    typed = read_typed_sum(text)
    assert (typed and typed.amount) == minor


@pytest.mark.parametrize("text", ["1.2.2026", "01.02.2026", "2026-02-01"])
def test_dates_are_read_in_both_spellings(text):
    assert typed_date(text) == date(2026, 2, 1)


@pytest.mark.parametrize("text", ["", "31.02.2026", "2026-02-31", "1/2/2026", "32.01.2026", "01.01.1999", "1.1.26"])
def test_what_is_no_date_is_none(text):
    assert typed_date(text) is None
