"""Accounts from CSV files: all of it, or on any mistake nothing."""

from contextlib import closing

import psycopg2
import pytest


def _numbers(database) -> list[str]:
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT number FROM accounts WHERE kind IN ('subscriber', 'prepaid') ORDER BY number")
        return [row[0] for row in cur.fetchall()]


def test_accounts_open_with_names_states_and_balances(kopeck, database) -> None:
    text = (
        'number;name;state;balance\n70000001;Иванов Иван;;150.05\n70000002;"Петров; Пётр";inactive;\n\n70000003;;;0\n'
    )
    assert kopeck("account", "import", "-", stdin=text).out == "opened 3 accounts, 0 exist already, 3 lines\n"
    assert "balance 150.05 RUB" in kopeck("account", "show", "70000001").out
    assert "70000002  Петров; Пётр\nsubscriber, inactive" in kopeck("account", "show", "70000002").out
    assert kopeck("verify", "--no-journal").status == 0


def test_the_same_file_again_changes_nothing(kopeck) -> None:
    text = "number,balance\n70000001,10\n70000002,20\n"
    kopeck("account", "import", "-", stdin=text)
    more = text + "70000003,30\n"
    assert kopeck("account", "import", "-", stdin=more).out == "opened 1 accounts, 2 exist already, 3 lines\n"
    assert "balance 10.00 RUB" in kopeck("account", "show", "70000001").out


def test_a_dry_run_keeps_nothing(kopeck, database) -> None:
    said = kopeck("account", "import", "--dry-run", "-", stdin="number,balance\n70000001,10\n")
    assert said.out == "would open 1 accounts, 0 exist already, 1 lines\n"
    assert _numbers(database) == []


def test_a_byte_order_mark_and_windows_line_ends_are_taken(kopeck, database) -> None:
    kopeck("account", "import", "-", stdin=b"\xef\xbb\xbfnumber,name\r\n70000001,\xd0\x90\r\n")
    assert _numbers(database) == ["70000001"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "standard input:1: the first line must name the columns"),
        ("account,name\n1,x\n", "standard input:1: the first line must name the columns, number among them"),
        ("number,nmae\n1,x\n", "standard input:1: column 'nmae' is not known"),
        ("number,number\n1,1\n", "standard input:1: a column stands twice"),
        ("number,name\n1\n", "standard input:2: 1 cells, and 2 columns"),
        ("number\n1\n2 3\n", "standard input:3: account number '2 3' must be"),
        ("number,kind\n1,bank\n", "standard input:2: kind 'bank' must be one of"),
        ("number,state\n1,gone\n", "standard input:2: state 'gone' must be one of"),
        ("number,currency\n1,rub\n", "standard input:2: currency 'rub' must be"),
        ("number,balance\n1,1,5\n", "standard input:2: 3 cells, and 2 columns"),
        ("number;balance\n1;1,5\n", "standard input:2: balance: not a sum"),
        ("number,balance\n1,-5\n", "standard input:2: balance: not a sum"),
        ("number,balance\n1,0.005\n", "standard input:2: balance: not a sum"),
        ("number\n1\n2\n1\n", "standard input:4: account 1 stands on line 2 already"),
        ('number,name\n1,"x\n', "standard input:2: not CSV"),
        (
            b"number,name\n1,\xcf\xe5\xf2\xf0\n",
            "standard input:2: not utf-8\nhint: the file is not UTF-8; one that Excel",
        ),
        (b"number,name\n1,\x00\n", "standard input:2: holds a zero byte"),
        ("number,name\n1," + "x" * 20_000 + "\n", "standard input:2: longer than 10000 characters"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_nothing_is_kept(kopeck, database, text, place) -> None:
    said = kopeck("account", "import", "-", stdin=text)
    assert said.status == 2
    assert place in said.err
    assert "nothing was imported" in said.err
    assert _numbers(database) == []


def test_every_mistake_is_told_at_once_up_to_twenty(kopeck, database) -> None:
    text = "number\n70000001\n" + "bad number\n" * 30
    said = kopeck("account", "import", "-", stdin=text)
    assert said.err.count("standard input:") == 20
    assert "20 or more lines are wrong" in said.err
    assert _numbers(database) == []


def test_a_number_repeated_in_a_later_slice_is_found_too(kopeck, database, monkeypatch) -> None:
    monkeypatch.setattr("billing.ledger.account_import.SLICE", 2)
    said = kopeck("account", "import", "-", stdin="number\n1\n2\n3\n1\n")
    assert "standard input:5: account 1 stands in the file already" in said.err
    assert _numbers(database) == []


def test_a_file_is_named_in_messages(kopeck, tmp_path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("number\nbad number\n")
    assert f"{path}:2: " in kopeck("account", "import", str(path)).err
    assert "No such file" in kopeck("account", "import", str(tmp_path / "none.csv")).err
