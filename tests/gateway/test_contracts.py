"""Partners, contracts and keys as data: what is stored, what is refused, and with which sentence."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.contracts import (
    ContractError,
    StoredKey,
    add_key,
    add_partner,
    book_at,
    keys_at,
    list_keys,
    list_partners,
    load_book,
    retire_key,
    set_contract,
    set_partner_state,
    stored_form,
)

PASSPHRASE = "correct horse"


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_a_contract_that_does_not_hold_is_refused_by_the_field_and_nothing_is_written(town):
    async def story():
        async with town.cursor() as cur:
            for body, word in [
                ({"protocol": "smoke"}, "protocol"),
                ({"protocol": "osmp", "colour": "red"}, "colour"),
                ({"protocol": "osmp", "sources": ["1.2.3"]}, "sources"),
                ({"protocol": "osmp", "min_minor": 10, "max_minor": 5}, "min_minor"),
                ({"protocol": "osmp", "time_zone": "Mars/Olympus"}, "time_zone"),
                ({"protocol": "osmp", "account_pattern": "("}, "account_pattern"),
                ({"protocol": "osmp", "account_pattern": "(?=7)[0-9]+"}, "linear time"),
                ({"protocol": "cyberplat", "dialect": {"additional_pattern": r"(a)\1"}}, "linear time"),
                ({"protocol": "osmp", "dialect": {"charset": "koi8-r"}}, "charset"),
            ]:
                with pytest.raises(ContractError, match=word):
                    await add_partner(cur, "new", "New", body, "test")
            assert [partner.code for partner in await list_partners(cur)] == ["cyberplat", "osmp"]
            with pytest.raises(ContractError, match="already"):
                await add_partner(cur, "osmp", "again", {"protocol": "osmp"}, "test")
            with pytest.raises(ContractError, match="no partner"):
                await set_contract(cur, "nobody", {"protocol": "osmp"}, "test")
            with pytest.raises(ContractError, match="currency cannot change"):
                await set_contract(cur, "osmp", {"protocol": "osmp", "currency": "USD"}, "test")
            with pytest.raises(ContractError, match="active or paused"):
                await set_partner_state(cur, "osmp", "asleep")

    asyncio.run(story())


def test_a_new_version_leaves_the_old_one_as_it_was(town):
    async def story():
        async with town.cursor() as cur:
            before = await town.one("SELECT body::text FROM contracts WHERE partner_id = %s", town.ids["osmp"])
            assert await set_contract(cur, "osmp", {"protocol": "osmp", "max_minor": 5_000}, "test") == 2
            book = await load_book(cur, "", datetime.now(UTC))
            assert book.by_code["osmp"].contract.max_minor == 5_000
            rows = await town.rows("SELECT version, body::text FROM contracts WHERE partner_id = %s ORDER BY 1", 1)
            assert rows[0] == (1, before)

    asyncio.run(story())


def test_private_keys_are_stored_encrypted_and_passwords_hashed(town):
    async def story():
        key = rsa.generate_private_key(65537, 1024)
        async with town.cursor() as cur:
            await add_key(cur, "osmp", "sign", pem(key), "test", passphrase=PASSPHRASE)
            await add_key(cur, "osmp", "basic", "osmp:secret-of-the-partner", "test")
            materials = dict(await town.rows("SELECT purpose, material FROM partner_keys WHERE partner_id = 1"))
            assert "ENCRYPTED" in materials["sign"]
            assert "secret" not in materials["basic"]
            book = await load_book(cur, PASSPHRASE, datetime.now(UTC))
            assert book.by_code["osmp"].keys.sign.private_numbers() == key.private_numbers()
            assert (await load_book(cur, "wrong", datetime.now(UTC))).broken == ("osmp",)
            assert "material" not in repr(await list_keys(cur, "osmp"))

    asyncio.run(story())


def test_shared_secrets_are_sealed_under_the_passphrase_and_opened_by_it_alone(town):
    async def story():
        async with town.cursor() as cur:
            await add_key(cur, "osmp", "secret", "пароль", "test", passphrase=PASSPHRASE)
            await add_key(cur, "osmp", "secret", "пароль", "test", passphrase=PASSPHRASE)
            stored = [row[0] for row in await town.rows("SELECT material FROM partner_keys WHERE purpose = 'secret'")]
            assert len(set(stored)) == 2
            assert not any("пароль" in one for one in stored)
            book = await load_book(cur, PASSPHRASE, datetime.now(UTC))
            assert book.by_code["osmp"].keys.secrets == ("пароль".encode(),) * 2
            for wrong in ("", "wrong"):
                assert (await load_book(cur, wrong, datetime.now(UTC))).broken == ("osmp",)
            await add_key(cur, "osmp", "secret", "in clear", "test")  # as earlier versions stored them
            book = await load_book(cur, PASSPHRASE, datetime.now(UTC))
            assert b"in clear" in book.by_code["osmp"].keys.secrets

    asyncio.run(story())


@pytest.mark.parametrize("purpose", ["sign", "secret"])
def test_what_would_be_stored_in_clear_is_refused_where_a_passphrase_is_needed(town, purpose):
    material = pem(rsa.generate_private_key(65537, 1024)) if purpose == "sign" else "secret"

    async def story():
        async with town.cursor() as cur:
            with pytest.raises(ContractError, match=r"set gateway\.key_passphrase"):
                await add_key(cur, "osmp", purpose, material, "test", needs_passphrase=True)
            assert await town.one("SELECT count(*) FROM partner_keys WHERE partner_id = 1") == 0
            await add_key(cur, "osmp", purpose, material, "test", passphrase=PASSPHRASE, needs_passphrase=True)

    asyncio.run(story())


def test_the_book_reads_transit_accounts_by_number_and_never_all_accounts(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute(
                "INSERT INTO accounts (number, kind) SELECT 'x' || n, 'subscriber' FROM generate_series(1, 5000) n"
            )
            await cur.execute("SELECT pg_stat_force_next_flush()")
            before = await town.one("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'accounts'")
            await cur.execute("SET enable_seqscan = off")
            book = await load_book(cur, "", datetime.now(UTC))
            await cur.execute("SELECT pg_stat_force_next_flush()")
            after = await town.one("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'accounts'")
            assert set(book.by_code) == {"osmp", "cyberplat"}
            assert after == before

    asyncio.run(story())


@pytest.mark.parametrize(
    ("purpose", "material", "word"),
    [
        ("verify", "no key", "cannot be read"),
        ("sign", "no key", "cannot be read"),
        ("sign", pem(ec.generate_private_key(ec.SECP256R1())), "wrong kind"),
        ("basic", "nocolon", "user:password"),
        ("basic", ":a-password-of-theirs", "user:password"),
        ("basic", "user:fifteen-letters", "16 characters or longer"),
        ("basic", "user:abababababababababab", "6 of them different"),
        ("secret", "kopeck-sealed-1:AAAA", "sealed here"),
        ("secret", "", "wrong kind"),
        ("magic", "x", "purpose"),
    ],
)
def test_key_material_of_the_wrong_kind_is_refused(purpose, material, word):
    with pytest.raises(ContractError, match=word):
        stored_form(purpose, material, "")


def test_a_key_counts_from_its_start_until_its_end(town):
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    old = StoredKey(1, "basic", "old", now - 2 * hour, now + hour)
    new = StoredKey(2, "basic", "new", now, None)
    assert keys_at([new, old], now - hour).basic == ("old",)
    assert keys_at([new, old], now).basic == ("new", "old")
    assert keys_at([new, old], now + hour).basic == ("new",)
    signs = [StoredKey(4, "sign", "later", now, None), StoredKey(3, "sign", "earlier", now - hour, None)]
    assert keys_at(signs, now).sign == "later"
    assert keys_at(signs, now - hour).sign == "earlier"

    async def story():
        async with town.cursor() as cur:
            start = datetime.now(UTC) + hour
            await add_key(cur, "osmp", "basic", "u:a-password-of-theirs", "test", valid_from=start)
            book = await load_book(cur, "", datetime.now(UTC))
            assert book.by_code["osmp"].keys.basic == ()
            assert len(book_at(book, start).by_code["osmp"].keys.basic) == 1
            key_id = await town.one("SELECT max(id) FROM partner_keys")
            await retire_key(cur, key_id, datetime.now(UTC))  # not begun yet: it never will, and stays on record
            assert await town.one("SELECT valid_to = valid_from FROM partner_keys WHERE id = %s", key_id)
            book = await load_book(cur, "", datetime.now(UTC))
            assert book_at(book, start).by_code["osmp"].keys.basic == ()
            with pytest.raises(ContractError, match="no key"):
                await retire_key(cur, key_id + 1, datetime.now(UTC))

    asyncio.run(story())
