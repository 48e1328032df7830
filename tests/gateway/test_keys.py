"""Keys that are too short to be trusted, and keys that two partners share."""

import asyncio

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.contracts import ContractError, add_key, add_partner, load_book
from gateway.keys import key_warnings

CYBERPLAT = {"protocol": "cyberplat"}


def public_pem(key: rsa.RSAPublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def short_key(bits: int) -> str:
    """A public key of this size; nothing is ever signed with it."""
    return public_pem(rsa.RSAPublicNumbers(65_537, (1 << (bits - 1)) + 0x10F).public_key())


@pytest.mark.parametrize("bits", [512, 768, 1023])
def test_a_key_that_can_be_factored_is_refused(town, bits):
    async def story():
        async with town.cursor() as cur:
            with pytest.raises(ContractError, match=f"{bits} bits.*1024 at least"):
                await add_key(cur, "cyberplat", "verify", short_key(bits), "test")

    asyncio.run(story())


def test_a_key_that_was_added_before_is_not_used_any_more_and_told_by_name(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute(
                "INSERT INTO partner_keys (partner_id, purpose, material, created_by) VALUES (%s, 'verify', %s, 'x') "
                "RETURNING id",
                (town.ids["cyberplat"], short_key(512)),
            )
            key_id = (await cur.fetchone())[0]
            book = await load_book(cur, "", await now(cur))
            assert [key.key_size for key in book.by_code["cyberplat"].keys.verify] == [1024]
            assert book.broken == ()
            (warning,) = await key_warnings(cur, "cyberplat", key_id)
            assert (warning.kind, warning.bits) == ("forgeable", 512)
            assert "it is not used" in warning.sentence

    asyncio.run(story())


def test_short_keys_are_warned_of_and_good_ones_are_not(town):
    async def story():
        async with town.cursor() as cur:
            await add_partner(cur, "good", "Good", CYBERPLAT, "test")
            good = public_pem(rsa.generate_private_key(65_537, 2_048).public_key())
            await add_key(cur, "good", "verify", good, "test")
            warnings = await key_warnings(cur)
            assert {(warning.partner, warning.kind, warning.bits) for warning in warnings} == {
                ("cyberplat", "short", 1024)
            }
            assert len(warnings) == 2  # its public key and our private one

    asyncio.run(story())


def test_a_verify_key_of_another_partner_is_refused_unless_it_is_said_to_be_shared(town):
    async def story():
        async with town.cursor() as cur:
            await add_partner(cur, "second", "Second", CYBERPLAT, "test")
            same = public_pem(town.partner_key.public_key())
            with pytest.raises(ContractError, match="partner cyberplat has this very key"):
                await add_key(cur, "second", "verify", same, "test")
            await add_key(cur, "cyberplat", "verify", same, "test")  # its own once more is no harm
            await add_key(cur, "second", "verify", same, "test", shared=True)
            shared = [warning for warning in await key_warnings(cur) if warning.kind == "shared"]
            assert {(warning.partner, warning.partners) for warning in shared} == {
                ("second", ("cyberplat",)),
                ("cyberplat", ("second",)),
            }

    asyncio.run(story())


@pytest.mark.parametrize("code", ["../evil", "", "-a", "A", "a" * 33, "a b", "a\n", "é"])
def test_a_partners_code_is_checked_before_the_database_sees_it(town, code):
    async def story():
        async with town.cursor() as cur:
            with pytest.raises(ContractError, match="small Latin letters"):
                await add_partner(cur, code, "X", CYBERPLAT, "test")

    asyncio.run(story())


async def now(cur):
    await cur.execute("SELECT now()")
    return (await cur.fetchone())[0]
