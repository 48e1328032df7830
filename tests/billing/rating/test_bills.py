"""Rating a usage file without a database: rows, bills, promotions, explanations, and the command itself."""

import io
import json
import random
import re
from dataclasses import replace
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.catalogue.nodes import CatalogueError
from billing.rating.bills import Bill, BillTerms, rate_usage
from billing.rating.bulk import rate_in_bulk
from billing.rating.printout import as_json, rated_of_json, report
from billing.rating.rated_file import RejectedRow, read_usage
from kopeck.cli.main import main
from ratingcore import reference
from tests.billing.catalogue.catalogues import EXAMPLES, HEAD, example, one_price, read

HEADER = "account,item,time,quantity\n"


def rate(catalogue, rows: str, plan: str = "", **terms) -> tuple[list[Bill], list[RejectedRow]]:
    text = rows if rows.startswith("account") else HEADER + rows
    usage, rejected = read_usage("usage.csv", io.BytesIO(text.encode()), catalogue, plan)
    bills, unrated = rate_usage(catalogue, usage, BillTerms(catalogue.currency, **terms))
    return bills, [*rejected, *unrated]


def example_bill(**terms) -> Bill:
    bills, rejected = rate(example("mobile.yaml"), (EXAMPLES / "usage.csv").read_text("utf-8"), "smart", **terms)
    assert rejected == []
    assert len(bills) == 1
    return bills[0]


def test_the_example_comes_to_what_a_pocket_calculator_says() -> None:
    bill = example_bill()
    # 450 the fee; 1 minute at 2.00, then 10 minutes of which 5 at night: 2 + 10 + 7; 110 MB in two blocks: 30;
    # roaming 5.00 and two minutes at 54.90.
    assert [(line.item, line.gross) for line in bill.lines] == [
        ("fee", 450_00),
        ("voice", 19_00),
        ("data", 30_00),
        ("roaming", 114_80),
    ]
    assert (bill.net, bill.tax, bill.total) == (503_11, 110_69, 613_80)


def test_a_code_halves_the_fee_for_three_months_and_not_in_the_fourth() -> None:
    for first, fee in (((2026, 11), 225_00), ((2026, 9), 225_00), ((2026, 8), 450_00)):
        assert example_bill(codes=("WELCOME",), first_month=first).lines[0].gross == fee


def test_an_account_is_billed_for_months_in_which_it_used_nothing() -> None:
    rows = "7,voice,2026-01-10,60 s\n7,voice,2026-03-10,60 s\n"
    bills, _ = rate(example("mobile.yaml"), rows, "smart")
    assert [(bill.period.label, bill.total) for bill in bills] == [
        ("2026-01", 450_00),
        ("2026-02", 450_00),
        ("2026-03", 450_00),
    ]


def test_allowances_begin_anew_each_month_of_the_catalogues_zone() -> None:
    rows = (
        "7,voice,2026-01-31T20:59:59Z,300 min\n7,voice,2026-01-31T21:00:00Z,300 min\n7,voice,2026-02-10T12:00,1 min\n"
    )
    bills, _ = rate(example("mobile.yaml"), rows, "smart")
    assert [[line.gross for line in bill.lines] for bill in bills] == [[450_00, 0, 0], [450_00, 2_00, 0]]


def test_a_line_falls_into_parts_where_the_tax_rate_changes_within_a_period() -> None:
    more = "taxes: {vat: {rates: [{from: 2025-01-01, percent: 20}, {from: 2026-01-16, percent: 22}]}}"
    catalogue = read(one_price("- per_unit: {price: 1}", item="tax: vat", more=more, version="tax: outside"))
    (bill,), _ = rate(catalogue, "7,use,2026-01-15,100\n7,use,2026-01-16,100\n")
    assert [(part.tax.rate_ppm, part.gross) for part in bill.lines[0].parts] == [(200_000, 120_00), (220_000, 122_00)]
    assert bill.total == 242_00


