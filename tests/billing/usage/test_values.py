"""Values of events: exact to the millionth, or refused with a reason."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.usage.format import QuantityField, parse_format
from billing.usage.values import MAX_QUANTITY_MICRO, to_micro
from tests.billing.usage.usage_files import CALLS, CALLS_HEADER, NOW, UNHURRIED, calls, reasons, run

FACTOR = st.integers(1, 10**12) | st.sampled_from([1, 60, 1_000, 1_024, 1_048_576, 10**9])


@UNHURRIED
@given(
    st.lists(st.tuples(st.integers(0, 10**15 - 1), st.integers(0, 10**9 - 1)), min_size=1, max_size=6),
    FACTOR,
    FACTOR,
    st.sampled_from(["exact", "half_away", "up", "down"]),
)
def test_quantities_are_what_exact_arithmetic_says(values, multiply, divide, rounding) -> None:
    rule = QuantityField(column="q", multiply=multiply, divide=divide, rounding=rounding)
    whole, parts = (np.array(column, np.int64) for column in zip(*values, strict=True))
    micro, refused = to_micro(whole, parts, rule)
    for (units, billionths), got, inexact in zip(values, micro.tolist(), refused.tolist(), strict=True):
        exact = (units + Fraction(billionths, 10**9)) * multiply / divide * 10**6
        down = exact.numerator // exact.denominator
        rest = exact - down
        more = {"exact": False, "down": False, "up": rest > 0, "half_away": rest >= Fraction(1, 2)}[rounding]
        assert got == min(down + more, MAX_QUANTITY_MICRO + 1)
        assert inexact == (rounding == "exact" and rest > 0)


def line(**changed: str) -> bytes:
    values = {
        "id": "1",
        "phone": "79010000001",
        "type": "1",
        "begun": "20.11.2026 10:00:00",
        "minutes": "1,5",
        "called": "+7 495 111-22-33",
        **changed,
    }
    return (CALLS_HEADER + ";".join(values.values()) + "\n").encode()


def test_a_good_line_is_an_event() -> None:
    (event,) = run(line(), calls()).events.to_pylist()
    assert str(event.pop("at")) == str(event.pop("counts_at")) == "2026-11-20 07:00:00+00:00"
    assert event == {
        "key": "1",
        "account": "79010000001",
        "item": "voice",
        "quantity_micro": 1_500_000,
        "duration_s": 0,
        "destination": "74951112233",
        "line": 2,
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"id": ""}, "key"),
        ({"id": "k" * 513}, "key"),
        ({"phone": ""}, "account"),
        ({"phone": "7 901"}, "account"),
        ({"phone": "７９０１"}, "account"),
        ({"type": "3"}, "item"),
        ({"begun": "20.11.2026"}, "time"),
        ({"begun": "23.11.2026 18:00:00"}, "time_range"),
        ({"begun": "20.11.2025 10:00:00"}, "time_range"),
        ({"begun": "20.11.0001 10:00:00"}, "time_range"),
        ({"minutes": ""}, "quantity"),
        ({"minutes": "-1"}, "quantity_negative"),
        ({"minutes": "1.5"}, "quantity"),
        ({"minutes": "1e3"}, "quantity"),
        ({"minutes": "NaN"}, "quantity"),
        ({"minutes": "٣"}, "quantity"),
        ({"minutes": "1,0000001"}, "quantity_inexact"),
        ({"minutes": "1000000000001"}, "quantity_range"),
        ({"minutes": "9" * 15}, "quantity_range"),
        ({"minutes": "9" * 16}, "quantity"),
        ({"called": "ж"}, "destination"),
        ({"called": "1" * 65}, "destination"),
    ],
)
def test_a_bad_value_rejects_its_line_and_no_other(changed, reason) -> None:
    outcome = run(line(**changed) + line(id="2").split(b"\n")[1] + b"\n", calls())
    assert reasons(outcome) == {2: reason}
    assert outcome.events.column("key").to_pylist() == ["2"]


def test_the_reason_shows_the_value() -> None:
    (reject,) = run(line(minutes="-1"), calls()).rejects
    assert reject.detail == "minutes '-1' is negative"


def test_names_of_columns_may_hold_braces() -> None:
    made = parse_format(CALLS.replace('"minutes"', '"{0}"'), "f")
    (reject,) = run(line(minutes="x").replace(b"minutes", b"{0}"), made).rejects
    assert reject.detail == "{0} 'x' is no number with at most 9 decimals"


@pytest.mark.parametrize(("item", "good"), [("звонки", True), ("voice-2.1", True), ("a b", False), ("", False)])
def test_items_may_have_letters_of_any_language(item, good) -> None:
    made = parse_format(CALLS.replace('map = { "1" = "voice", "2" = "sms" }', ""), "f")
    assert reasons(run(line(type=item), made)) == ({} if good else {2: "item"})


def test_an_item_that_no_catalogue_has_is_rejected() -> None:
    assert reasons(run(line(), calls(), items=frozenset({"voice"}))) == {}
    (reject,) = run(line(), calls(), items=frozenset({"data", "sms"})).rejects
    assert (reject.reason, reject.detail) == ("unknown_item", "no catalogue has an item 'voice'")


def test_accounts_lose_their_prefix_and_zeros() -> None:
    made = parse_format(CALLS.replace('"phone"', '"phone"\nstrip_prefix = "+7"\nstrip_leading_zeros = true'), "f")
    assert run(line(phone="+7001"), made).events.column("account").to_pylist() == ["1"]


def test_keys_of_several_columns_cannot_be_confused() -> None:
    made = parse_format(CALLS.replace('key = ["id"]', 'key = ["id", "phone"]'), "f")
    first, second = (run(line(id=key, phone=phone), made).events for key, phone in (("1", "23"), ("12", "3")))
    assert first.column("key").to_pylist() != second.column("key").to_pylist()


def test_times_of_two_columns_are_joined_and_durations_read() -> None:
    text = CALLS.replace('"begun"', '["type", "begun"]').replace('column = "type"', 'value = "x"')
    text = text.replace('map = { "1" = "voice", "2" = "sms" }', "") + '\n[duration]\ncolumn = "id"\n'
    (event,) = run(line(id="61", type="20.11.2026", begun="10:00:00"), parse_format(text, "f")).events.to_pylist()
    assert (event["duration_s"], event["at"].hour) == (61, 7)
    outcome = run(line(id="2678401", type="20.11.2026", begun="10:00:00"), parse_format(text, "f"))
    assert reasons(outcome) == {2: "duration"}


def test_events_of_closed_periods_count_in_the_open_one_or_are_rejected() -> None:
    opened = int(NOW.timestamp()) - 86_400
    accepted = run(line(), calls(), open_from_s=opened)
    assert accepted.late == 1
    (event,) = accepted.events.to_pylist()
    assert int(event["counts_at"].timestamp()) == opened
    assert event["at"].day == 20
    assert reasons(run(line(), calls(), late="reject", open_from_s=opened)) == {2: "late"}
