"""The ``kopeck`` command as an operator types it."""

import hashlib
import json
import re
import socket
from contextlib import closing

import psycopg2
import pytest


def test_help_names_every_command(kopeck) -> None:
    said = kopeck("--help")
    assert said.status == 0
    commands = ("account", "demo", "journal", "migrate", "partner", "run", "serve", "settings", "user", "verify")
    for command in commands:
        assert f"\n  {command} " in said.out


@pytest.mark.parametrize(
    "command", ["", "journal", "partner", "partner key", "serve", "account", "user", "account import"]
)
def test_every_group_has_help(kopeck, command) -> None:
    assert kopeck(*command.split(), "--help").out.startswith("Usage: kopeck")


def test_migrate_says_what_is_applied_and_may_run_again(kopeck) -> None:
    assert kopeck("migrate") == (0, "the database is up to date\n", "")
    assert "applied  0001-ledger\napplied  0002-payments\n" in kopeck("migrate", "--status").out


def test_migrating_without_the_owner_is_refused(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__OWNER_DSN", "")
    said = kopeck("migrate")
    assert said.status == 2
    assert "database.owner_dsn is not set" in said.err


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
    said = kopeck("ageing", "run", "--date", "2026-02-30")
    assert said.status == 2
    assert "Invalid value for '--date': '2026-02-30' is no date such as 2026-01-31" in said.err


def test_a_database_that_is_away_is_one_sentence_and_status_1(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "postgresql://nobody@127.0.0.1:1/none")
    said = kopeck("partner", "list")
    assert said.status == 1
    assert said.err.startswith("kopeck: cannot connect to the database: ")


def test_secrets_are_not_shown_among_the_settings(kopeck, database) -> None:
    said = kopeck("settings")
    assert "database.dsn\t(set, not shown)\t" in said.out
    assert database.dsn not in said.out


def test_a_partner_is_connected_changed_paused_and_resumed(kopeck) -> None:
    assert (
        kopeck("partner", "add", "qiwi", "--name", "QIWI", "--protocol", "osmp", "--set", "max_minor=5000").status == 0
    )
    assert kopeck("partner", "set", "qiwi", "max_minor=7000", "dialect.cancel=prv_txn").out == (
        "partner qiwi has contract version 2\n"
    )
    assert kopeck("partner", "set", "qiwi", "max_minor=7000").out == "partner qiwi has contract version 2, as before\n"
    shown = kopeck("partner", "show", "qiwi").out
    assert '"max_minor": 7000' in shown
    assert '"cancel": "prv_txn"' in shown
    assert kopeck("partner", "pause", "qiwi").out == "partner qiwi is paused\n"
    assert "qiwi\tQIWI\tpaused\tosmp\t2\t0.00" in kopeck("partner", "list").out
    assert kopeck("partner", "resume", "qiwi").out == "partner qiwi is active\n"


def test_pausing_a_partner_is_on_the_audit_record(kopeck, database) -> None:
    kopeck("partner", "add", "qiwi", "--name", "QIWI", "--protocol", "osmp")
    kopeck("partner", "pause", "qiwi")
    connection = psycopg2.connect(database.dsn)
    with connection, connection.cursor() as cur:
        cur.execute("SELECT action, object_id, actor LIKE 'system:cli%' FROM audit ORDER BY id DESC LIMIT 1")
        assert cur.fetchall() == [("partner_paused", "qiwi", True)]
    connection.close()


def test_a_contract_comes_from_a_file_and_goes_back_to_defaults(kopeck, tmp_path) -> None:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({"protocol": "cyberplat", "min_minor": 100}))
    assert kopeck("partner", "add", "cp", "--name", "CP", "--file", str(file)).status == 0
    kopeck("partner", "set", "cp", "--unset", "min_minor")
    assert "min_minor" not in kopeck("partner", "show", "cp").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "qiwi", "--name", "Q"), "say --protocol"),
        (("add", "qiwi", "--name", "Q", "--protocol", "telex"), "protocol must be one of"),
        (("add", "qiwi", "--name", "Q", "--protocol", "osmp", "--set", "max_minr=1"), "max_minr is not a field"),
        (("add", "qiwi", "--name", "Q", "--protocol", "osmp", "--set", "max_minor"), "not FIELD=VALUE"),
        (("set", "nobody", "max_minor=1"), "there is no partner 'nobody'"),
        (("set", "nobody"), "say what to change"),
        (("pause", "nobody"), "there is no partner 'nobody'"),
        (("show", "nobody"), "there is no partner 'nobody'"),
        (("key", "add", "nobody", "--purpose", "verify"), "give either --file or --generate"),
        (("key", "add", "nobody", "--purpose", "verify", "--generate"), "goes with --purpose sign"),
        (("key", "retire", "4711"), "there is no key 4711"),
        (("key", "retire", "4711", "--at", "someday"), "is not a date"),
        (("fields", "telex"), "protocol must be one of"),
    ],
)
def test_wrong_input_about_partners_is_refused_with_status_2(kopeck, arguments, message) -> None:
    said = kopeck("partner", *arguments)
    assert (said.status, said.out) == (2, "")
    assert message in said.err


