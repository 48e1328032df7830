"""Files of customers and orders: the rules of the terminal for every line, all of a file or nothing."""

import io
from contextlib import closing
from dataclasses import replace

import numpy as np
import psycopg2
import pytest

from billing.accounts import NewAccount, create_accounts
from billing.customer_import import COLUMNS as CUSTOMER_COLUMNS
from billing.customer_import import below_circles, import_customers
from billing.customers import NewCustomer, add_customer, customer_by_number
from billing.import_columns import How, ImportFileError
from billing.order_import import COLUMNS, import_orders
from billing.order_rules import OrderError
from billing.orders import WantedOrder, add_order, end_order, find_order
from tests.billing.shop import act, open_shop, rows


@pytest.fixture
def shop(database):
    open_shop(database)
    return database


def customers(database, text, **how):
    return import_customers(database.dsn, io.BytesIO(text.encode()), How(**how), "user:test", "people.csv")


def orders(database, text, **how):
    return import_orders(database.dsn, io.BytesIO(text.encode()), How(**how))


def told(loaded):
    return [(one.line, one.reason) for one in loaded.bad]


# ---- customers


def test_a_line_makes_the_customer_that_the_command_would(database) -> None:
    text = (
        "number;name;group;email;inn;zone;due_days;currency;language;parent;parent_pays\n"
        'a;"Рога; копыта";vip;a@example.ru;7701;Asia/Omsk;30;USD;en;;\n'
        "b;;;;;;;USD;;a;yes\n"
    )
    done = customers(database, text)
    assert (done.lines, done.added, done.repeated, done.bad, done.is_refused) == (2, 2, 0, [], False)
    found = {number: act(database, lambda cur, number=number: customer_by_number(cur, number)) for number in "ab"}
    first = NewCustomer("a", "Рога; копыта", "vip", "", False, "en", {"email": "a@example.ru"}, {"inn": "7701"}, "a")
    assert found["a"].facts == NewCustomer(
        **{name: getattr(first, name) for name in NewCustomer.__slots__[:9]},
        currency="USD",
        zone="Asia/Omsk",
        due_days=30,
    )
    second = NewCustomer("b", parent="a", parent_pays=True, account="b", currency="USD")
    assert found["b"].facts == second
    assert not act(database, lambda cur: add_customer(cur, second))


def test_the_same_file_again_is_nothing_new(database) -> None:
    text = "number,parent,parent_pays\na,,\nb,a,yes\n"
    customers(database, text)
    done = customers(database, text + "c,a,no\nc,a,\n")
    assert (done.lines, done.added, done.repeated, done.bad) == (4, 1, 3, [])
    assert rows(database, "SELECT count(*) FROM customers") == [(3,)]


def test_every_bad_line_of_customers_is_told_and_nothing_is_loaded(shop) -> None:
    text = (
        "number,name,parent,parent_pays,kind,zone,due_days,account,currency,legal_entity\n"
        "ok,,,,,,,,,\n"
        "a b,,,,,,,,,\n"
        "n1,,ghost,,,,,,,\n"
        "n2,,,yes,,,,,,\n"
        "n3,,n3,,,,,,,\n"
        "n4,,,,bank,,,,,\n"
        "n5,,,,,Europe/Nowhere,,,,\n"
        "n6,,,,,,x,,,\n"
        "n7,,,,,,,ann,,\n"
        "ann,Other,,,,,,,,\n"
        "ok,Other,,,,,,,,\n"
        "n8,,c1,,,,,,,\n"
        "c1,,c2,,,,,,,\n"
        "c2,,c1,,,,,,,\n"
        "n9,,ann,yes,,,,,USD,\n"
        "n10,,paid,yes,,,,,,\n"
        "paid,,ann,yes,,,,,,\n"
        "n11,,,,,,,,,nobody\n"
        "n12,,n11,,,,,,,\n"
        "n13,,,,,,,ok,,\n"
        "n14,,,maybe,,,,,,\n"
        '"n15,,,,,,,,,\n'
        "n16\n"
    )
    done = customers(shop, text)
    assert told(done) == [
        (3, "the customer number must be 1 to 64 letters, digits or ._@+-"),
        (4, "there is no active customer ghost, or his line is bad"),
        (5, "there is no parent who could pay"),
        (6, "a customer cannot be his own parent"),
        (7, "kind 'bank' must be one of: subscriber, prepaid"),
        (8, "zone 'Europe/Nowhere' is no IANA time zone, such as Europe/Moscow"),
        (9, "'x' is no whole number"),
        (10, "account ann belongs to customer ann"),
        (11, "there is a customer ann already, and he is not the same"),
        (12, "customer ok stands on line 2 already, and is not the same"),
        (13, "its parents form a circle"),
        (14, "its parents form a circle"),
        (15, "its parents form a circle"),
        (16, "parent ann has no account in USD from which he pays for himself, so he cannot pay for others"),
        (17, "parent paid has no account in RUB from which he pays for himself, so he cannot pay for others"),
        (19, "there is no legal entity nobody"),
        (20, "there is no active customer n11, or his line is bad"),
        (21, "account ok is that of line 2 already"),
        (22, "'maybe' is not yes or no"),
        (23, 'the quotes (") do not close before the line ends, or text stands outside them'),
        (24, "1 columns, and 10 are named"),
    ]
    assert (done.is_refused, done.added) == (True, 0)
    assert rows(shop, "SELECT count(*) FROM customers") == [(3,)]
    done = customers(shop, text, skip_bad=True)
    assert (done.is_refused, done.added) == (False, 2)
    assert rows(shop, "SELECT number FROM customers ORDER BY id OFFSET 3") == [("ok",), ("paid",)]


