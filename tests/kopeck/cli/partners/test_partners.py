"""``kopeck partner`` as an operator types it."""

import hashlib
import json
from contextlib import closing

import psycopg2
import pytest


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
