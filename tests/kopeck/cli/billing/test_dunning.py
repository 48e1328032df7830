"""``kopeck dunning`` as a person types it."""

import getpass
import json
import re
import time
from datetime import timedelta

from tests.billing.invoicing.invoice_books import Books, utc_today


def test_a_dry_run_tells_what_a_run_would_do_and_changes_nothing(kopeck, books, tmp_path) -> None:
    file = tmp_path / "due.csv"
    said = kopeck("dunning", "run", "--dry-run", "--list", str(file))
    assert said.status == 0
    assert said.out.startswith("a run would do this; nothing is changed\n")
    assert "(all)\t1\treminder\t2\t207.40\tRUB\n(all)\t2\twarning\t2\t207.40\tRUB\n" in said.out
    assert "orders: 0 would be suspended, 0 cancelled" in said.out
    assert "a suspension or cancellation comes 3 days after the step before it, or later" in said.out
    assert "A1\tA1\t146.40\tRUB\t" in said.out
    assert [line.split(",")[:3] for line in file.read_text().splitlines()[1:]] == [
        ["A1", "A1", "reminder warning"], ["A2", "A2", "reminder warning"],
    ]  # fmt: skip
    told = json.loads(kopeck("dunning", "run", "--dry-run", "--json", "--largest", "1").out)
    assert [(one["account"], one["overdue"]) for one in told["largest"]] == [("A1", 14_640)]
    assert books.one("SELECT count(*) FROM dunning_events") == 0
    assert kopeck("dunning", "run", "--list", str(file)).status == 2


def test_a_first_run_warns_and_the_settings_say_when_it_suspends(kopeck, books) -> None:
    said = kopeck("dunning", "run")
    assert said.out == (
        "events: 2 reminder, 2 warning, 0 suspension, 0 cancellation, 0 lifted\norders: 0 suspended, 0 cancelled\n"
    )
    assert json.loads(kopeck("dunning", "run", "--json").out) == {"orders_suspended": 0, "orders_cancelled": 0}
    assert re.search(r"next: suspension, by a run on \d{4}-\d\d-\d\d or later\n", kopeck("dunning", "show", "A1").out)
    assert json.loads(kopeck("dunning", "show", "A1", "--json").out)["next"]["action"] == "suspension"
    assert kopeck("dunning", "settings", "show").out == (
        "a suspension or cancellation comes 3 days after the step before it, or later\nevery overdue debt counts\n"
    )
    assert kopeck("dunning", "settings", "set", "--days-between", "0", "--minimum", "100").out == (
        "a suspension or cancellation may come in the same run as the step before it\nthe least debt in RUB is 100.00\n"
    )
    assert json.loads(kopeck("dunning", "settings", "show", "--json").out) == {
        "days_between": 0, "minimums": {"RUB": 10_000},
    }  # fmt: skip
    assert kopeck("dunning", "run").out == (
        "events: 0 reminder, 0 warning, 1 suspension, 1 cancellation, 1 lifted\norders: 1 suspended, 1 cancelled\n"
    )
    shown = kopeck("dunning", "show", "A1").out
    assert "overdue 146.40 RUB, the oldest unpaid invoice was due on " in shown
    assert "cancellation\t146.40\tI-000001\tsystem:cli" in shown
    for words, message in (
        (("--days-between", "1000"), "0 to 365 days, not 1000"),
        (("--minimum", "x"), "minimum: "),
        (("--minimum", "1", "--currency", "rub"), "currency 'rub' is none such as RUB"),
        ((), "say --days-between, --minimum, or both"),
    ):
        said = kopeck("dunning", "settings", "set", *words)
        assert (said.status, message in said.err) == (2, True)


