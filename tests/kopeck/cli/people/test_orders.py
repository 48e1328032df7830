"""``kopeck customer`` and ``kopeck order`` as staff type them: a whole life from the shell."""

import json
import re
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.billing.catalogue.catalogues import EXAMPLES
from tests.billing.orders.shop import rows
from web.access.audit import CHANGES

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def desk(kopeck):
    """The example catalogue, a company and a child of it for whom it pays."""
    assert kopeck("catalogue", "load", str(EXAMPLES / "mobile.yaml")).status == 0
    assert kopeck("customer", "add", "firm", "--name", "ООО Ромашка", "--detail", "inn=7701234567").status == 0
    assert kopeck("customer", "add", "desk", "--parent", "firm", "--parent-pays").status == 0
    return kopeck


def test_a_whole_life_of_a_customer_is_run_from_the_shell(desk) -> None:
    added = desk("order", "add", "desk", "--plan", "smart", "--number", "A1", "--starts", "2026-01-31", "--in-advance")
    assert added.out == "order A1 is added\n"
    assert desk("order", "suspend", "A1", "--from", "2026-05-01", "--why", "asked").out == "order A1 is suspended\n"
    assert desk("order", "resume", "A1", "--at", "2026-05-10").out == "order A1 goes on\n"
    assert desk("order", "change-quantity", "A1", "3", "--at-period-end").out.startswith(
        "order desk-2 replaces A1 from "
    )
    assert "replaces A1 from " in desk("order", "change-quantity", "A1", "3", "--at-period-end").out
    charge = ("order", "charge", "desk", "--amount", "-150.00", "--description", "Извинение", "--tax", "22")
    keyed = (*charge, "--key", "k1", "--why", "an outage", "--on", "2026-12-01")
    assert desk(*keyed).out == "charge k1 is written, for a run on or after 2026-12-01\n"
    assert desk(*keyed).out == "charge k1 was written already, for a run on or after 2026-12-01\n"
    assert desk("order", "cancel", "A1", "--at", "2026-06-01").out == "order A1 ends at 2026-06-01\n"
    assert desk("customer", "move", "desk", "--no-parent").out == "customer desk is nobody's child\n"
    assert desk("customer", "edit", "desk", "--contact", "email=d@example.ru").status == 0
    refused = desk("customer", "close", "desk")
    assert (refused.status, refused.err.splitlines()) == (
        2,
        [
            "kopeck: customer desk cannot be closed yet: 2 orders that are not billed to their end "
            "(A1 has ended: the next billing run bills it), 1 manual lines not billed"
        ],
    )
    assert desk("customer", "close", "firm").out == "customer firm is closed\n"


def test_an_order_is_shown_with_its_life(desk) -> None:
    desk("order", "add", "desk", "--plan", "smart", "--number", "A1", "--starts", "2026-01-31", "--code", "WELCOME")
    desk("order", "suspend", "A1", "--from", "2026-05-01", "--until", "2026-05-10T12:00")
    said = desk("order", "show", "A1").out
    assert said.startswith(
        "A1  plan smart x 1, catalogue mobile, for account desk\nfrom 2026-01-31 until further notice"
    )
    assert "every month from day 31, in arrears, broken periods by day\ncodes: WELCOME\npaid by account: firm\n" in said
    assert "1\t2026-01-31\t2026-02-28\t2026-02-28\n2\t2026-02-28\t2026-03-31\t2026-03-31\n" in said
    assert "suspended on request from 2026-05-01 until 2026-05-10 12:00:00\n" in said
    assert re.search(r"\tsuspended\tfrom 2026-05-01, until 2026-05-10 12:00:00\tsystem:cli", said)
    shown = json.loads(desk("order", "show", "A1", "--json").out)
    assert (shown["number"], shown["starts"], shown["ends"]) == ("A1", "2026-01-30T21:00:00Z", None)
    assert [period["number"] for period in shown["next"]] == [1, 2, 3]
    assert [event["event"] for event in shown["events"]] == ["suspended", "created"]
    assert desk("order", "list", "--open").out.splitlines()[1] == "A1\tdesk\tplan smart\t1\t2026-01-31\t-\tmonth\topen"
    assert [one["number"] for one in json.loads(desk("order", "list", "--json").out)] == ["A1"]