def test_promotions_act_in_their_order_on_the_exact_sum_and_are_rounded_once() -> None:
    promotions = (
        "promotions:\n"
        "  - {promotion: later, from: 2026-01-01, amount: 1, order: 2}\n"
        "  - {promotion: first, from: 2026-01-01, percent: 33.3333, order: 1}\n"
        "  - {promotion: over, from: 2026-01-01, until: 2026-01-15, percent: 50, code: X}\n"
    )
    catalogue = read(one_price("- per_unit: {price: 0.05}", more=promotions))
    (bill,), _ = rate(catalogue, "7,use,2026-02-10,100\n", codes=("X",))
    line = bill.lines[0]
    assert [one.promotion.number for one in line.discounts] == ["first", "later"]
    assert line.discounts[-1].after_micro == 233_333_500  # 5.00 - 33.3333 % - 1.00
    assert line.amount == 2_33


def test_free_units_come_off_before_tiers_and_free_periods_take_all() -> None:
    promotions = (
        "promotions:\n"
        "  - {promotion: units, from: 2026-01-01, free_units: 1 min, items: [use]}\n"
        "  - {promotion: month, from: 2026-01-01, free_periods: 1, code: FREE}\n"
    )
    steps = "- increments: {first: 60, next: 60}\n- graduated: {tiers: [{upto: 60, price: 2}, {price: 1}]}"
    catalogue = read(one_price(steps, more=promotions))
    assert rate(catalogue, "7,use,2026-02-10,61\n7,use,2026-02-11,60\n")[0][0].total == 60 * 2_00 + 60 * 1_00
    (first, second), _ = rate(catalogue, "7,use,2026-02-10,121\n7,use,2026-03-10,120\n", codes=("FREE",))
    assert (first.total, second.total) == (0, 120_00)


def test_a_percentage_item_is_taken_of_rounded_lines() -> None:
    text = HEAD + (
        "items: {use: {unit: s}, fund: {percentage_of: [use]}}\nplans: {p: {items: [fund, use]}}\nprices:\n"
        "  - {item: use, versions: [{from: 2026-01-01, steps: [per_unit: {price: 0.105}]}]}\n"
        "  - {item: fund, versions: [{from: 2026-01-01, steps: [percentage: {percent: 1.2, minimum: 0.02}]}]}\n"
    )
    (bill,), _ = rate(read(text), "7,use,2026-02-10,101\n", "p")
    # 101 x 0.105 = 10.605, rounded 10.61; 1.2 % of it is 0.12732
    assert [(line.item, line.gross) for line in bill.lines] == [("use", 10_61), ("fund", 13)]


def test_pools_are_shared_by_all_orders_of_an_account() -> None:
    text = HEAD + (
        "items: {a: {unit: s}, b: {unit: s}}\npools: {m: {unit: s}}\n"
        "plans:\n  p: {items: [a], pools: [{pool: m, quantity: 100}]}\n"
        "  q: {items: [b], pools: [{pool: m, quantity: 20}]}\n"
        "prices:\n"
        "  - {item: a, versions: [{from: 2026-01-01, steps: [allowance: {pool: m}, per_unit: {price: 1}]}]}\n"
        "  - {item: b, versions: [{from: 2026-01-01, steps: [allowance: {pool: m}, per_unit: {price: 2}]}]}\n"
    )
    rows = "account,item,time,quantity,plan\n7,b,2026-02-02,110,q\n7,a,2026-02-01,5,p\n7,a,2026-02-03,10,p\n"
    (bill,), _ = rate(read(text), rows)
    assert [(line.item, line.gross) for line in bill.lines] == [("a", 5_00), ("b", 0)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("7,call,2026-02-01,1", "there is no item 'call'"),
        ("7,voice,2026-02-30,1", "is no date such as"),
        ("7,voice,2024-12-31,1", "outside the catalogue's dates"),
        ("7,voice,2026-02-01,-1", "it may not be negative"),
        ("7,voice,2026-02-01,1.5", "1.5 is no whole number of steps of 1 s"),
        ("7,voice,2026-02-01,9999999999999999999", "is absurd"),
        ("7,voice,2026-02-01,1000 h", "longer than 2,678,400"),
        ("7,voice,2026-02-01,", "no quantity"),
        (",voice,2026-02-01,1", "no account"),
        ("7,voice,2026-02-01", "3 cells, and 4 columns"),
        ("7,voice,2026-02-01,1 GB", "'GB' is none of: s, min, h"),
        ("7,roaming,2026-02-01,60", "no rate for destination (none)"),
        ("7,voice,2026-02-01\x07,60", "a character that cannot be shown"),
    ],
)
def test_a_bad_row_costs_nothing_has_its_line_and_reason_and_stops_nobody(row, reason) -> None:
    bills, rejected = rate(example("mobile.yaml"), f"{row}\n7,voice,2026-02-01,1 min\n", "smart")
    assert [bill.total for bill in bills] == [450_00]
    ((place, said),) = [(str(one.place), one.reason) for one in rejected]
    assert place == "usage.csv:2"
    assert reason in said


