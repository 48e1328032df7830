"""Customers: accounts with them, a tree of parents, who pays, and closing."""

import threading
import time

import psycopg2
import pytest

from billing.accounts import NewAccount, create_accounts
from billing.customers import (
    CustomerError,
    FurtherAccount,
    LegalEntity,
    NewCustomer,
    accounts_of,
    add_account,
    add_customer,
    close_customer,
    customer_by_number,
    edit_customer,
    list_customers,
    list_entities,
    move_customer,
    set_entity,
)
from billing.order_rules import OrderError
from billing.orders import Charge, WantedOrder, add_charge, add_order
from tests.billing.shop import act, bill, open_shop, rows


def add(database, number, **facts):
    return act(database, lambda cur: add_customer(cur, NewCustomer(number, **facts)))


def move(database, number, parent, parent_pays=False):
    act(database, lambda cur: move_customer(cur, number, parent, parent_pays, "test"))


def payer(database, number):
    return rows(
        database,
        "SELECT p.number FROM billing_accounts b JOIN accounts a ON a.id = b.account_id "
        "JOIN accounts p ON p.id = b.payer_account_id WHERE a.number = %s",
        number,
    )[0][0]


def test_a_customer_comes_with_his_account(database) -> None:
    assert add(database, "ann", name="Анна", contacts={"email": "a@example.ru"}, zone="Asia/Omsk", due_days=5)

    async def look(cur):
        found = await customer_by_number(cur, "ann")
        return found, await accounts_of(cur, found.id)

    found, (account,) = act(database, look)
    assert found.facts == NewCustomer(
        "ann", "Анна", contacts={"email": "a@example.ru"}, account="ann", zone="Asia/Omsk", due_days=5
    )
    assert (account.number, account.payer, account.balance_minor, account.due_days) == ("ann", "ann", 0, 5)


def test_the_same_customer_again_is_nothing_new_and_another_is_refused(database) -> None:
    assert add(database, "ann", name="Анна")
    assert not add(database, "ann", name="Анна")
    with pytest.raises(CustomerError, match="not the same: other name"):
        add(database, "ann", name="Иван")


def test_an_account_of_nobodys_is_taken_and_one_of_somebodys_is_not(database) -> None:
    act(database, lambda cur: create_accounts(cur, [NewAccount("79010000001")]))
    assert add(database, "ann", account="79010000001")
    assert rows(database, "SELECT count(*) FROM accounts WHERE kind = 'subscriber'") == [(1,)]
    with pytest.raises(CustomerError, match="belongs to customer ann"):
        add(database, "ben", account="79010000001")


def test_an_account_of_another_kind_or_currency_is_not_taken(database) -> None:
    act(database, lambda cur: create_accounts(cur, [NewAccount("79010000001", currency="USD")]))
    with pytest.raises(CustomerError, match="is there already and is a subscriber account in USD"):
        add(database, "ann", account="79010000001")
    assert rows(database, "SELECT count(*) FROM customers") == [(0,)]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"number": "a b"}, "customer number 'a b' must be"),
        ({"zone": "Europe/Nowhere"}, "zone 'Europe/Nowhere' is no IANA time zone"),
        ({"language": "de"}, "language 'de' must be one of: ru, en"),
        ({"currency": "rub"}, "currency 'rub' must be"),
        ({"kind": "bank"}, "kind 'bank' must be one of"),
        ({"due_days": 400}, "due days must be 0 to 365"),
        ({"contacts": {"fax": "1"}}, "'fax' is none of: person, email, phone, address"),
        ({"name": "a\nb"}, "name must be printable"),
        ({"parent": "nobody"}, "there is no customer 'nobody'"),
        ({"parent_pays": True}, "there is no parent who could pay"),
        ({"parent": "ann"}, "a customer cannot be his own parent"),
        ({"legal_entity": "other"}, "there is no legal entity 'other'"),
    ],
)
def test_what_cannot_be_a_customer_is_refused_in_a_sentence(database, facts, sentence) -> None:
    with pytest.raises(CustomerError, match=sentence):
        add(database, **({"number": "ann"} | facts))
    assert rows(database, "SELECT count(*) FROM customers") == [(0,)]


def test_a_parent_pays_only_if_he_pays_for_himself_and_in_the_currency(database) -> None:
    add(database, "top")
    add(database, "middle", parent="top", parent_pays=True)
    assert payer(database, "middle") == "top"
    with pytest.raises(CustomerError, match="middle does not pay for himself"):
        add(database, "low", parent="middle", parent_pays=True)
    with pytest.raises(CustomerError, match="top has no account in USD"):
        add(database, "far", parent="top", parent_pays=True, currency="USD")
    add(database, "low", parent="middle")
    assert payer(database, "low") == "low"


