"""A small provider with a month behind it, made by the program's own code: partners, subscribers, payments of every
kind a partner can cause, attempts, and three people who may sign in.

Payments are decided and written the way a lane does it, only with a clock of their own; what a partner asked is worded
by his protocol's client side. So a page made of this never contradicts itself.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiopg

from adapters.messages import NO_KEYS, Cancel, Check, Pay, RawRequest, Reason, Request, Result
from adapters.protocols import PROTOCOLS, default_body
from billing.ledger.account_store import create_accounts
from billing.ledger.accounts import NewAccount
from gateway.journal.journal import Journal
from gateway.journal.relay import relay_batch
from gateway.partners.contract_book import load_book
from gateway.partners.contracts import add_partner
from gateway.payments import store
from gateway.payments.decide import decide
from gateway.payments.records import Attempt, Command, LoadedState, Terms
from ratingcore.money import Minor
from web.access.rights import EVERYTHING
from web.access.users import add_user

PARTNERS = {
    "osmp": ("osmp", "QIWI Терминалы"),
    "cyberplat": ("cyberplat", "КиберПлат"),
    "kassa-24": ("osmp", "Касса 24"),
}
SUBSCRIBERS = {
    "79161234567": "Ёлкина Анна Петровна",
    "79265550102": "Иванов Пётр Сергеевич",
    "79031112233": "Константинопольская Александра Владиславовна",
    "79219876543": "Ким Ли",
    "79857770011": "ООО «Ромашка»",
    "79123334455": "Сидоров Олег Игоревич",
    "79522223344": "<script>alert(1)</script>",
}
INACTIVE = "79990000001"
PEOPLE = {"vera": "viewer", "oleg": "operator", "anna": "administrator"}
PASSWORD = "correct horse 42"
PARTNER_ADDRESS, STRANGER_ADDRESS = "203.0.113.7", "198.51.100.9"
#: A till takes the money and then tells us.
PARTNER_EARLIER = timedelta(seconds=3)
DAYS = 40
PAYMENTS = 130


@dataclass(frozen=True, slots=True)
class Seeded:
    """What tests name: terms by partner, and ids by what happened to them."""

    terms: dict[str, Terms]
    ids: dict[str, int]


async def fill(dsn: str, owner_dsn: str, journal: Journal, now: datetime, payments: int = PAYMENTS) -> Seeded:
    """Everything above, in PostgreSQL and the journal."""
    async with (
        back_dated(owner_dsn),
        aiopg.connect(dsn, options="-c timezone=UTC") as connection,
        connection.cursor() as cur,
    ):
        terms = await open_shop(cur, now)
        ids = await month(cur, terms, now, payments)
        await attempts(cur, terms, ids, now)
        first, *others = PEOPLE.items()
        await add_user(cur, first[0], PASSWORD, first[1], by=EVERYTHING, actor="system:seed")
        for login, role in others:  # one hash for all: making it is meant to be slow
            await cur.execute(
                "WITH added AS (INSERT INTO users (login, password_hash) SELECT %s, password_hash FROM users LIMIT 1 "
                "RETURNING id) INSERT INTO user_roles (user_id, role_id, given_by) "
                "SELECT a.id, r.id, 'system:seed' FROM added a, roles r WHERE r.code = %s",
                (login, role),
            )
    await journal.ensure_indexes()
    await relay(dsn, journal)
    return Seeded(terms, ids)


@asynccontextmanager
async def back_dated(owner_dsn: str) -> AsyncIterator[None]:
    """Transfers are stamped by the database and never change: while this lasts it takes the seed's clock instead."""
    set_default = "ALTER TABLE transfers ALTER COLUMN created_at SET DEFAULT"
    async with aiopg.connect(owner_dsn) as connection, connection.cursor() as cur:
        await cur.execute(f"{set_default} current_setting('seed.now')::timestamptz")
        try:
            yield
        finally:
            await cur.execute(f"{set_default} now()")