def test_a_circle_is_found_however_deep_what_hangs_on_it() -> None:
    children = np.arange(1_000, dtype=np.int64)
    parents = np.append(children[1:], 1_000)
    assert not below_circles(children, parents).any()
    parents[-1] = 998
    assert below_circles(children, parents).all()
    shuffled = np.random.default_rng(1).permutation(1_000)
    assert below_circles(children[shuffled], parents[shuffled]).all()
    assert below_circles(np.array([7, 3, 4]), np.array([1, 4, 3])).tolist() == [False, True, True]


def test_what_a_file_added_is_one_entry_of_the_audit_record(database) -> None:
    customers(database, "number\na\nb\n")
    customers(database, "number\na\nb\n")  # nothing new
    customers(database, "number\nc\na b\n")  # refused
    customers(database, "number\nc\n", keep=False)
    entries = (
        "SELECT u.actor, u.action, u.object_kind, u.object_id, u.detail, count(*)"
        " FROM audit u JOIN customers c ON c.created_at = u.at GROUP BY u.id"
    )
    assert rows(database, "SELECT count(*) FROM audit") == [(1,)]
    detail = {"file": "people.csv", "lines": 2, "added": 2}
    assert rows(database, entries) == [("user:test", "customers_imported", "customer", "", detail, 2)]