def test_who_pays_for_others_cannot_be_paid_for(database) -> None:
    add(database, "top")
    add(database, "middle")
    add(database, "low", parent="middle", parent_pays=True)
    with pytest.raises(CustomerError, match="middle pays for 1 other accounts"):
        move(database, "middle", "top", parent_pays=True)
    move(database, "middle", "top")
    assert payer(database, "middle") == "middle"


def test_parents_never_form_a_circle(database) -> None:
    add(database, "a")
    add(database, "b", parent="a")
    add(database, "c", parent="b")
    with pytest.raises(CustomerError, match="c stands below a: they would be each other's parents"):
        move(database, "a", "c")
    with pytest.raises(CustomerError, match="his own parent"):
        move(database, "a", "a")


def test_another_payer_gets_what_is_not_billed_yet(database) -> None:
    open_shop(database)
    charge = Charge("k", "ann", "repair", 100, 0, True, None, "broken")

    async def begin(cur):
        await add_order(cur, WantedOrder("ann", "A1", plan="basic", starts="2026-01-01"), "test")
        await add_order(cur, WantedOrder("ann", "A2", plan="basic", starts="2026-01-01"), "test")
        await add_charge(cur, charge, "test")

    act(database, begin)
    with psycopg2.connect(database.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE orders SET settled_at = now() WHERE number = 'A1'")
    move(database, "ann", "ben", parent_pays=True)
    moved = "SELECT o.number, p.number FROM orders o JOIN accounts p ON p.id = o.payer_account_id ORDER BY 1"
    assert rows(database, moved) == [("A1", "ann"), ("A2", "ben")]
    assert rows(database, "SELECT p.number FROM manual_lines l JOIN accounts p ON p.id = l.payer_account_id") == [
        ("ben",)
    ]
    events = "SELECT o.number, e.details FROM order_events e JOIN orders o ON o.id = e.order_id WHERE e.event = %s"
    assert rows(database, events, "payer_moved") == [("A2", {"from": "ann", "parent": "ben"})]
    move(database, "ann", "")
    assert rows(database, moved) == [("A1", "ann"), ("A2", "ann")]


def test_facts_change_and_texts_are_merged(database) -> None:
    add(database, "ann", contacts={"email": "a@example.ru", "phone": "1"})
    changes = {"group": "vip", "contacts": {"phone": "", "person": "Анна"}, "due_days": 30}
    act(database, lambda cur: edit_customer(cur, "ann", changes))
    found = act(database, lambda cur: customer_by_number(cur, "ann"))
    assert (found.facts.group, found.facts.due_days) == ("vip", 30)
    assert found.facts.contacts == {"email": "a@example.ru", "person": "Анна"}
    with pytest.raises(CustomerError, match="no customer 'eve'"):
        act(database, lambda cur: edit_customer(cur, "eve", changes))


def test_customers_are_listed_by_number_in_pages(database) -> None:
    for number in ("c", "a", "b"):
        add(database, number, group="vip" if number != "c" else "")

    def listed(**wanted):
        return [one.facts.number for one in act(database, lambda cur: list_customers(cur, **wanted))]

    assert listed() == ["a", "b", "c"]
    assert listed(after="a", limit=1) == ["b"]
    assert listed(group="vip", after="a") == ["b"]


def test_a_customer_is_closed_when_nothing_is_left_to_do(database) -> None:
    open_shop(database)
    add(database, "child", parent="ann")
    wanted = WantedOrder("ann", "A1", plan="basic", starts="2026-01-01")
    act(database, lambda cur: add_order(cur, wanted, "test"))
    said = (
        "1 orders that are not billed to their end .A1 goes on: `kopeck order cancel A1 --now` ends it., 1 active child"
    )
    with pytest.raises(CustomerError, match=said):
        act(database, lambda cur: close_customer(cur, "ann"))
    assert act(database, lambda cur: close_customer(cur, "child"))
    assert not act(database, lambda cur: close_customer(cur, "child"))
    bill(database, "A1", "arrears", "2026-01-01", "2026-02-01")
    with psycopg2.connect(database.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE orders SET settled_at = now()")
    assert act(database, lambda cur: close_customer(cur, "ann"))
    assert rows(database, "SELECT state FROM accounts WHERE number = 'ann'") == [("closed",)]
    with pytest.raises(CustomerError, match="ann is closed"):
        add(database, "late", parent="ann")
    with pytest.raises(CustomerError, match="ann is closed"):
        act(database, lambda cur: edit_customer(cur, "ann", {"name": "x"}))


def test_what_ended_and_is_not_billed_keeps_a_customer_open(database) -> None:
    open_shop(database)
    wanted = WantedOrder("ann", "A1", plan="basic", starts="2026-01-01", ends="2026-02-01")
    act(database, lambda cur: add_order(cur, wanted, "test"))
    with pytest.raises(CustomerError, match="A1 has ended: the next billing run bills it"):
        act(database, lambda cur: close_customer(cur, "ann"))


def test_an_invoice_that_is_a_draft_keeps_who_pays_it_open(database) -> None:
    open_shop(database)
    draft = (
        "INSERT INTO bill_runs (bill_on, kind, actor) VALUES ('2026-02-01', 'review', 'test');"
        "UPDATE bill_runs SET state = 'reviewed';"
        "INSERT INTO invoice_blocks (series_id, run_id, shard_no, invoices_count) SELECT 1, id, 0, 1 FROM bill_runs;"
        "INSERT INTO invoices SELECT k.id << 20, a.id, 'RUB', '2026-02-01', '2026-02-15', 100, 0, 100"
        " FROM invoice_blocks k, accounts a WHERE a.number = 'ann'"
    )
    with psycopg2.connect(database.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute(draft)
    with pytest.raises(CustomerError, match=r"closed yet: 1 invoice drafts .`kopeck bill approve` posts them"):
        act(database, lambda cur: close_customer(cur, "ann"))
    with pytest.raises(psycopg2.errors.RaiseException, match="account ann stays open: an invoice of it is a draft"):
        close_by_hand(database, "ann")
    assert act(database, lambda cur: close_customer(cur, "ben"))


def close_by_hand(database, number):
    """As somebody with SQL does, who knows nothing of orders."""
    with psycopg2.connect(database.dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE accounts SET state = 'closed' WHERE number = %s", (number,))


def test_the_database_closes_no_account_that_is_still_to_be_billed(database) -> None:
    open_shop(database)
    move(database, "ann", "ben", parent_pays=True)
    wanted = WantedOrder("ann", "A1", plan="basic", starts="2026-01-01")
    act(database, lambda cur: add_order(cur, wanted, "test"))
    for number in ("ann", "ben"):  # whose order it is, and who pays for it
        with pytest.raises(
            psycopg2.errors.RaiseException, match=f"account {number} stays open: order A1 is not"
        ) as told:
            close_by_hand(database, number)
        assert "`kopeck order cancel A1 --now` ends it" in told.value.diag.message_hint
    with psycopg2.connect(database.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE orders SET settled_at = now()")
    charge = Charge("k", "ann", "repair", 100, 0, True, None, "broken")
    act(database, lambda cur: add_charge(cur, charge, "test"))
    with pytest.raises(psycopg2.errors.RaiseException, match="account ben stays open: a charge by hand waits"):
        close_by_hand(database, "ben")
    close_by_hand(database, "eve")
    assert rows(database, "SELECT number FROM accounts WHERE state = 'closed'") == [("eve",)]


def test_nothing_is_ordered_for_an_account_that_is_closed(database) -> None:
    open_shop(database)
    close_by_hand(database, "ann")
    with pytest.raises(OrderError, match="the account is closed"):
        act(database, lambda cur: add_order(cur, WantedOrder("ann", "A1", plan="basic", starts="2026-01-01"), "test"))
    act(database, lambda cur: create_accounts(cur, [NewAccount("old", state="closed")]))
    with pytest.raises(CustomerError, match="account old is closed"):
        add(database, "dan", account="old")


def test_who_orders_while_his_customer_is_being_closed_waits_and_is_refused(database) -> None:
    open_shop(database)
    closed, go_on = threading.Event(), threading.Event()

    async def close_slowly(cur):
        await close_customer(cur, "ann")
        closed.set()
        go_on.wait(30)

    closing_one = threading.Thread(target=act, args=(database, close_slowly))
    closing_one.start()
    assert closed.wait(30)
    refused = []

    def order():
        wanted = WantedOrder("ann", "A1", plan="basic", starts="2026-01-01")
        try:
            act(database, lambda cur: add_order(cur, wanted, "test"))
        except OrderError as error:
            refused.append(str(error))

    ordering = threading.Thread(target=order)
    ordering.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    while ordering.is_alive() and rows(database, waits, database.name) == [(0,)]:
        time.sleep(0.01)
    go_on.set()
    closing_one.join()
    ordering.join()
    assert refused == ["customer ann is closed"]


def further(database, number, account, **named):
    return act(database, lambda cur: add_account(cur, number, FurtherAccount(account, **named)))


def test_a_further_account_has_what_is_not_named_from_the_first_one(database) -> None:
    add(database, "ann", zone="Asia/Omsk", due_days=5)
    assert further(database, "ann", "ann-usd", currency="USD", due_days=0)
    assert not further(database, "ann", "ann-usd", currency="USD", due_days=0)
    assert not further(database, "ann", "ann-usd")

    async def look(cur):
        found = await customer_by_number(cur, "ann")
        return found, await accounts_of(cur, found.id)

    found, (_, second) = act(database, look)
    assert found.facts.account == "ann"
    assert (second.number, second.currency, second.kind, second.payer) == ("ann-usd", "USD", "subscriber", "ann-usd")
    assert (second.zone, second.legal_entity, second.due_days) == ("Asia/Omsk", "main", 0)
    with pytest.raises(CustomerError, match="ann has an account ann-usd already, with other currency, zone"):
        further(database, "ann", "ann-usd", currency="RUB", zone="Europe/Moscow", due_days=0)


def test_a_parent_who_pays_pays_for_further_accounts_too_or_there_are_none(database) -> None:
    add(database, "top")
    add(database, "low", parent="top", parent_pays=True)
    with pytest.raises(CustomerError, match="top has no account in USD"):
        further(database, "low", "low-usd", currency="USD")
    further(database, "top", "top-usd", currency="USD")
    further(database, "low", "low-usd", currency="USD")
    assert (payer(database, "low"), payer(database, "low-usd")) == ("top", "top-usd")


@pytest.mark.parametrize(
    ("number", "account", "named", "sentence"),
    [
        ("nobody", "x", {}, "there is no customer 'nobody'"),
        ("ann", "", {}, "the account needs a number of its own"),
        ("ann", "a b", {}, "account number 'a b' must be"),
        ("ann", "x", {"currency": "rub"}, "currency 'rub' must be"),
        ("ann", "x", {"kind": "bank"}, "kind 'bank' must be one of"),
        ("ann", "x", {"zone": "Europe/Nowhere"}, "zone 'Europe/Nowhere' is no IANA"),
        ("ann", "x", {"due_days": -1}, "due days must be 0 to 365"),
        ("ann", "x", {"legal_entity": "other"}, "there is no legal entity 'other'"),
        ("ann", "ben", {}, "account ben belongs to customer ben"),
        ("ann", "old", {}, "account old is older than ann, which stands for ann as his first: open a new one"),
        ("gone", "x", {}, "customer gone is closed"),
    ],
)
def test_what_cannot_be_a_further_account_is_refused(database, number, account, named, sentence) -> None:
    act(database, lambda cur: create_accounts(cur, [NewAccount("old")]))
    for one in ("ann", "ben", "gone"):
        add(database, one)
    act(database, lambda cur: close_customer(cur, "gone"))
    with pytest.raises(CustomerError, match=sentence):
        further(database, number, account, **named)
    assert rows(database, "SELECT count(*) FROM billing_accounts") == [(3,)]


def test_a_change_of_one_fact_leaves_the_accounts_as_they_are(database) -> None:
    add(database, "ann", zone="Asia/Omsk", due_days=5)
    further(database, "ann", "ann-2", zone="Europe/Moscow", due_days=14)
    act(database, lambda cur: edit_customer(cur, "ann", {"name": "Анна"}))
    kept = "SELECT zone, due_days FROM billing_accounts ORDER BY account_id"
    assert rows(database, kept) == [("Asia/Omsk", 5), ("Europe/Moscow", 14)]
    act(database, lambda cur: edit_customer(cur, "ann", {"due_days": 20}))
    assert rows(database, kept) == [("Asia/Omsk", 20), ("Europe/Moscow", 20)]


def test_a_prefix_stays_once_a_number_was_given(database) -> None:
    def set_(number, name="ООО", **prefixes):
        act(database, lambda cur: set_entity(cur, LegalEntity(number, name, {"inn": "77"}, prefixes)))

    set_("west", invoice="W-", credit_note="WC-")
    set_("west", invoice="V-")
    with pytest.raises(CustomerError, match="needs a prefix for its invoices"):
        set_("east")
    with pytest.raises(CustomerError, match="prefix 'I-' is that of legal entity main"):
        set_("west", invoice="I-")
    with psycopg2.connect(database.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE invoice_series SET next_number = 2 WHERE prefix = 'V-'")
    with pytest.raises(CustomerError, match="numbers were given in the series of invoices already"):
        set_("west", invoice="X-")
    set_("west", name="ЗАО", invoice="V-")
    west = act(database, list_entities)[1]
    assert (west.name, west.prefixes) == ("ЗАО", {"invoice": "V-", "credit_note": "WC-"})
