"""``kopeck whatif`` and ``kopeck usage rate`` as an operator types them."""

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.billing.cycle.base import CATALOGUE, Base, cycle_base

PERIOD = ("--period", "2026-01")


@pytest.fixture
def base(database) -> Iterator[Base]:
    """Accounts S1 to S3 with the plan and 10, 20, 30 minutes in January, and S4 with minutes and no order."""
    with cycle_base(database.dsn, database.owner_dsn) as made:
        for number in range(1, 5):
            account = made.subscriber(f"S{number}")
            if number < 4:
                made.order(account)
            made.call(account, "2026-01-15T12:00:00+03:00", 10 * number)
        yield made


@pytest.fixture
def drafts(tmp_path: Path) -> Path:
    texts = {
        "same": CATALOGUE,
        "fee": CATALOGUE.replace(b"amount: 300.00", b"amount: 310.00").replace(b"price: 1.00", b"price: 0.50"),
        "later": CATALOGUE.replace(
            b"steps: [{flat: {amount: 300.00}}]}",
            b"steps: [{flat: {amount: 300.00}}]}, {from: 2027-01-01, steps: [{flat: {amount: 333.00}}]}",
        ),
        "gone": CATALOGUE.replace(b"basic: {name", b"other: {name"),
        "other": CATALOGUE.replace(b"name: cycle", b"name: other"),
        "broken": b"kopeck_catalogue: 1\nitems: [",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_bytes(text)
    return tmp_path


def test_a_month_under_a_draft_is_told(kopeck, base: Base, drafts: Path) -> None:
    said = kopeck("whatif", "--catalog", str(drafts / "fee.yaml"), *PERIOD)
    assert (said.status, said.err) == (0, "")
    # 310, 320, 330 before; 315, 320, 325 after.
    for line in (
        "2026-01: cycle version 1 (before) and fee.yaml (after)",
        "RUB with tax: 960.00 -> 960.00, +0.00 (+0.0 %)",
        "RUB accounts: 3; 1 pay less, 1 pay more, 1 pay the same",
        "              -5..-1 %          1  ################################################",
        "             no change          1  ################################################",
        "              +1..+5 %          1  ################################################",
        "  S1: RUB 310.00 -> 315.00, +5.00 (+1.6 %)",
        "  S3: RUB 330.00 -> 325.00, -5.00 (-1.5 %)",
        "  voice: RUB 49.18 -> 24.60, -24.58 (-50.0 %)",
    ):
        assert line in said.out.splitlines()


def test_the_same_catalogue_changes_nothing(kopeck, base: Base, drafts: Path) -> None:
    said = kopeck("whatif", "--catalog", str(drafts / "same.yaml"), *PERIOD)
    assert "RUB accounts: 3; 0 pay less, 0 pay more, 3 pay the same\n" in said.out
    assert "nobody pays more or less; where the draft's changes have later dates, --prices-of rates by them" in said.out


def test_changes_of_a_later_date_are_rated_by_asking_for_it(kopeck, base: Base, drafts: Path) -> None:
    later = ("whatif", "--catalog", str(drafts / "later.yaml"), *PERIOD)
    assert "3 pay the same" in kopeck(*later).out
    said = kopeck(*later, "--prices-of", "2027-02-01")
    assert "and later.yaml at the prices of 2027-02-01 (after)" in said.out
    assert "RUB with tax: 960.00 -> 1059.00, +99.00 (+10.3 %)" in said.out


def test_programs_get_integers_and_people_a_picture_and_a_page(kopeck, base: Base, drafts: Path) -> None:
    picture, page = drafts / "<bars>.svg", drafts / "page.html"
    arguments = ("whatif", "--catalog", str(drafts / "fee.yaml"), *PERIOD, "--picture", str(picture))
    told = json.loads(kopeck(*arguments, "--html", str(page), "--json").out)
    assert told["money"]["RUB"]["total_after_minor"] == 96_000
    assert [one["change_minor"] for one in (*told["rises"], *told["falls"])] == [500, -500]
    assert sum(one["accounts"] for one in told["histogram"]) == 3
    assert (told["unbilled_after"]["accounts"], told["orders"], told["events"]) == (0, 3, 3)
    drawn = ElementTree.fromstring(picture.read_text("utf-8"))
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[texts.index("-5..-1 %") :][:2] == ["-5..-1 %", "1"]
    html = page.read_text("utf-8")
    assert "<td>S3</td><td>RUB</td><td>330.00</td><td>325.00</td><td>-5.00</td>" in html
    assert picture.read_text("utf-8") in html


def test_who_cannot_be_billed_under_the_draft_is_told_and_the_status_says_so(kopeck, base: Base, drafts: Path) -> None:
    said = kopeck("whatif", "--catalog", str(drafts / "gone.yaml"), *PERIOD)
    assert said.status == 1
    assert "3 accounts cannot be billed under the draft, and are left out above: 3 unknown_plan\n" in said.out
    assert "  they pay before: RUB 786.88 net\n" in said.out
    assert ": unknown_plan: catalogue cycle has no plan basic\n" in said.out


@pytest.mark.parametrize(
    ("draft", "period", "sentence"),
    [
        ("same", "2026-13", "a period is a month such as 2026-10, not '2026-13'"),
        ("same", "2025-12", "no order began before the end of 2025-12: there is nothing to compare"),
        ("other", "2026-01", "nothing is sold under a catalogue 'other'; the database has: cycle"),
        ("broken", "2026-01", "broken.yaml:"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kopeck, base: Base, drafts: Path, draft: str, period: str, sentence: str
) -> None:
    said = kopeck("whatif", "--catalog", str(drafts / f"{draft}.yaml"), "--period", period)
    assert said.status == 2
    assert sentence in said.err


def test_usage_of_a_month_is_rated(kopeck, base: Base, drafts: Path) -> None:
    said = kopeck("usage", "rate", *PERIOD)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[:7] == [
        "usage of 2026-01 (Europe/Moscow) under cycle version 1",
        "catalogue\tplan\titem\trows\tquantity\tlines\tamount\tcurrency\tnot rated",
        "cycle\t-\tvoice\t1\t2400 s\t1\t40.00\tRUB\t-",
        "cycle\tbasic\tvoice\t3\t3600 s\t3\t60.00\tRUB\t-",
        "RUB: 100.00",
        "4 rows of 4 accounts, 4 rated",
        said.out.splitlines()[6],
    ]
    assert said.out.splitlines()[6].startswith("took ")
    drafted = kopeck("usage", "rate", *PERIOD, "--catalog", str(drafts / "fee.yaml"), "--plan", "basic", "--json")
    told = json.loads(drafted.out)
    assert [(one["plan"], one["amount_minor"]) for one in told["totals"]] == [("basic", 5_000)]
    assert (told["rows"], told["rated"], told["rejects"], told["catalogues"][0]["version"]) == (4, 4, {}, None)


def test_usage_that_cannot_be_rated_is_told_and_the_status_says_so(kopeck, base: Base, drafts: Path) -> None:
    base.rows("ALTER TABLE usage_events DISABLE TRIGGER USER")
    base.rows("UPDATE usage_events SET item = 'fax' WHERE quantity_micro = 600000000")
    said = kopeck("usage", "rate", *PERIOD)
    assert said.status == 1
    assert "not rated: 1 unknown_item\n4 rows of 4 accounts, 3 rated\n" in said.out
    assert kopeck("usage", "rate", "--period", "x").err == "kopeck: a period is a month such as 2026-10, not 'x'\n"
    assert kopeck("usage", "rate", *PERIOD, "--plan", "gold").err == "kopeck: no catalogue has a plan 'gold'\n"