def test_a_suspended_customer_looks_so_everywhere_until_a_delay(kopeck, books, database) -> None:
    kopeck("dunning", "settings", "set", "--days-between", "0")
    kopeck("dunning", "steps", "set", "1:reminder", "14:suspension")
    Books(database.owner_dsn).ask("UPDATE orders SET number = 'O1'")
    assert "\topen\n" in kopeck("order", "list", "--account", "A1").out
    kopeck("dunning", "run")
    assert "\tsuspended for debt\n" in kopeck("order", "list", "--account", "A1").out
    assert ", suspended for debt since " in kopeck("order", "show", "O1").out
    [order] = json.loads(kopeck("order", "list", "--account", "A1", "--json").out)
    assert (order["state"], order["suspension"]["reason"]) == ("suspended for debt", "dunning")
    shown = kopeck("customer", "show", "A1").out
    assert shown.count("active, suspended for debt") == 2
    assert "\tsuspended for debt\n" in shown
    assert "A1\tactive, suspended for debt\n" in kopeck("customer", "list").out
    assert "\nsubscriber, active, suspended for debt, opened " in kopeck("account", "show", "A1").out
    assert json.loads(kopeck("customer", "show", "A1", "--json").out)["suspended"] == ["dunning"]
    assert "suspended for debt since " in kopeck("dunning", "show", "A1").out
    [blocked] = kopeck("dunning", "blocked").out.splitlines()[1:]
    assert blocked.split("\t")[:4] == ["A1", "O1", "plan home", "suspended for debt"]
    assert json.loads(kopeck("dunning", "blocked", "--json").out)[0]["reason"] == "dunning"
    assert json.loads(kopeck("dunning", "blocked", "--reason", "asked", "--json").out) == []

    time.sleep(1.1)  # a suspension lasts a second at least, also one that ends at once
    friday = utc_today() + timedelta(days=5)
    put_off = ("dunning", "delay", "A1", "--until", str(friday), "--reason", "promised for Friday")
    assert kopeck(*put_off).out == f"account A1: dunning is put off through {friday}\n"
    assert kopeck(*put_off).out == f"account A1: dunning is put off through {friday} already\n"
    assert "\topen\n" in kopeck("order", "list", "--account", "A1").out
    shown = kopeck("dunning", "show", "A1").out
    assert f"put off through {friday}: promised for Friday\n" in shown
    assert f"delayed\t146.40\t-\tsystem:cli:{getpass.getuser()}\tuntil {friday}: promised for Friday\n" in shown
    assert kopeck("dunning", "delay", "A1", "--withdraw", "--reason", "x").out == "account A1: the delay is withdrawn\n"
    assert kopeck("dunning", "delay", "A1", "--withdraw", "--reason", "x").out == "account A1: there is no delay\n"
    assert kopeck("dunning", "delay", "A1", "--reason", "x").status == 2
    assert kopeck("dunning", "delay", "A9", "--withdraw", "--reason", "x").err == "kopeck: there is no account 'A9'\n"


def test_steps_are_set_and_listed(kopeck, books) -> None:
    assert kopeck("dunning", "steps", "set", "--group", "gold", "5:reminder", "90:suspension").out == "gold: 2 steps\n"
    assert "gold\t2\t90\tsuspension" in kopeck("dunning", "steps", "list").out
    assert json.loads(kopeck("dunning", "steps", "list", "--json").out)["gold"][0] == {
        "step": 1, "days": 5, "action": "reminder",
    }  # fmt: skip
    for words, message in (
        (("5:shout",), "must be one of"),
        (("9:warning", "5:warning"), "must ascend"),
        ((), "empty"),
    ):
        said = kopeck("dunning", "steps", "set", *words)
        assert said.status == 2
        assert message in said.err


def test_an_account_that_is_not_there_and_a_date_to_come_are_told(kopeck, books) -> None:
    assert kopeck("dunning", "show", "A9").err == "kopeck: there is no account 'A9'\n"
    said = kopeck("dunning", "run", "--date", "2100-01-01")
    assert (said.status, said.err) == (2, "kopeck: 2100-01-01 is to come: nobody is overdue by it yet\n")
