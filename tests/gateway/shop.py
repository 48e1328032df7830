"""A small provider for tests: partners, subscribers and payments, made by the program's own code."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

import aiopg

from adapters.messages import Cancel, Pay, Result
from adapters.protocols import default_body
from billing.ledger.account_store import create_accounts
from billing.ledger.accounts import NewAccount
from gateway.partners.contract_book import load_book
from gateway.partners.contracts import add_partner
from gateway.payments import store
from gateway.payments.decide import decide
from gateway.payments.records import Attempt, Command, LoadedState, OperatorCancel, Terms
from ratingcore.money import Minor

PARTNERS = {"osmp-demo": ("osmp", "Терминалы Ёлка"), "cyber-demo": ("cyberplat", "Киберплат")}
SUBSCRIBERS = {
    "79161234567": "Ёлкина Анна Петровна",
    "79265550102": "Иванов Пётр",
    "79031112233": "Smith O'Hara",
}


@dataclass(frozen=True, slots=True)
class Shop:
    """Open partners: their terms by code."""

    terms: dict[str, Terms]

    def pay(self, key: str, account: str, amount: int, partner: str = "osmp-demo", **more: Any) -> Command:
        """A partner's pay."""
        request = Pay(key, account, Minor(amount), **more)
        return Command(request, self.terms[partner], f"partner:{partner}", "203.0.113.7", f"command=pay&txn_id={key}")

    def cancel(self, key: str, partner: str = "osmp-demo") -> Command:
        """A partner's cancel."""
        return Command(Cancel(key=key), self.terms[partner], f"partner:{partner}", "203.0.113.7", f"cancel {key}")


async def open_shop(dsn: str) -> Shop:
    """Partners, contracts that allow cancels and tombstones, and subscribers."""
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        for code, (protocol, name) in PARTNERS.items():
            body = {**default_body(protocol), "cancel_allowed": True, "cancel_tombstone": True}
            await add_partner(cur, code, name, body, "test")
        await create_accounts(cur, [NewAccount(number, name=name) for number, name in SUBSCRIBERS.items()])
        book = await load_book(cur, "", datetime.now(UTC))
    return Shop({code: book.by_code[code].terms for code in PARTNERS})


async def act(dsn: str, commands: Sequence[Command], now: datetime | None = None) -> list[Result]:
    """Run commands as one batch, the way a lane does."""
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        requests = [command.request for command in commands]
        pays = [request for request in requests if isinstance(request, Pay)]
        by_key = [
            (command.terms.contract.partner_id, command.request.key)
            for command in commands
            if isinstance(command.request, Pay | Cancel) and command.terms and command.request.key
        ]
        ids = [request.payment_id for request in requests if isinstance(request, OperatorCancel)]
        accounts = await store.begin_and_lock(cur, sorted({pay.account for pay in pays}), by_key, ids)
        payments = await store.read_payments(cur, by_key, ids)
        fresh: list[int] = []
        while len(fresh) < len(commands):
            fresh.extend(await store.take_id_block(cur))
        terms = {command.terms.contract.partner_id: command.terms for command in commands if command.terms}
        sides = await store.read_sides(cur, ids)
        world = LoadedState(now or datetime.now(UTC), iter(fresh).__next__, accounts, payments, sides)
        results = [decide(world, command) for command in commands]
        system = {t.clearing_account_id for t in terms.values()} | {t.transit_account_id for t in terms.values()}
        system |= {account for of_payment in sides.values() for account in astuple(of_payment)}
        await store.write(cur, world, system)
        await cur.execute("COMMIT")
        return results


async def note_attempt(dsn: str, attempt: Attempt, at: datetime | None = None) -> None:
    """Leave an attempt, as the gateway does beside its batches."""
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        await store.insert_attempts(cur, [(at or datetime.now(UTC), attempt)])
