"""Money of a payment that is held: no dialect holds yet, so the table and the program's own code hold it here."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import aiopg
import pytest

from adapters.messages import Op, Pay, Reason
from gateway.payments import store
from gateway.payments.decide import _happen
from gateway.payments.records import Command, LoadedState, OperatorCancel, Payment
from gateway.payments.states import Event, State
from gateway.verification.live import verify
from tests.gateway.shop import Shop, act, open_shop

ACCOUNT = "79161234567"
AMOUNT = 25_000


async def hold(dsn: str, shop: Shop) -> int:
    """Hold a partner's money as a two-phase pay would, in one batch; the payment's id."""
    command = shop.pay("1001", ACCOUNT, AMOUNT)
    request, terms = command.request, command.terms
    assert isinstance(request, Pay)
    assert terms is not None
    contract, now = terms.contract, datetime.now(UTC)
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        accounts = await store.begin_and_lock(cur, [ACCOUNT], [(contract.partner_id, request.key)], [])
        fresh = await store.take_id_block(cur)
        loaded = LoadedState(now, iter(fresh).__next__, accounts, {}, {})
        payment = Payment(
            id=loaded.next_id(),
            partner_id=contract.partner_id,
            key=request.key,
            contract_version=contract.version,
            service="",
            account_number=ACCOUNT,
            account_id=accounts[ACCOUNT].id,
            amount=request.amount,
            currency=contract.currency,
            partner_time=None,
            extras=None,
            state=State.REFUSED,
            reason=Reason.OK,
            version=0,
            registered_at=now,
            created_at=now,
        )
        _happen(loaded, command, terms, payment, Event.HOLD, Reason.OK)
        await store.write(cur, loaded, {terms.clearing_account_id, terms.transit_account_id})
        await cur.execute("COMMIT")
    return payment.id


async def balances(dsn: str) -> dict[str, int]:
    """Balances by number of account, without those of nothing."""
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await cur.execute("SELECT number, balance_minor FROM accounts WHERE balance_minor <> 0")
        return dict(await cur.fetchall())


async def steps(dsn: str) -> list[Any]:
    """Each transfer: its step, and the accounts it went between."""
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await cur.execute(
            "SELECT t.step, d.number, c.number FROM posted_transfers t JOIN accounts d ON d.id = t.debit_account_id"
            " JOIN accounts c ON c.id = t.credit_account_id ORDER BY t.id"
        )
        return list(await cur.fetchall())


def test_a_held_payment_that_a_person_cancels_gives_its_money_back_from_transit_to_clearing(database: Any) -> None:
    async def story() -> None:
        shop = await open_shop(database.dsn)
        payment = await hold(database.dsn, shop)
        assert await balances(database.dsn) == {"clearing:osmp-demo:RUB": -AMOUNT, "transit:RUB": AMOUNT}
        cancel = Command(OperatorCancel(payment, "the network did not answer"), None, "user:anna")
        [result] = await act(database.dsn, [cancel])
        assert (result.op, result.reason) == (Op.CANCEL, Reason.OK)
        assert await balances(database.dsn) == {}
        assert await steps(database.dsn) == [
            ("hold", "clearing:osmp-demo:RUB", "transit:RUB"), ("void", "transit:RUB", "clearing:osmp-demo:RUB"),
        ]  # fmt: skip
        [again] = await act(database.dsn, [cancel])
        assert again.reason is Reason.ALREADY_CANCELLED
        assert len(await steps(database.dsn)) == 2
        report = await verify(database.admin_dsn, None)
        assert report.is_clean, report.findings

    asyncio.run(story())


@pytest.mark.parametrize(("ask", "reason"), [("pay", Reason.IN_PROGRESS), ("cancel", Reason.IN_PROGRESS)])
def test_while_money_is_held_its_partner_is_told_to_wait_and_nothing_moves(
    database: Any, ask: str, reason: Reason
) -> None:
    async def story() -> None:
        shop = await open_shop(database.dsn)
        await hold(database.dsn, shop)
        command = shop.pay("1001", ACCOUNT, AMOUNT) if ask == "pay" else shop.cancel("1001")
        [result] = await act(database.dsn, [command])
        assert result.reason is reason
        assert [step for step, _, _ in await steps(database.dsn)] == ["hold"]

    asyncio.run(story())