async def open_shop(cur: Any, now: datetime) -> dict[str, Terms]:
    for code, (protocol, name) in PARTNERS.items():
        body = {**default_body(protocol), "cancel_allowed": True, "cancel_tombstone": True, "max_minor": 100_000_000}
        if protocol == "osmp":
            body["dialect"] = {**body["dialect"], "cancel": "cancel_txn_id"}
        await add_partner(cur, code, name, body, "system:seed")
    await create_accounts(
        cur,
        [NewAccount(number, name=name) for number, name in SUBSCRIBERS.items()]
        + [NewAccount(INACTIVE, name="Уехавший Иван", state="inactive")],
    )
    book = await load_book(cur, "", now)
    return {code: book.by_code[code].terms for code in PARTNERS}


async def month(cur: Any, terms: dict[str, Terms], now: datetime, payments: int) -> dict[str, int]:
    """Payments over DAYS, the same every time; the last ones happened minutes ago and have names."""
    rolls = random.Random(2026)
    numbers = list(SUBSCRIBERS)
    for index in range(payments):
        at = now - timedelta(minutes=30 + (payments - index) * DAYS * 24 * 60 // payments)
        code = rolls.choices(list(PARTNERS), (5, 4, 1))[0]
        account = rolls.choices([*numbers, INACTIVE, "79000000000"], (4, 3, 2, 2, 2, 1, 1, 1, 1))[0]
        amount = rolls.choice([10_000, 30_000, 50_000, 25_075, 99_900, 200_000, rolls.randrange(100, 900_000)])
        await act(cur, at, [pay(terms[code], f"{7_000_000_000 + index * 137}", account, amount, at)])
    named: dict[str, int] = {}
    for name, minutes, key, account, amount in (
        ("posted", 9, "9000000001", "79161234567", 1_234_56),
        ("reversed", 8, "9000000002", "79265550102", 50_000),
        ("refused", 7, "9000000003", INACTIVE, 75_000),
        ("to_cancel", 6, "9000000004", "79857770011", 300_000),
        ("to_cancel_too", 5, "9000000005", "79857770011", 400_000),
        ("conflicting", 4, "9000000006", "79219876543", 10_000),
        ("formula", 3, "=1+1", "79522223344", 5_00),
    ):
        at = now - timedelta(minutes=minutes)
        code = "cyberplat" if name == "formula" else "osmp"
        [result] = await act(cur, at, [pay(terms[code], key, account, amount, at)])
        named[name] = int(result.payment_id or 0) or await id_of(cur, key)
    at = now - timedelta(minutes=2)
    for key in ("9000000002", "9000000099"):
        cancel = Cancel(key=key, cancel_key=f"5{key[1:]}", amount=Minor(50_000))
        await act(cur, at, [command(terms["osmp"], cancel)])
    await act(cur, at, [pay(terms["osmp"], "9000000006", "79219876543", 20_000, at)])
    return named


def pay(terms: Terms, key: str, account: str, amount: int, at: datetime) -> Command:
    taken_at = (at - PARTNER_EARLIER).replace(microsecond=0)
    return command(terms, Pay(key, account, Minor(amount), partner_time=taken_at))


def command(terms: Terms, request: Pay | Cancel) -> Command:
    return Command(request, terms, f"partner:{terms.contract.partner}", PARTNER_ADDRESS, worded(terms, request))


def worded(terms: Terms, request: Request) -> str:
    """The request as the partner would send it, and as the gateway would keep it."""
    contract = terms.contract
    protocol = PROTOCOLS[contract.protocol]
    query = protocol.build(request, contract, NO_KEYS)
    headers = {"authorization": "Basic ***"} if contract.protocol == "osmp" else {}
    return protocol.scrub(RawRequest("GET", f"/pay/{contract.partner}", query, b"", headers), contract)


async def act(cur: Any, now: datetime, commands: Sequence[Command]) -> list[Result]:
    """One batch, as a lane runs it."""
    await cur.execute("SELECT set_config('seed.now', %s, false)", (now.isoformat(),))
    requests = [command.request for command in commands]
    numbers = sorted({request.account for request in requests if isinstance(request, Pay)})
    keys = [(c.terms.contract.partner_id, c.request.key) for c in commands if c.terms and c.request.key]  # type: ignore[union-attr]
    accounts = await store.begin_and_lock(cur, numbers, keys, [])
    payments = await store.read_payments(cur, keys, [])
    ids = iter(await store.take_id_block(cur))
    terms = {c.terms.contract.partner_id: c.terms for c in commands if c.terms}
    world = LoadedState(now, ids.__next__, accounts, payments)
    results = [decide(world, command) for command in commands]
    system = {t.clearing_account_id for t in terms.values()} | {t.transit_account_id for t in terms.values()}
    await store.write(cur, world, system)
    await cur.execute("COMMIT")
    return results


async def attempts(cur: Any, terms: dict[str, Terms], ids: dict[str, int], now: datetime) -> None:
    """Calls that changed nothing, of every kind."""
    osmp, cyberplat = terms["osmp"], terms["cyberplat"]
    repeat = pay(osmp, "9000000001", "79161234567", 1_234_56, now - timedelta(minutes=9))
    forged = pay(cyberplat, "9000000007", "79031112233", 5_000_00, now - timedelta(minutes=5))
    waiting = pay(osmp, "9000000008", "79123334455", 100_00, now - timedelta(minutes=30))
    known = Check("79161234567", amount=Minor(100_00), key="9000000010")
    unknown = Check("79000000000", amount=Minor(100_00), key="9000000011")
    rows = [
        (1, attempt("repeat", Reason.DUPLICATE_OK, osmp, "pay", "0", repeat.request, payment_id=ids["posted"])),
        (2, attempt("call", Reason.OK, osmp, "check", "0", known)),
        (3, attempt("refusal", Reason.ACCOUNT_NOT_FOUND, osmp, "check", "5", unknown)),
        (5, attempt("bad_signature", Reason.BAD_SIGNATURE, cyberplat, "pay", "-4", forged.request,
                    detail="none of the 2 valid keys made it")),
        (9, Attempt("bad_source", Reason.BAD_SOURCE, cyberplat.contract.partner_id, "", "",
                    f"{STRANGER_ADDRESS} is not in the contract", remote_ip=STRANGER_ADDRESS,
                    request_text="GET /pay/cyberplat?action=check&number=79161234567", calls=1_234)),
        (20, Attempt("malformed", Reason.BAD_AMOUNT, osmp.contract.partner_id, "pay", "300", "sum: not a sum: '10,5'",
                     "7\u202e21", remote_ip=PARTNER_ADDRESS,
                     request_text="GET /pay/osmp?command=pay&sum=10,5&note=<b>bold</b>\u202e")),
        (21, Attempt("malformed", Reason.UNKNOWN_VERB, None, "", "", "no partner at /pay/nobody",
                     remote_ip=STRANGER_ADDRESS, request_text="GET /pay/nobody?command=check")),
        (30, attempt("overload", Reason.TEMPORARY, osmp, "pay", "1", waiting.request,
                     detail="2000 requests wait already")),
    ]  # fmt: skip
    await store.insert_attempts(cur, [(now - timedelta(minutes=minutes), row) for minutes, row in rows])


def attempt(kind: str, reason: Reason, terms: Terms, op: str, code: str, request: Any, **more: Any) -> Attempt:
    """A call that was understood: its fields are those of its own request."""
    return Attempt(
        kind, reason, terms.contract.partner_id, op, code, key=request.key, account_number=request.account,
        amount=request.amount, remote_ip=PARTNER_ADDRESS, request_text=worded(terms, request), **more,
    )  # fmt: skip


async def id_of(cur: Any, key: str) -> int:
    await cur.execute("SELECT id FROM payments WHERE partner_key = %s", (key,))
    return int((await cur.fetchone())[0])


async def relay(dsn: str, journal: Journal) -> None:
    """Carry the outbox to the journal until it is empty."""
    async with (
        aiopg.connect(dsn, options="-c timezone=UTC") as taking,
        aiopg.connect(dsn, options="-c timezone=UTC") as reading,
        taking.cursor() as first,
        reading.cursor() as second,
    ):
        while (await relay_batch(first, second, journal, 500)).done:
            pass