def test_an_account_that_is_closed_is_not_taken_and_nothing_ordered_for_one(shop) -> None:
    act(shop, lambda cur: create_accounts(cur, [NewAccount("old", state="closed")]))
    assert told(customers(shop, "number,account\ndan,old\n")) == [(2, "account old is closed")]
    close = "UPDATE accounts SET state = 'closed' WHERE number = 'ann' RETURNING number"
    with closing(psycopg2.connect(shop.dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(close)
    line = "number,account,plan,starts\nA1,ann,basic,2026-01-01\n"
    assert told(orders(shop, line)) == [(2, "the account is closed")]


# ---- orders

WANTED = [
    {},
    {"plan": "", "item": "setup", "kind": "one_time", "quantity": 3},
    {"plan": "mixed", "starts": "2026-03-05T12:30:15+05:00", "proration": "second"},
    {"period": "2 weeks", "anchor_date": "2026-02-12"},
    {"period": "10 days"},
    {"period": "2 years", "anchor_month": 3},
    {"in_advance": True, "period": "2 weeks", "anchor_day": 3, "trial_until": "2026-02-20", "ends": "2026-09-01"},
    {"period": "quarter", "anchor_month": 2, "zone": "Asia/Vladivostok", "minimum": "100.50", "codes": ("HALF",)},
    {"plan": "", "item": "work", "price": "12.50", "note": "Сказано: «ночью»"},
    {"account": "ben", "plan": "dear", "starts": "2026-06-01"},
    # and those that cannot be
    {"account": "nobody"},
    {"plan": ""},
    {"plan": "none"},
    {"plan": "", "item": "none"},
    {"catalogue": "other"},
    {"account": "eve"},
    {"plan": "dear"},
    {"plan": "dear", "account": "ben"},
    {"starts": "2024-12-31"},
    {"starts": "soon"},
    {"price": "5"},
    {"plan": "", "item": "work"},
    {"kind": "one_time"},
    {"kind": "often"},
    {"plan": "", "item": "setup", "kind": "one_time", "minimum": "5"},
    {"plan": "", "item": "setup", "kind": "one_time", "ends": "2026-05-05"},
    {"quantity": 0},
    {"ends": "2026-01-31"},
    {"trial_until": "2026-01-30"},
    {"period": "2 moons"},
    {"anchor_day": 32},
    {"anchor_date": "2026-02-30"},
    {"anchor_date": "2026-02-10", "anchor_day": 3},
    {"zone": "localtime"},
    {"zone": "right/Europe/Moscow"},
    {"zone": "Europe/Nowhere"},
    {"proration": "hour"},
    {"minimum": "5.001"},
    {"codes": ("HALF", "NONE")},
    {"plan": "mixed", "in_advance": True},
]


DEFAULTS = {"account": "ann", "plan": "basic", "starts": "2026-01-31"}


def type_in(shop, wanted):
    """The order as the command makes it, or the sentence with which it is refused."""
    try:
        return act(shop, lambda cur: add_order(cur, wanted, "test"))[0].contents
    except OrderError as error:
        return str(error)


def as_line(wanted: dict, number: str) -> str:
    cells = DEFAULTS | {"number": number} | wanted
    cells["codes"] = " ".join(cells.get("codes", ()))
    cells["in_advance"] = "yes" if cells.get("in_advance") else ""
    return ";".join(str(cells.get(name, "")) for name in COLUMNS)


def test_a_line_and_the_command_agree_on_what_is_an_order(shop) -> None:
    text = "\n".join([";".join(COLUMNS), *(as_line(wanted, f"F{n}") for n, wanted in enumerate(WANTED))])
    done = orders(shop, text + "\n", skip_bad=True)
    reasons = dict(told(done))
    for number, wanted in enumerate(WANTED):
        typed = type_in(shop, WantedOrder(**{**DEFAULTS, **wanted, "number": f"C{number}"}))
        if isinstance(typed, str):
            assert reasons.pop(number + 2) == typed, wanted
            continue
        loaded = act(shop, lambda cur, n=number: find_order(cur, f"F{n}")).contents
        assert replace(loaded, number=typed.number) == typed, wanted
    assert (done.added, len(done.bad), reasons) == (10, len(WANTED) - 10, {})


def test_the_same_orders_again_are_nothing_new_even_if_they_have_ended(shop) -> None:
    text = "number,account,starts,plan\nA1,ann,2026-01-31,basic\nA2,ann,2026-01-31,basic\n"
    assert orders(shop, text).added == 2
    act(shop, lambda cur: end_order(cur, "A1", 1_780_000_000, "test"))
    done = orders(shop, text + "A3,ben,2026-01-31,basic\nA3,ben,2026-01-31,basic\n")
    assert (done.lines, done.added, done.repeated, done.bad) == (4, 1, 3, [])
    assert rows(shop, "SELECT count(*) FROM order_events") == [(1,)]


def test_another_order_under_a_number_is_a_bad_line(shop) -> None:
    orders(shop, "number,account,starts,plan\nA1,ann,2026-01-31,basic\n")
    text = "number,account,starts,plan\nA1,ann,2026-01-31,plus\nA2,ann,2026-01-31,basic\nA2,ben,2026-01-31,basic\n"
    done = orders(shop, text)
    assert told(done) == [
        (2, "there is an order A1 already, and it is not the same"),
        (4, "order A2 stands on line 3 already, and is not the same"),
    ]
    assert done.is_refused
    assert orders(shop, text, skip_bad=True).added == 1
    assert rows(shop, "SELECT o.number, a.number FROM orders o JOIN accounts a ON a.id = o.account_id ORDER BY 1") == [
        ("A1", "ann"),
        ("A2", "ann"),
    ]


def test_numbers_of_lines_hold_over_parts_blank_lines_and_windows_ends(shop, monkeypatch) -> None:
    monkeypatch.setattr("billing.import_columns.read_parts.__defaults__", (64,))
    lines = [f"A{n},ann,2026-01-31,{'none' if n % 7 == 3 else 'basic'}\r\n" for n in range(30)]
    done = orders(shop, "\ufeffnumber,account,starts,plan\r\n\r\n" + "".join(lines))
    assert [one.line for one in done.bad] == [n + 3 for n in range(30) if n % 7 == 3]
    assert done.lines == 30


def test_a_file_without_a_good_line_and_an_empty_file_are_told(shop) -> None:
    done = orders(shop, "number,account,starts\nA1,nobody,2026-01-31\n")
    assert told(done) == [(2, "no customer has an account 'nobody'")]
    assert orders(shop, "number,account,starts\nA1,nobody,2026-01-31\n", skip_bad=True).added == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1 must name the columns, number and account and starts among them"),
        ("number,account\n", "line 1 must name the columns"),
        ("number,account,starts,plam\n", "column 'plam' is not known"),
        ("number,account,starts,plan,plan\n", "column plan stands twice"),
    ],
)
def test_a_wrong_header_is_one_sentence(shop, text, sentence) -> None:
    with pytest.raises(ImportFileError, match=sentence):
        orders(shop, text)


def test_a_file_in_another_charset_is_told(shop) -> None:
    with pytest.raises(ImportFileError, match="line 1 is not UTF-8"):
        import_customers(shop.dsn, io.BytesIO("number,имя\n".encode("cp1251")), How(), "user:test")
    source = io.BytesIO("number,name\nx,Имя\n".encode("cp1251"))
    assert told(import_customers(shop.dsn, source, How(), "user:test"))[0][0] == 2
    assert "number" in CUSTOMER_COLUMNS


def test_a_dry_run_keeps_nothing(shop) -> None:
    assert orders(shop, "number,account,starts,plan\nA1,ann,2026-01-31,basic\n", keep=False).added == 1
    assert customers(shop, "number\nx\n", keep=False).added == 1
    assert rows(shop, "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM customers)") == [(0, 3)]