def test_periods_start_where_the_order_does_or_on_the_anchor_date(desk) -> None:
    add = ("order", "add", "desk", "--plan", "smart", "--period", "2 weeks", "--starts", "2026-09-07")
    desk(*add, "--number", "A1")
    assert "every 2 weeks counted from 2026-09-07, in arrears" in desk("order", "show", "A1").out
    assert "1\t2026-09-07\t2026-09-21\t2026-09-21\n" in desk("order", "show", "A1").out
    desk(*add, "--number", "A2", "--anchor-date", "2026-09-10")
    assert "1\t2026-08-27\t2026-09-10\t2026-09-10\n" in desk("order", "show", "A2").out
    assert json.loads(desk("order", "show", "A2", "--json").out)["anchor_phase"] in (0, 1)
    refused = desk(*add, "--number", "A3", "--anchor-date", "2026-09-10", "--anchor-day", "1")
    assert (refused.status, refused.err) == (
        2, "kopeck: an anchor date says the anchor day and month as well: leave those out\n",
    )  # fmt: skip


def test_a_plan_or_quantity_changes_at_a_date_past_or_to_come(desk) -> None:
    desk("order", "add", "desk", "--plan", "smart", "--number", "A1", "--starts", "2026-01-31")
    change = ("order", "change-quantity", "A1", "3", "--number", "A2", "--at")
    assert desk(*change, "2026-02-10").out == "order A2 replaces A1 from 2026-02-10\n"
    assert desk(*change, "2026-02-10").out == "order A2 replaces A1 from 2026-02-10 already\n"
    refused = desk(*change, "2026-02-11")
    assert (refused.status, refused.err) == (
        2, "kopeck: order A1 is replaced by A2 already, from 2026-02-10: cancel that one\n",
    )  # fmt: skip
    assert "replaced by: A2" in desk("order", "show", "A1").out
    assert "replaces: A1" in desk("order", "show", "A2").out
    ahead = desk("order", "change-quantity", "A2", "4", "--number", "A3", "--at", "2100-01-15")
    assert ahead.out == "order A3 replaces A2 from 2100-01-15\n" or ahead.status == 2
    for words in (("--now", "--at", "2026-02-12"), ()):
        refused = desk("order", "change-quantity", "A2", "5", *words)
        assert (refused.status, "say one of --now, --at-period-end, --at DATE" in refused.err) == (2, True)


def test_a_one_time_order_and_a_closed_order_are_shown(desk) -> None:
    desk("order", "add", "desk", "--item", "fee", "--one-time", "--number", "S1", "--starts", "2026-02-01")
    refused = desk("order", "show", "S1")
    assert refused.status == 2  # the example's fee has a price in a plan only
    desk("order", "add", "desk", "--item", "roaming", "--one-time", "--number", "S1", "--starts", "2026-02-01")
    assert "billed once\n" in desk("order", "show", "S1").out
    assert desk("order", "cancel", "S1", "--now").out == "order S1 ends at 2026-02-01\n"
    assert desk("order", "cancel", "S1", "--now").out == "order S1 ends at 2026-02-01 already\n"
    assert desk("order", "list").out.splitlines()[1].endswith("\tonce\ttaken back")


def test_a_customer_is_shown_with_accounts_children_and_orders(desk) -> None:
    desk("order", "add", "desk", "--plan", "smart", "--number", "A1", "--starts", "2026-01-31")
    assert desk("customer", "show", "firm").out.startswith("firm  ООО Ромашка\nactive, group -, language ru, since ")
    assert "inn: 7701234567\nchildren: desk\n" in desk("customer", "show", "firm").out
    child = desk("customer", "show", "desk").out
    assert "child of firm, who pays\n" in child
    assert "desk\tsubscriber\tactive\t0.00\tRUB\tfirm\tEurope/Moscow\tmain\t14\n" in child
    shown = json.loads(desk("customer", "show", "desk", "--json").out)
    assert (shown["parent"], shown["accounts"][0]["payer"], shown["orders"][0]["number"]) == ("firm", "firm", "A1")
    assert desk("customer", "list", "--parent", "firm").out.splitlines()[1:] == [
        "desk\t\t-\tfirm\tparent\tdesk\tactive"
    ]
    assert [one["number"] for one in json.loads(desk("customer", "list", "--json").out)] == ["desk", "firm"]


