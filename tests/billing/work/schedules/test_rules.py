"""Lines of words and rules: inverse to each other; what is no rule says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.work.schedules.rules import EXAMPLES, RuleRefused, ScheduleRule, parse_rule, text_of
from tests.billing.work.schedules.strategies import rules


@given(rules)
def test_the_text_of_a_rule_reads_as_that_rule(rule: ScheduleRule) -> None:
    assert parse_rule(text_of(rule)) == rule


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_that_messages_show_are_rules(text: str) -> None:
    assert parse_rule(text_of(parse_rule(text))) == parse_rule(text)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("  Daily  at 3:05 ", "daily at 03:05"),
        ("daily at 15:00, 03:00 and 03:00", "daily at 03:00, 15:00"),
        ("every minute", "every minute"),
        ("every 60 minutes", "every hour"),
        ("every 90 minutes", "every 90 minutes"),
        ("every 24 hours", "every 24 hours"),
        ("every 15 minutes from 22:00 to 6:00", "every 15 minutes from 22:00 to 06:00"),
        ("every 15 minutes on weekdays", None),
        ("every hour on mon-fri", "every hour on mon, tue, wed, thu, fri"),
        ("every hour on working days", "every hour on working days"),
        ("every hour on monthly on last day", "every hour on monthly on last day"),
        ("weekly on sat-mon at 10:00", "weekly on mon, sat, sun at 10:00"),
        ("weekly on monday, Tuesday at 10:00", "weekly on mon, tue at 10:00"),
        ("weekly on mon-sun at 10:00", "daily at 10:00"),
        ("working days at 9:00", "working days at 09:00"),
        ("on working days at 9:00", "working days at 09:00"),
        ("monthly on 31 at 00:00", "monthly on 31 at 00:00"),
        ("monthly on 31st day at 00:00", "monthly on 31 at 00:00"),
        ("monthly on last friday and 1 at 00:00", "monthly on last fri, 1 at 00:00"),
        ("monthly on 2nd tue of jan-mar at 00:00", "monthly on 2nd tue of jan, feb, mar at 00:00"),
        ("monthly on 1 of jan-dec at 00:00", "monthly on 1 at 00:00"),
        ("monthly on 21st working day at 00:00", "monthly on 21st working day at 00:00"),
        (
            "monthly on 10, 25 or previous working day of december at 23:59",
            "monthly on 10, 25 or previous working day of dec at 23:59",
        ),
    ],
)
def test_what_people_type_becomes_one_form(typed: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(RuleRefused):
            parse_rule(typed)
    else:
        assert text_of(parse_rule(typed)) == canonical


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "names no hours"),
        ("daily", "names no hours"),
        ("daily at", "names no hours"),
        ("daily at noon", "names no hours"),
        ("daily at 24:00", "a day has 00:00 to 23:59"),
        ("daily at 12:60", "a day has 00:00 to 23:59"),
        ("daily at 12", "is no time such as 03:00"),
        ("every 0 minutes", "every minute at most"),
        ("every 25 hours", "every 24 hours at least"),
        ("every 5 minutes from 08:00 to 08:00", "end where they start"),
        ("every 5 minutes from 08:00", "names no hours"),
        ("weekly on at 03:00", "names no days"),
        ("weekly on fraiday at 03:00", "`fraiday` is no day of the week"),
        ("monthly on 0 at 03:00", "no day 0"),
        ("monthly on 32 at 03:00", "no day 32"),
        ("monthly on 99999999999 at 03:00", "no day 99999999999"),
        ("monthly on 6th mon at 03:00", "no 6th mon: 1st to 5th"),
        ("monthly on 24th working day at 03:00", "1st to 23rd"),
        ("monthly on 1 of smarch at 03:00", "`smarch` is no month"),
        ("monthly on first at 03:00", "`first` is no day of a month"),
        ("hourly at 03:00", "names no days"),
        ("15 3 * * *", "names no hours"),
        ("daily at " + ", ".join(f"0{n // 60}:{n % 60:02}" for n in range(49)), "names 49 times, 48 at most"),
        ("x" * 501, "500 characters at most"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_reason(typed: str, why: str) -> None:
    with pytest.raises(RuleRefused, match=why.replace("`", ".")):
        parse_rule(typed)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except RuleRefused:
        return
    assert parse_rule(text_of(rule)) == rule