def test_a_row_acts_once_by_its_id() -> None:
    rows = "account,item,time,quantity,id\n7,voice,2026-02-01,301 min,a\n7,voice,2026-02-01,301 min,a\n"
    (bill,), rejected = rate(example("mobile.yaml"), rows, "smart")
    assert bill.lines[1].gross == 1_40  # at midnight, so at night
    assert "a row acts once" in rejected[0].reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"account,item,time\n", "the first line must name the columns"),
        (b"account,item,time,quantity,sum\n", "column 'sum' is not known"),
        (b"account,item,time,quantity\n\xff,1\n", "usage.csv:2: error: byte 0xff is no UTF-8"),
        (b"account,item,time,quantity\na\0b\n", "zero byte"),
        (b"account,item,time,quantity\n" + b"x" * 20_000, "a line of more than 10,000 bytes"),
        (b'account,item,time,quantity\n7,"voice', "not CSV"),
    ],
)
def test_a_broken_file_is_refused_whole(data, message) -> None:
    with pytest.raises(CatalogueError, match=re.escape(message)):
        read_usage("usage.csv", io.BytesIO(data), example("mobile.yaml"))


def test_a_mark_of_the_byte_order_and_semicolons_are_no_matter() -> None:
    data = "\ufeffaccount;item;time;quantity\r\n7;voice;2026-02-01;60\r\n".encode()
    usage, rejected = read_usage("usage.csv", io.BytesIO(data), example("mobile.yaml"))
    assert (len(usage), rejected) == (1, [])


def test_every_derivation_in_json_is_recomputed_by_the_judge_from_its_numbers_alone() -> None:
    catalogue = example("mobile.yaml")
    found = json.loads(json.dumps(as_json(catalogue, [example_bill()], [], "RUB", explain=True)))
    events = [event for line in found["bills"][0]["lines"] for event in line["events"]]
    assert len(events) == 10  # seven rows and three closes; a rate card has none
    for event in events:
        assert reference.recompute(rated_of_json(event)) == event["amount_micro"]
    for line in found["bills"][0]["lines"]:
        assert sum(event["amount_micro"] for event in line["events"]) == line["sum_micro"]