def entries(database):
    """The audit record: (action, object's kind, object, what from what to what)."""
    told = "CASE WHEN changes = '{}' THEN detail ELSE changes END"
    query = f"SELECT action, object_kind, object_id, {told} FROM audit WHERE actor LIKE %s ORDER BY id"
    return rows(database, query, "system:cli%")


def test_every_change_of_a_customer_is_on_the_audit_record(kopeck, database) -> None:
    kopeck("customer", "add", "firm", "--name", "ООО Ромашка")
    kopeck("customer", "add", "desk", "--parent", "firm", "--contact", "email=a@example.ru", "--group", "old")
    kopeck("customer", "add", "desk", "--parent", "firm", "--contact", "email=a@example.ru", "--group", "old")
    kopeck("customer", "edit", "desk", "--group", "vip", "--contact", "email=", "--due-days", "30")
    kopeck("customer", "edit", "desk", "--group", "vip")
    kopeck("customer", "move", "desk", "--parent", "firm", "--parent-pays")
    kopeck("customer", "move", "desk", "--no-parent")
    assert kopeck("customer", "account", "add", "desk", "desk-2", "--zone", "Asia/Omsk").out.endswith(" is added\n")
    assert kopeck("customer", "account", "add", "desk", "desk-2").out.endswith(" was there already, just so\n")
    assert kopeck("customer", "account", "add", "desk", "firm").status == 2
    kopeck("customer", "close", "desk")
    kopeck("customer", "close", "desk")
    kopeck("customer", "entity", "set", "main", "--name", "ООО Связь", "--invoice-prefix", "S-")
    kopeck("customer", "entity", "set", "main", "--name", "ООО Связь")
    (_, added), *later = [(one[:3], one[3]) for one in entries(database)][1:]
    assert {name: added[name] for name in ("group", "email", "parent", "account desk: payer")} == {
        "group": ["", "old"],
        "email": ["", "a@example.ru"],
        "parent": ["", "firm"],
        "account desk: payer": ["", "desk"],
    }
    of_second = {"currency": "RUB", "due_days": 30, "kind": "subscriber", "legal_entity": "main", "payer": "desk-2"}
    of_second |= {"state": "active", "zone": "Asia/Omsk"}
    desk = ("customer", "desk")
    assert later == [
        (
            ("customer_changed", *desk),
            {"account desk: due_days": [14, 30], "email": ["a@example.ru", ""], "group": ["old", "vip"]},
        ),
        (("customer_moved", *desk), {"account desk: payer": ["desk", "firm"]}),
        (("customer_moved", *desk), {"account desk: payer": ["firm", "desk"], "parent": ["firm", ""]}),
        (
            ("customer_account_added", *desk),
            {f"account desk-2: {name}": ["", value] for name, value in of_second.items()},
        ),
        (
            ("customer_closed", *desk),
            {name: ["active", "closed"] for name in ("state", "account desk: state", "account desk-2: state")},
        ),
        (
            ("legal_entity_set", "legal_entity", "main"),
            {"name": ["Our company", "ООО Связь"], "invoice_prefix": ["I-", "S-"]},
        ),
    ]
    assert {one[0] for one in entries(database)} <= set(CHANGES)
    kopeck("customer", "import", "-", stdin="number\nx1\n")
    assert entries(database)[-1] == (
        *("customers_imported", "customer", ""),
        {"file": "standard input", "lines": 1, "added": 1},
    )
    assert entries(database)[-1][0] in CHANGES


def test_a_change_that_cannot_be_put_on_record_does_not_happen(kopeck, database) -> None:
    kopeck("customer", "add", "desk")
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("REVOKE INSERT ON audit FROM kopeck_app")
    assert kopeck("customer", "edit", "desk", "--group", "vip").status != 0
    assert kopeck("customer", "import", "-", stdin="number\nx1\n").status != 0
    assert rows(database, "SELECT number, customer_group FROM customers") == [("desk", "")]


def test_legal_entities_are_set_and_listed(kopeck) -> None:
    assert kopeck("customer", "entity", "set", "main", "--name", "ООО Связь", "--detail", "inn=77").status == 0
    kopeck("customer", "entity", "set", "main", "--detail", "kpp=78", "--invoice-prefix", "С-")
    (main,) = json.loads(kopeck("customer", "entity", "list", "--json").out)
    assert (main["name"], main["details"], main["prefixes"]["invoice"]) == (
        "ООО Связь",
        {"inn": "77", "kpp": "78"},
        "С-",
    )
    assert "main\tООО Связь\tС-\tC-\tinn=77, kpp=78\n" in kopeck("customer", "entity", "list").out
    refused = kopeck("customer", "entity", "set", "main", "--detail", "fax=1")
    assert refused.err.startswith("kopeck: 'fax' is none of: inn, kpp, ogrn, address, phone, email")