def test_a_key_is_made_here_and_its_public_half_printed(kopeck, database, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__KEY_PASSPHRASE", "correct horse")
    kopeck("partner", "add", "cp", "--name", "CP", "--protocol", "cyberplat")
    said = kopeck("partner", "key", "add", "cp", "--purpose", "sign", "--generate")
    assert said.out.startswith("-----BEGIN PUBLIC KEY-----")
    number = said.err.split()[1]
    assert kopeck("partner", "key", "add", "cp", "--purpose", "verify", "--file", "-", stdin=said.out).status == 0
    shown = kopeck("partner", "show", "cp").out
    assert "sign" in shown
    assert "verify" in shown
    assert "PRIVATE" not in shown
    assert kopeck("partner", "key", "retire", number, "--at", "2099-01-01").out == (
        f"key {number} ends at 2099-01-01 00:00:00Z\n"
    )
    assert actions(database) == ["partner_added", "partner_key_added", "partner_key_added", "partner_key_retired"]
    kopeck("partner", "set", "cp", "max_minor=500")
    assert actions(database)[-1] == "partner_contract_set"


def actions(database) -> list[str]:
    """What the audit record says was done to partners, in order."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT action FROM audit WHERE object_kind = 'partner' ORDER BY id")
        return [row[0] for row in cur.fetchall()]


def test_a_private_key_is_stored_encrypted_under_the_passphrase(kopeck, database, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__KEY_PASSPHRASE", "correct horse")
    kopeck("partner", "add", "cp", "--name", "CP", "--protocol", "cyberplat")
    kopeck("partner", "key", "add", "cp", "--purpose", "sign", "--generate")
    connection = psycopg2.connect(database.dsn)
    with connection, connection.cursor() as cur:
        cur.execute("SELECT material FROM partner_keys")
        assert cur.fetchone()[0].startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    connection.close()


def test_a_key_of_ours_is_not_stored_in_clear_on_a_database_of_the_operators(kopeck) -> None:
    kopeck("partner", "add", "cp", "--name", "CP", "--protocol", "cyberplat")
    for purpose in ("sign", "secret"):
        said = kopeck("partner", "key", "add", "cp", "--purpose", purpose, "--generate")
        assert (said.status, said.out) == (2, "")
        assert "set gateway.key_passphrase" in said.err


def test_a_password_is_made_here_and_printed_once_and_a_short_one_is_refused(kopeck, database) -> None:
    kopeck("partner", "add", "os", "--name", "OS", "--protocol", "osmp")
    said = kopeck("partner", "key", "add", "os", "--purpose", "basic", "--generate")
    user, _, password = said.out.strip().partition(":")
    assert (user, len(password)) == ("os", 32)
    connection = psycopg2.connect(database.dsn)
    with connection, connection.cursor() as cur:
        cur.execute("SELECT material FROM partner_keys")
        assert cur.fetchall() == [(hashlib.sha256(said.out.strip().encode()).hexdigest(),)]
    connection.close()
    short = kopeck("partner", "key", "add", "os", "--purpose", "basic", "--file", "-", stdin="os:secret\n")
    assert short.status == 2
    assert "16 characters or longer" in short.err


def test_key_material_that_is_no_key_is_refused(kopeck) -> None:
    kopeck("partner", "add", "cp", "--name", "CP", "--protocol", "cyberplat")
    said = kopeck("partner", "key", "add", "cp", "--purpose", "verify", "--file", "-", stdin="hello")
    assert said.status == 2
    assert "verify key cannot be read" in said.err
    binary = kopeck("partner", "key", "add", "cp", "--purpose", "verify", "--file", "-", stdin=b"\x30\x82\xff")
    assert "PEM is wanted" in binary.err


def test_an_account_is_opened_once_and_shown(kopeck) -> None:
    assert kopeck("account", "add", "70012345", "--name", "Иванов Иван").out == "account 70012345 is open\n"
    again = kopeck("account", "add", "70012345")
    assert (again.status, again.err) == (2, "kopeck: there is an account '70012345' already\n")
    shown = kopeck("account", "show", "70012345").out
    assert "70012345  Иванов Иван\nsubscriber, active" in shown
    assert "balance 0.00 RUB" in shown
    assert "there is no account" in kopeck("account", "show", "nobody").err


def test_a_person_is_added_listed_and_given_another_password(kopeck) -> None:
    said = kopeck("user", "add", "Anna", "--role", "operator", stdin="correct horse battery\n")
    assert said.out == "user anna is added as operator\n"
    assert "anna\toperator\tactive\t-" in kopeck("user", "list").out
    assert "has a new password" in kopeck("user", "passwd", "anna", stdin="another horse battery\n").out
    generated = kopeck("user", "passwd", "anna", "--generate").out.splitlines()[1]
    assert len(generated) > 15
    assert "at least" in kopeck("user", "passwd", "anna", stdin="short\n").err
    assert "no such user" in kopeck("user", "passwd", "nobody", stdin="another horse battery\n").err
    assert kopeck("user", "add", "anna", stdin="correct horse battery\n").status == 2


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


def test_serving_without_databases_says_what_to_do(kopeck, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", "")
    monkeypatch.setenv("KOPECK_DATABASE__OWNER_DSN", "")
    monkeypatch.setenv("KOPECK_DATA_DIR", str(tmp_path))
    said = kopeck("serve", "relay")
    assert said.status == 1
    assert "start `kopeck run` first" in said.err


@pytest.mark.parametrize("process", ["gateway", "web"])
def test_a_certificate_that_cannot_be_used_is_told_with_its_settings(kopeck, monkeypatch, tmp_path, process) -> None:
    for name in ("CERT", "KEY"):
        monkeypatch.setenv(f"KOPECK_{process.upper()}__TLS_{name}", str(tmp_path / name))
    said = kopeck("serve", process)
    assert said.status == 1
    assert f"{process}.tls_cert {tmp_path / 'CERT'}" in said.err


def test_failpoints_are_refused_beside_a_real_database(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__FAILPOINTS", "after_commit_before_reply")
    for command in (("serve", "gateway"), ("run",)):
        said = kopeck(*command)
        assert said.status == 2
        assert "gateway.failpoints kill the process" in said.err


def test_a_partners_code_that_is_none_is_told_as_a_mistake_of_the_caller(kopeck) -> None:
    said = kopeck("partner", "add", "../evil", "--name", "Evil", "--protocol", "osmp")
    assert said.status == 2
    assert "small Latin letters" in said.err


def test_what_a_contract_allows_and_few_mean_is_said_when_it_is_set(kopeck) -> None:
    said = kopeck(
        "partner", "add", "bench", "--name", "B", "--protocol", "osmp", "--set", "dialect.require_basic=false"
    )
    assert (said.status, said.err.count("warning")) == (0, 1)
    assert "never for money" in said.err
    said = kopeck("partner", "set", "bench", "dialect.require_basic=true", "dialect.cancel=prv_txn")
    assert (said.status, said.err.count("warning")) == (0, 1)
    assert "cancel_unknown_code is 0" in said.err
    assert "warning" not in kopeck("partner", "set", "bench", "dialect.cancel_unknown_code=300").err


def test_a_short_key_is_warned_of_when_it_is_added_and_by_verify(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__KEY_PASSPHRASE", "correct horse")
    kopeck("partner", "add", "cy", "--name", "C", "--protocol", "cyberplat")
    said = kopeck("partner", "key", "add", "cy", "--purpose", "sign", "--generate", "--bits", "1024")
    assert said.status == 0
    assert "has 1024 bits" in said.err
    assert "has 1024 bits" in kopeck("partner", "show", "cy").out
    said = kopeck("verify", "--no-journal")
    assert (said.status, said.out.count("warning: key")) == (0, 1)


def test_a_failpoint_that_does_not_exist_is_refused(kopeck, monkeypatch) -> None:
    monkeypatch.setenv("KOPECK_GATEWAY__FAILPOINTS", "at_lunch")
    monkeypatch.setenv("KOPECK_TEST_FAILPOINTS", "1")
    said = kopeck("serve", "gateway")
    assert said.status == 2
    assert "gateway.failpoints: unknown failpoint 'at_lunch'" in said.err


@pytest.mark.parametrize("process", ["gateway", "web", "relay"])
def test_a_taken_metrics_port_is_told_in_one_sentence(kopeck, monkeypatch, process) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv(f"KOPECK_{process.upper()}__METRICS_PORT", str(taken.getsockname()[1]))
        said = kopeck("serve", process)
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("kopeck: cannot listen on 127.0.0.1:")