QUANTITIES = st.lists(st.tuples(st.integers(1, 28), st.integers(0, 23), st.integers(0, 20_000)), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(QUANTITIES, st.sampled_from(("en", "ru")))
def test_whatever_was_used_the_report_adds_up(used, language) -> None:
    catalogue = example("mobile.yaml")
    rows = "".join(f"7,voice,2026-11-{day:02d}T{hour:02d}:30:00,{seconds}\n" for day, hour, seconds in used)
    (bill,), _ = rate(catalogue, rows, "smart")
    assert bill.total == sum(line.gross for line in bill.lines) == bill.net + bill.tax
    text = "\n".join(report(catalogue, [bill], [], "RUB", language, explain=True))
    assert ("Total to pay" if language == "en" else "Итого к оплате") in text


# ---- the command


def kopeck(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_checks_a_good_catalogue_with_status_0_and_a_bad_one_with_1_and_2(capsys, tmp_path) -> None:
    status, out, _ = kopeck(capsys, "catalogue", "check", str(EXAMPLES / "mobile.yaml"))
    assert status == 0
    assert out.endswith("mobile.yaml: 4 items, 1 plans, 4 price lists: 0 errors, 1 warnings\n")
    no_price = tmp_path / "c.yaml"
    no_price.write_text(one_price("- flat: {amount: 1}").replace("items:\n", "items:\n  sms: {unit: piece}\n"), "utf-8")
    status, out, _ = kopeck(capsys, "catalogue", "check", "--json", str(no_price))
    assert (status, json.loads(out)[0]["code"]) == (1, "price-missing")
    no_price.write_text("kopeck_catalogue: 1\n", "utf-8")
    status, _, err = kopeck(capsys, "catalogue", "check", str(no_price))
    assert (status, err) == (2, "c.yaml:1:1: error: a catalogue needs the field 'name' [format]\n")


def test_the_command_rates_in_both_languages(capsys) -> None:
    arguments = ("rate", "--catalog", str(EXAMPLES / "mobile.yaml"), "--usage", str(EXAMPLES / "usage.csv"))
    status, out, _ = kopeck(capsys, *arguments, "--plan", "smart", "--explain")
    assert status == 0
    assert "Total to pay" in out
    assert "3. graduated: (660 s x 2.00 / 60 s = 22.00) - (360 s x 2.00 / 60 s = 12.00) = 10.00" in out
    status, out, _ = kopeck(capsys, *arguments, "--plan", "smart", "--language", "ru")
    assert "613,80\u00a0₽" in out
    status, out, _ = kopeck(capsys, *arguments, "--plan", "smart", "--json")
    assert json.loads(out)["bills"][0]["total_minor"] == 613_80


def test_the_command_says_what_was_not_billed_with_status_1(capsys) -> None:
    status, out, _ = kopeck(
        capsys, "rate", "--catalog", str(EXAMPLES / "mobile.yaml"), "--usage", str(EXAMPLES / "usage.csv")
    )
    assert status == 1
    assert "Rows that were not billed: 6" in out
    assert "usage.csv:2: item voice has no price for this buyer" in out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--plan", "none"), "there is no plan 'none'"),
        (("--since", "2026-13"), "--since is a month"),
        (("--language", "fr"), "'fr' is not one of"),
    ],
)
def test_wrong_options_have_status_2(capsys, option, message) -> None:
    arguments = ("rate", "--catalog", str(EXAMPLES / "mobile.yaml"), "--usage", str(EXAMPLES / "usage.csv"))
    status, _, err = kopeck(capsys, *arguments, *option)
    assert status == 2
    assert message in err


# ---- long files


def without_events(bills: list[Bill]) -> list[Bill]:
    return [replace(bill, lines=tuple(replace(line, events=()) for line in bill.lines)) for bill in bills]


def random_rows(dice: random.Random, items: tuple[str, ...], plans: tuple[str, ...], count: int) -> str:
    rows = ["account,item,time,quantity,duration,destination,plan,group"]
    for _ in range(count):
        item, amount = dice.choice(items), dice.randint(1, 4_000)
        when = f"2026-{dice.randint(1, 3):02d}-{dice.randint(1, 28):02d}T{dice.randint(0, 23):02d}:30:00"
        length, to = (amount, dice.choice(["79161234567", "4915123456", "1", ""])) if item != "data" else (0, "")
        row = (dice.randint(1, 9), item, when, amount, length, to, dice.choice(plans), dice.choice(["", "staff"]))
        rows.append(",".join(map(str, row)))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("codes", [(), ("WELCOME",)])