@pytest.mark.parametrize(
    "command",
    [
        ("order", "show", "none"),
        ("order", "add", "none", "--plan", "smart"),
        ("order", "add", "desk", "--plan", "smart", "--starts", "soon"),
        ("order", "add", "desk", "--plan", "smart", "--zone", "Europe/Nowhere"),
        ("order", "cancel", "none", "--now"),
        ("order", "cancel", "none", "--now", "--at", "2026-01-01"),
        ("order", "cancel", "none"),
        ("order", "change-plan", "none", "smart"),
        ("order", "change-plan", "none", "smart", "--now"),
        ("order", "suspend", "none"),
        ("order", "resume", "none"),
        ("order", "charge", "desk", "--amount", "1,5", "--description", "x", "--tax", "0", "--key", "k", "--why", "w"),
        ("customer", "show", "none"),
        ("customer", "edit", "none", "--name", "x"),
        ("customer", "edit", "desk"),
        ("customer", "edit", "desk", "--contact", "email"),
        ("customer", "move", "desk"),
        ("customer", "move", "firm", "--parent", "desk"),
        ("customer", "close", "none"),
        ("customer", "account", "add", "none", "x"),
        ("customer", "account", "add", "desk", "x", "--currency", "USD"),
        ("customer", "account", "add", "desk", "firm"),
        ("customer", "account", "add", "desk", "x", "--due-days", "soon"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_two(desk, command) -> None:
    said = desk(*command)
    assert (said.status, said.out) == (2, "")
    assert re.search("^(kopeck|Error): .", said.err, re.MULTILINE)


def test_files_are_imported_with_every_bad_line_told(desk, tmp_path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("number,parent\nx1,firm\nx2,ghost\n", "utf-8")
    refused = desk("customer", "import", str(people))
    assert refused.status == 2
    assert f"{people}:3: there is no active customer ghost, or its line is bad\n" in refused.err
    assert "nothing was loaded: 1 of 2 lines are bad" in refused.err
    assert desk("customer", "import", "--skip-bad", str(people)).out.startswith(
        "loaded 1 customers, 0 exist already, 1 bad, 2 lines; "
    )
    lines = "number,account,plan,starts\n" + "".join(f"N{n},x1,smart,2026-02-0{n}\n" for n in range(4))
    rejects = tmp_path / "rejects.txt"
    said = desk("order", "import", "-", "--skip-bad", "--rejects", str(rejects), stdin=lines)
    assert said.out.startswith("loaded 3 orders, 0 exist already, 1 bad, 4 lines; ")
    assert rejects.read_text("utf-8").startswith("standard input:2: start: '2026-02-00' is no date such as")
    told = json.loads(desk("order", "import", "-", "--json", "--dry-run", "--skip-bad", stdin=lines).out)
    assert (told["lines"], told["added"], told["repeated"], told["bad"][0]["line"]) == (4, 0, 3, 2)
    assert {"read", "judge", "store"} <= set(told["stages_s"])


def test_a_wrong_file_is_one_sentence(desk) -> None:
    said = desk("order", "import", "-", stdin="number\nA1\n")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("kopeck: standard input: line 1 must name the columns, number and account and starts")


def test_the_page_for_staff_is_true(kopeck, tmp_path, monkeypatch) -> None:
    """Every command of docs/orders.md works as it stands, one after the other."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "orders.md").read_text("utf-8")
    for name, text in re.findall(r"^`(\w+\.csv)`:\n\n```\n(.*?)```", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text, "utf-8")
    commands = [line.strip().removeprefix("kopeck ") for line in page.splitlines() if line.startswith("    kopeck ")]
    assert len(commands) > 20
    for command in commands:
        words = [word.strip("'\"") for word in re.findall(r"'[^']*'|\"[^\"]*\"|\S+", command)]
        if words[0] in ("customer", "order", "catalogue"):
            words = [str(tmp_path / word) if (tmp_path / word).is_file() else word for word in words]
            said = kopeck(*words)
            assert said.status == 0, (command, said.err)
