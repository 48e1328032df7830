"""The ``kopeck`` command as an operator types it."""

import re
import subprocess
import sys

import click
import psycopg2
import pytest

from kopeck.cli.main import COMMANDS


def test_help_names_every_command(kopeck) -> None:
    said = kopeck("--help")
    assert said.status == 0
    for name, lazy in COMMANDS.items():
        if lazy.help:
            assert f"\n  {name:<9}  {lazy.help}\n" in said.out


@pytest.mark.parametrize(
    "command", ["", "journal", "partner", "partner key", "serve", "account", "user", "account import"]
)
def test_every_group_has_help(kopeck, command) -> None:
    assert kopeck(*command.split(), "--help").out.startswith("Usage: kopeck")


def test_every_line_of_the_table_of_commands_is_a_command_with_help() -> None:
    for name, lazy in COMMANDS.items():
        command = lazy.load()
        assert isinstance(command, click.Command), name
        assert command.help, name


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from kopeck.cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        "print([name for name in sys.modules if name.startswith(('kopeck.cli.billing.', 'tornado', 'pyarrow'))])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_an_older_name_of_a_command_and_of_an_option_works_and_is_not_listed(kopeck) -> None:
    assert kopeck("catalog", "--help").status == 0
    listed = re.findall(r"^  (\w+) ", kopeck("--help").out, re.MULTILINE)
    assert "catalogue" in listed
    assert "catalog" not in listed
    assert kopeck("catalogue", "show", "mobile", "--lang", "ru").err == kopeck("catalogue", "show", "mobile").err
    assert "--lang" not in kopeck("catalogue", "show", "--help").out.replace("--language", "")
    assert "no such command" in kopeck("catalogs").err.lower()


def test_a_wrong_setting_is_one_sentence_and_status_2(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__PROT", "1")
    said = kopeck("partner", "list")
    assert said.status == 2
    assert said.err == "kopeck: environment variable KOPECK_GATEWAY__PROT names no setting (see docs/operators.md)\n"


@pytest.mark.parametrize("words", [("invoice", "list"), ("demo",), ("verify",)])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_command_in_a_folder_without_data_says_so_and_makes_nothing(
    kopeck, monkeypatch, tmp_path, words, is_there
) -> None:
    for name in ("DATABASE__DSN", "DATABASE__OWNER_DSN", "JOURNAL__URI"):
        monkeypatch.delenv(f"KOPECK_{name}")
    folder = tmp_path / "data"
    monkeypatch.setenv("KOPECK_DATA_DIR", str(folder))
    if is_there:
        folder.mkdir()
    said = kopeck(*words)
    assert said.status == 1
    assert re.match(f"kopeck: (there are no databases|no embedded databases are running) in {folder}: ", said.err)
    assert not list(folder.glob("[!l]*"))  # but a lock


def test_where_postgresql_is_named_any_folder_will_do_for_the_journal(kopeck, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KOPECK_JOURNAL__URI", "embedded")
    monkeypatch.setenv("KOPECK_DATA_DIR", str(tmp_path / "data"))
    assert kopeck("partner", "list").status == 0


def test_a_day_that_is_none_is_told_what_one_is(kopeck) -> None:
    said = kopeck("dunning", "run", "--date", "2026-02-30")
    assert said.status == 2
    assert "Invalid value for '--date': '2026-02-30' is no date such as 2026-01-31" in said.err


def test_a_database_that_is_away_is_one_sentence_and_status_1(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "postgresql://nobody@127.0.0.1:1/none")
    said = kopeck("partner", "list")
    assert said.status == 1
    assert said.err.startswith("kopeck: cannot connect to the database: ")


def test_an_account_is_opened_once_and_shown(kopeck) -> None:
    assert kopeck("account", "add", "70012345", "--name", "Иванов Иван").out == "account 70012345 is open\n"
    again = kopeck("account", "add", "70012345")
    assert (again.status, again.err) == (2, "kopeck: there is an account '70012345' already\n")
    shown = kopeck("account", "show", "70012345").out
    assert "70012345  Иванов Иван\nsubscriber, active" in shown
    assert "balance 0.00 RUB" in shown
    assert "there is no account" in kopeck("account", "show", "nobody").err


def test_verify_of_an_untouched_database_is_clean_and_says_what_it_looked_at(kopeck) -> None:
    kopeck("account", "import", "-", stdin="number,balance\n70012345,150.00\n")
    said = kopeck("verify", "--wait", "0")
    assert said.out.splitlines()[-1] == "no differences"
    assert said.status == 0


def test_verify_exits_1_on_a_difference(kopeck, database) -> None:
    kopeck("account", "add", "70012345")
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cur:
        cur.execute("UPDATE accounts SET balance_minor = 1 WHERE number = '70012345'")
    connection.close()
    said = kopeck("verify", "--no-journal")
    assert said.status == 1
    assert "70012345" in said.out


def test_rebuilding_an_empty_journal_says_so(kopeck) -> None:
    assert "0 payments and 0 attempts are in the journal" in kopeck("journal", "rebuild").out