def test_a_long_file_comes_to_the_same_bills_as_by_the_judge(seed: int, codes: tuple[str, ...]) -> None:
    catalogue = example("mobile.yaml")
    rows = random_rows(random.Random(seed), ("voice", "data", "roaming"), ("smart", ""), 250)
    usage, bad = read_usage("u.csv", io.BytesIO(rows.encode()), catalogue)
    terms = BillTerms(catalogue.currency, codes)
    bills, rejected = rate_usage(catalogue, usage, terms)
    in_bulk, unrated = rate_in_bulk(catalogue, usage, terms)
    assert without_events(bills) == without_events(in_bulk)
    assert sorted(rejected, key=str) == sorted(unrated, key=str)
    assert (bad, bool(bills), bool(rejected)) == ([], True, True)


def test_percentages_of_a_long_file_are_those_of_the_judge() -> None:
    catalogue = read(
        HEAD
        + "items: {use: {unit: s}, more: {unit: s}, fund: {percentage_of: [use, more]}, levy: {percentage_of: [use]}}\n"
        "plans: {p: {items: [fund, levy, use, more]}}\nprices:\n"
        "  - {item: use, versions: [{from: 2026-01-01, steps: [per_unit: {price: 0.105}]}]}\n"
        "  - {item: more, versions: [{from: 2026-01-01, steps: [per_unit: {price: 0.01, per: 3}]}]}\n"
        "  - {item: levy, versions: [{from: 2026-01-01, steps: [percentage: {percent: 3, fixed: 0.05}]}]}\n"
        "  - {item: fund, versions: [{from: 2026-01-01, steps: [percentage: {percent: 1.2, minimum: 0.02}]}]}\n"
    )
    rows = random_rows(random.Random(5), ("use", "more"), ("p", ""), 200)
    usage, bad = read_usage("u.csv", io.BytesIO(rows.encode()), catalogue)
    bills, rejected = rate_usage(catalogue, usage, BillTerms("RUB"))
    in_bulk, unrated = rate_in_bulk(catalogue, usage, BillTerms("RUB"))
    assert without_events(bills) == without_events(in_bulk)
    assert sorted(rejected, key=str) == sorted(unrated, key=str)
    assert {line.item for bill in bills for line in bill.lines} == {"use", "more", "fund", "levy"}
    assert bad == []


def test_a_long_file_is_parted_by_tax_and_rejects_items_without_a_price_as_by_the_judge() -> None:
    more = """\
        taxes: {vat: {rates: [{from: 2025-01-01, percent: 20}, {from: 2026-01-16, percent: 22}]}}
    """
    text = one_price("- per_unit: {price: 1, per: 7}", item="tax: vat", more=dedent(more), version="tax: outside")
    catalogue = read(text.replace("prices:\n", "  free: {unit: s}\nprices:\n"))
    rows = "7,use,2026-01-15,100\n7,use,2026-01-16,100\n8,free,2026-01-16,1\n9,use,2026-02-16,9\n9,free,2026-02-17,9\n"
    usage, _ = read_usage("u.csv", io.BytesIO((HEADER + rows).encode()), catalogue)
    bills, rejected = rate_usage(catalogue, usage, BillTerms("RUB"))
    in_bulk, unrated = rate_in_bulk(catalogue, usage, BillTerms("RUB"))
    assert without_events(bills) == without_events(in_bulk)
    assert sorted(rejected, key=str) == sorted(unrated, key=str)
    assert (len(bills[0].lines[0].parts), len(rejected)) == (2, 2)
    assert rate_in_bulk(catalogue, usage[2:3], BillTerms("RUB"))[0] == []


def test_the_command_takes_the_bulk_way_above_its_threshold_and_explains_nothing_there(capsys, monkeypatch) -> None:
    arguments = ["rate", "--catalog", str(EXAMPLES / "mobile.yaml"), "--usage", str(EXAMPLES / "usage.csv")]
    arguments += ["--plan", "smart"]
    said = []
    for threshold in (200_000, 2):
        monkeypatch.setattr("kopeck.cli.billing.catalogue.JUDGED_ROWS", threshold)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--explain"])
    assert ended.value.code == 2
    assert "explain a part of the file, or leave --explain out" in capsys.readouterr().err
