"""A gateway in the test's own loop on a real port, with two partners, and a peer that speaks raw HTTP to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tornado.netutil import bind_sockets

from adapters import cyberplat, osmp
from adapters.messages import Contract, Keys, Request
from adapters.protocols import contract_from_json
from billing.ledger.account_store import create_accounts
from billing.ledger.accounts import NewAccount
from gateway.partners.contracts import add_partner
from gateway.partners.keys import add_key
from gateway.payments.driver import CoreOptions
from gateway.port.port import Gateway, PortOptions
from tests.gateway.until import until

OSMP = {
    "protocol": "osmp",
    "min_minor": 100,
    "max_minor": 1_500_000,
    "cancel_allowed": True,
    "display": ["name"],
    "dialect": {"cancel": "prv_txn", "status": "txn_id", "verify": True, "require_basic": False},
}
CYBERPLAT = {"protocol": "cyberplat", "cancel_allowed": True, "dialect": {}}

ACTIVE, INACTIVE, OTHER, UNKNOWN = "79160000001", "79160000002", "79160000003", "79169999999"


@pytest.fixture(scope="session")
def partner_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


@pytest.fixture(scope="session")
def provider_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@dataclass
class Town:
    """A database with accounts and the two partners, and what a test does in it."""

    dsn: str
    owner_dsn: str
    partner_key: rsa.RSAPrivateKey
    provider_key: rsa.RSAPrivateKey
    ids: dict[str, int] = field(default_factory=dict)

    async def settle(self) -> None:
        async with self.cursor() as cur:
            await cur.execute("BEGIN")
            await create_accounts(
                cur,
                [
                    NewAccount(ACTIVE, name="Иванов Иван"),
                    NewAccount(INACTIVE, name="Петров Пётр", state="inactive"),
                    NewAccount(OTHER, name="Сидорова Анна"),
                ],
            )
            self.ids["osmp"] = await add_partner(cur, "osmp", "ОСМП", OSMP, "test")
            self.ids["cyberplat"] = await add_partner(cur, "cyberplat", "КиберПлат", CYBERPLAT, "test")
            await add_key(cur, "cyberplat", "verify", public_pem(self.partner_key), "test")
            await add_key(cur, "cyberplat", "sign", private_pem(self.provider_key), "test")
            await cur.execute("COMMIT")

    @asynccontextmanager
    async def cursor(self, dsn: str | None = None) -> AsyncIterator[Any]:
        connection = await aiopg.connect(dsn or self.dsn)
        try:
            yield await connection.cursor()
        finally:
            await connection.close()

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with self.cursor() as cur:
            await cur.execute(query, values)
            return list(await cur.fetchall())

    async def one(self, query: str, *values: object) -> Any:
        rows = await self.rows(query, *values)
        assert len(rows) == 1, rows
        return rows[0][0]

    async def balance(self, number: str) -> int:
        return await self.one("SELECT balance_minor FROM accounts WHERE number = %s", number)

    async def attempts(self, count: int, kind: str | None = None) -> list[tuple[Any, ...]]:
        """Attempts are written behind the caller's back: wait until there are ``count``."""

        async def written() -> list[tuple[Any, ...]] | None:
            found = await self.rows(
                "SELECT kind, reason, code, detail, partner_key, request FROM attempts "
                "WHERE %s::text IS NULL OR kind = %s ORDER BY id",
                kind,
                kind,
            )
            return found if len(found) >= count else None

        return await until(written, f"fewer than {count} attempts of kind {kind}") or []

    def contract(self, code: str) -> Contract:
        return contract_from_json(self.ids[code], code, 1, OSMP if code == "osmp" else CYBERPLAT, active=True)

    @asynccontextmanager
    async def gateway(self, core: dict[str, Any] | None = None, **port: Any) -> AsyncIterator["Peer"]:
        gateway = Gateway(CoreOptions(self.dsn, **(core or {})), PortOptions(**{"contracts_poll_s": 0.05, **port}))
        await gateway.prepare()
        sockets = bind_sockets(0, "127.0.0.1")
        gateway.listen(sockets)
        try:
            yield Peer(self, sockets[0].getsockname()[1], gateway)
        finally:
            await gateway.stop(5)


@dataclass
class Peer:
    """A partner on the wire: asks in the protocol's own words and reads the reply with the adapters' client side."""

    town: Town
    port: int
    gateway: Gateway | None

    async def exchange(self, head: bytes) -> tuple[int, bytes]:
        """Send bytes as they are; the status and body that come back (0 and nothing when the connection closed)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head)
            return await read_reply(reader)
        finally:
            writer.close()

    async def reads_contracts(self) -> None:
        """Wait until the gateway has read partners, contracts and keys as they are now."""
        assert self.gateway is not None
        contracts = self.gateway.contracts
        revision = await self.town.one("SELECT revision FROM contracts_revision")
        await until(lambda: contracts.book and contracts.book.revision >= revision, f"revision {revision} is not read")

    async def get(self, path: str, query: bytes, headers: str = "") -> tuple[int, bytes]:
        line = b"GET " + path.encode() + b"?" + query + b" HTTP/1.1\r\nHost: localhost\r\n"
        return await self.exchange(line + headers.encode() + b"Connection: close\r\n\r\n")

    async def osmp(self, query: str | Request) -> Any:
        asked = query.encode() if isinstance(query, str) else osmp.build(query, self.town.contract("osmp"), Keys())
        status, body = await self.get("/pay/osmp", asked)
        assert status == 200, (status, body)
        return osmp.parse_reply(body)

    async def cyberplat(self, query: str | Request) -> Any:
        if isinstance(query, str):
            asked = cyberplat.signed_query(query.encode(), self.town.partner_key, "sha1")
        else:
            asked = cyberplat.build(query, self.town.contract("cyberplat"), Keys(sign=self.town.partner_key))
        status, body = await self.get("/pay/cyberplat", asked)
        assert status == 200, (status, body)
        reply = cyberplat.parse_reply(body)
        assert cyberplat.verify_reply(reply, self.town.provider_key.public_key(), "sha1")
        return reply


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return 0, b""
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


@pytest.fixture
def town(database: Any, partner_key: rsa.RSAPrivateKey, provider_key: rsa.RSAPrivateKey) -> Town:
    made = Town(database.dsn, database.owner_dsn, partner_key, provider_key)
    asyncio.run(made.settle())
    return made


@pytest.fixture
def peer_of(town: Town) -> Any:
    """A partner's side of a gateway that runs elsewhere: give the port."""
    return lambda port: Peer(town, port, None)


def osmp_pay(key: int, account: str = ACTIVE, amount: str = "250.00") -> str:
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    return f"command=pay&txn_id={key}&txn_date={now}&account={account}&sum={amount}"


@pytest.fixture
def pay() -> Any:
    return osmp_pay


def cyberplat_pay(key: int, account: str = ACTIVE, amount: str = "250.00") -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"action=payment&number={account}&type=1&amount={amount}&receipt={key}&date={now}"


@pytest.fixture
def payment() -> Any:
    return cyberplat_pay
