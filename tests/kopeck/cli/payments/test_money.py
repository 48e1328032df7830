"""Money by hand, as people at the terminal move it: kinds, keys, a second person, refunds, moves, what verify says."""

import asyncio
import json
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from gateway.payments.records import Command, OperatorCancel
from tests.billing.invoicing.invoice_books import Books, Charge
from tests.gateway.shop import act, open_shop

TODAY = datetime.now(UTC).date()
LONG_AGO = TODAY - timedelta(days=100)
A, B = "79161234567", "79265550102"
PASSWORD = "long enough to be one"


class Money:
    """The shop's database, what a test asks of it, and the command."""

    def __init__(self, kopeck, database) -> None:
        self.kopeck, self.database = kopeck, database
        self.shop = asyncio.run(open_shop(database.dsn))

    def pay(self, key, account=A, amount=10_000):
        [result] = asyncio.run(act(self.database.dsn, [self.shop.pay(key, account, amount)]))
        return result.payment_id

    def partner_cancels(self, key):
        [result] = asyncio.run(act(self.database.dsn, [self.shop.cancel(key)]))
        return result.reason.value

    def person_cancels(self, payment):
        command = Command(OperatorCancel(payment, "mistake", may_owe=True), None, "user:anna")
        [result] = asyncio.run(act(self.database.dsn, [command]))
        return result.reason.value

    def rows(self, query, *values):
        with closing(psycopg2.connect(self.database.owner_dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(query, values)
            return cur.fetchall() if cur.description else []

    def one(self, query, *values):
        [[value]] = self.rows(query, *values)
        return value

    def balance(self, number):
        return self.one("SELECT balance_minor FROM accounts WHERE number = %s", number)

    def users(self, *logins, role="operator"):
        for login in logins:
            assert self.kopeck("user", "add", login, "--role", role, stdin=f"{PASSWORD}\n").status == 0

    def verified(self):
        said = self.kopeck("verify", "--no-journal")
        assert said.status == 0, said.out
        return said.out


@pytest.fixture
def money(kopeck, database):
    return Money(kopeck, database)


def post(money, kind="cash", amount="100", number=A, key="k1", *more):
    what = ("--kind", kind, "--amount", amount, "--key", key, "--why", "cash desk")
    return money.kopeck("account", "post", number, *what, *more)


@pytest.mark.parametrize(
    ("kind", "amount", "other", "moved"),
    [
        ("cash", "100", "cash:RUB", 10_000),
        ("bank", "100.50", "bank:RUB", 10_050),
        ("correction", "1", "adjustment:RUB", 100),
        ("correction", "-1", "adjustment:RUB", -100),
        ("write-off", "3", "write_off:RUB", 300),
    ],
)
def test_each_kind_moves_money_against_its_own_system_account(money, kind, amount, other, moved):
    if kind == "write-off":
        assert post(money, "correction", "-5", A, "start", "--may-owe").status == 0
    if amount == "-1":
        assert post(money, key="start").status == 0
    before, other_before = money.balance(A), _other(money, other)
    said = post(money, kind, amount)
    assert said.status == 0, said.err
    assert money.balance(A) - before == moved
    assert _other(money, other) - other_before == -moved
    assert "before" in said.out
    assert money.rows("SELECT actor LIKE 'system:cli:%%', action, object_id FROM audit ORDER BY id DESC LIMIT 1") == [
        (True, "posting_posted", A)
    ]
    money.verified()


def _other(money, number):
    return money.one("SELECT coalesce(sum(balance_minor), 0)::bigint FROM accounts WHERE number = %s", number)


def test_a_key_acts_once_and_other_contents_under_it_are_refused(money):
    assert post(money).status == 0
    again = post(money)
    assert (again.status, again.out.splitlines()[0]) == (
        0,
        f"request 1 stands already and is posted by {money.one('SELECT decided_by FROM posting_requests')}: "
        f"cash of 100.00 RUB, account {A}",
    )
    others = (("cash", "101"), ("bank", "100"), ("cash", "100", B), ("cash", "100", A, "k1", "--document", "7"))
    for other in others:
        refused = post(money, *other)
        assert refused.status == 2
        assert "asked for something else" in refused.err
    assert money.balance(A) == 10_000
    assert money.balance(B) == 0


def test_the_same_key_at_once_moves_money_once(money):
    import aiopg

    from billing.ledger.posting_requests import Kind, Person, WantedPosting
    from gateway.payments.manual_money import ask
    from ratingcore.money import Minor

    start, outcomes = threading.Barrier(4), []
    wanted = WantedPosting(Kind.CASH, "k", "why", A, Minor(500))

    async def once():
        async with aiopg.connect(money.database.dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            start.wait(30)
            outcome = await ask(cur, wanted, Person("user:anna", "password"), Minor(10**9), datetime.now(UTC))
            await cur.execute("COMMIT")
            outcomes.append(outcome.is_new)

    threads = [threading.Thread(target=lambda: asyncio.run(once())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [False, False, False, True]
    assert money.balance(A) == 500


def test_a_dry_run_shows_balances_and_keeps_nothing(money):
    said = money.kopeck(
        "account", "post", A, "--kind", "cash", "--amount", "5", "--key", "k", "--why", "w", "--dry-run"
    )
    assert f"account {A}: balance 0.00 before, 5.00 after, RUB" in said.out
    assert money.balance(A) == 0
    assert money.one("SELECT count(*) FROM posting_requests") == 0
    assert money.one("SELECT count(*) FROM audit WHERE action LIKE 'posting%%'") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("post", "1", "--kind", "cash", "--amount", "5"), "there is no account '1'"),
        (("post", A, "--kind", "cash", "--amount", "0"), "more than nothing"),
        (("post", A, "--kind", "bank", "--amount", "-5"), "only a correction may be negative"),
        (("post", A, "--kind", "write-off", "--amount", "5"), "owes 0.00: no more can be written off"),
        (("post", A, "--kind", "correction", "--amount", "-5"), "would owe 5.00 afterwards"),
        (("post", "cash:RUB", "--kind", "cash", "--amount", "5"), "one of our own"),
        (("payout", A, "--by", "bank"), "nothing is left to move"),
        (("payout", A, "--by", "bank", "--amount", "5"), "has 0.00: no more can be paid out"),
        (("refund", "--payment", "1", "--to", "bank"), "payment 1 was credited to no account"),
        (("refund", "--transfer", "1", "--to", "bank"), "transfer 1 is no payment"),
        (("refund", "--to", "bank"), "name the payment"),
    ],
)
def test_what_cannot_be_done_is_said_and_not_done(money, arguments, told):
    assert post(money, number=B, key="first").status == 0  # makes cash:RUB
    if arguments[:3] == ("refund", "--transfer", "1"):
        post(money, "correction", "1", number=B, key="no-receipt")
        arguments = ("refund", "--transfer", str(money.one("SELECT max(id) FROM transfers")), "--to", "bank")
        told = "is no payment, cash, bank or moved receipt"
    said = money.kopeck("account", *arguments, "--key", "k", "--why", "w")
    assert said.status == 2
    assert told in said.err
    assert money.balance(A) == 0


def test_above_the_sum_a_second_person_decides_and_both_have_proven_who_they_are(money, monkeypatch):
    monkeypatch.setenv("KOPECK_BILLING__SECOND_PERSON_ABOVE_MINOR", "9999")
    money.users("anna", "oleg")
    unproven = post(money)
    assert unproven.status == 2
    assert "add --as LOGIN" in unproven.err
    asked = money.kopeck(*_post_as("anna"), stdin=f"{PASSWORD}\n")
    assert "request 1 waits for a second person: cash of 100.00 RUB" in asked.out
    assert money.balance(A) == 0
    assert "user:anna\tcash\t" in money.kopeck("account", "pending").out
    own = money.kopeck("account", "approve", "1", "--as", "anna", stdin=f"{PASSWORD}\n")
    assert "another person approves it" in own.err
    assert "add --as LOGIN" in money.kopeck("account", "approve", "1").err
    wrong = money.kopeck("account", "approve", "1", "--as", "oleg", stdin="a guess of a password\n")
    assert "login or password is wrong" in wrong.err
    assert money.one("SELECT max(tries) FROM sign_in_tries WHERE scope = 'login'") == 1
    assert money.balance(A) == 0
    approved = money.kopeck("account", "approve", "1", "--as", "oleg", stdin=f"{PASSWORD}\n")
    assert f"account {A}: balance 0.00 before, 100.00 after" in approved.out
    again = money.kopeck("account", "approve", "1", "--as", "oleg", stdin=f"{PASSWORD}\n")
    assert "stands already and is posted by user:oleg" in again.out
    assert money.balance(A) == 10_000
    assert money.rows("SELECT actor, action FROM audit WHERE action LIKE 'posting%%' ORDER BY id") == [
        ("user:anna", "posting_requested"),
        ("user:oleg", "posting_approved"),
    ]
    assert len(money.kopeck("account", "pending").out.splitlines()) == 1
    money.verified()


def _post_as(login, key="k1"):
    return ("account", "post", A, "--kind", "cash", "--amount", "100", "--key", key, "--why", "w", "--as", login)


def test_a_request_is_rejected_once_and_never_posted(money, monkeypatch):
    monkeypatch.setenv("KOPECK_BILLING__SECOND_PERSON_ABOVE_MINOR", "0")
    money.users("anna", "oleg")
    assert money.kopeck(*_post_as("anna"), stdin=f"{PASSWORD}\n").status == 0
    assert money.kopeck("account", "reject", "1", "--why", "twice", "--as", "anna", stdin=f"{PASSWORD}\n").status == 0
    late = money.kopeck("account", "approve", "1", "--as", "oleg", stdin=f"{PASSWORD}\n")
    assert "rejected by user:anna" in late.err
    assert money.balance(A) == 0
    again = money.kopeck(*_post_as("anna"), stdin=f"{PASSWORD}\n")
    assert "stands already and is rejected by user:anna" in again.out


def test_who_may_only_look_moves_no_money_and_neither_does_a_temporary_password(money):
    money.users("vera", role="viewer")
    said = money.kopeck(*_post_as("vera"), stdin=f"{PASSWORD}\n")
    assert "vera has no role with the right money.post" in said.err
    given = money.kopeck("user", "add", "igor", "--role", "operator", "--generate").out.splitlines()[1]
    assert "replace the temporary password" in money.kopeck(*_post_as("igor"), stdin=f"{given}\n").err
    assert money.balance(A) == 0


def test_the_database_itself_wants_two_people(money, monkeypatch):
    monkeypatch.setenv("KOPECK_BILLING__SECOND_PERSON_ABOVE_MINOR", "0")
    money.users("anna")
    money.kopeck(*_post_as("anna"), stdin=f"{PASSWORD}\n")
    decide = (
        "UPDATE posting_requests SET state = 'posted', decided_by = 'user:anna', decided_proof = 'password', "
        "posting_id = 1"
    )
    with pytest.raises(psycopg2.errors.CheckViolation, match="two_people"):
        money.rows(decide)
    for change in ("amount_minor = 1", "account_id = 1"):
        with pytest.raises(psycopg2.Error, match="may only be decided"):
            money.rows(f"UPDATE posting_requests SET state = 'rejected', {change}")
    with pytest.raises(psycopg2.Error, match="append-only"):
        money.rows("DELETE FROM posting_requests")


def test_the_environment_does_not_choose_the_name_on_record(money, monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("SUDO_USER", "claimed")
    post(money)
    assert "somebody-else" not in money.one("SELECT requested_by FROM posting_requests")
    detail = money.one("SELECT detail FROM audit WHERE action = 'posting_posted'")
    assert (detail["proof"], detail["sudo_user"]) == ("os", "claimed")


# -- refunds and moves -------------------------------------------------------------------------------------------------


def refund(money, payment, to="partner", amount=None, key="r1", *more):
    sum_of = ("--amount", amount) if amount else ()
    return money.kopeck(
        "account", "refund", "--payment", str(payment), "--to", to, *sum_of, "--key", key, "--why", "asked for", *more
    )


def test_a_part_is_refunded_never_more_than_the_payment_and_it_stays_posted(money):
    payment = money.pay("1")
    clearing = "clearing:osmp-demo:RUB"
    assert money.balance(clearing) == -10_000
    assert refund(money, payment, amount="30").status == 0
    assert (money.balance(A), money.balance(clearing)) == (7_000, -7_000)
    assert refund(money, payment, "cash", "40", "r2").status == 0
    over = refund(money, payment, "bank", "30.01", "r3")
    assert "at most 30.00 of 100.00 are left of that receipt: 70.00 were taken off already" in over.err
    assert money.rows("SELECT state, returned_minor, version FROM payments") == [("posted", 7_000, 3)]
    events = money.rows("SELECT event, state, note FROM payment_events WHERE seq > 1 ORDER BY seq")
    assert events == [
        ("refund", "posted", "30.00 RUB to partner: asked for"),
        ("refund", "posted", "40.00 RUB to cash: asked for"),
    ]
    assert refund(money, payment, "bank", None, "r4").status == 0
    assert money.balance(A) == 0
    assert refund(money, payment, "bank", None, "r5").status == 2
    money.verified()


def test_all_of_a_payment_to_its_partner_is_a_reversal(money):
    payment = money.pay("1")
    assert refund(money, payment).status == 0
    assert money.rows("SELECT state, returned_minor FROM payments") == [("reversed", 0)]
    assert money.balance(A) == money.balance("clearing:osmp-demo:RUB") == 0
    assert money.partner_cancels("1") == "already_cancelled"
    assert "stands already" in refund(money, payment).out
    money.verified()


def test_what_people_took_off_a_payment_nobody_can_take_off_again_by_a_cancel(money):
    payment = money.pay("1")
    money.pay("2")
    refund(money, payment, amount="0.01")
    assert money.partner_cancels("1") == "cancel_impossible"
    assert money.person_cancels(payment) == "cancel_impossible"
    assert money.balance(A) == 19_999


def test_a_repeat_by_the_partner_is_answered_as_before_a_refund(money):
    payment = money.pay("1")
    refund(money, payment, amount="30")
    [again] = asyncio.run(act(money.database.dsn, [money.shop.pay("1", A, 10_000)]))
    assert (again.reason.value, again.payment_id, again.amount) == ("duplicate_ok", payment, 10_000)


def test_a_wrong_payment_is_moved_to_a_debtor_s_neighbour_and_back(money):
    payment = money.pay("1")
    said = money.kopeck("account", "move", "--payment", str(payment), "--to", B, "--key", "m1", "--why", "wrong number")
    assert f"account {A}: balance 100.00 before, 0.00 after, RUB" in said.out
    assert f"account {B}: balance 0.00 before, 100.00 after, RUB" in said.out
    moved = money.one("SELECT id FROM transfers WHERE step = 'move'")
    assert money.one("SELECT p.source_id FROM transfers m JOIN transfers p ON p.id = m.corrects_id") == payment
    assert money.partner_cancels("1") == "cancel_impossible"
    back = money.kopeck("account", "move", "--transfer", str(moved), "--to", A, "--key", "m2", "--why", "it was right")
    assert back.status == 0, back.err
    assert (money.balance(A), money.balance(B)) == (10_000, 0)
    last = money.one("SELECT max(id) FROM transfers")
    to_partner = money.kopeck(
        "account", "refund", "--transfer", str(last), "--to", "partner", "--key", "m3", "--why", "w"
    )
    assert to_partner.status == 0, to_partner.err
    assert money.balance("clearing:osmp-demo:RUB") == 0
    money.verified()


def test_what_would_make_an_account_owe_needs_a_word_and_a_prepaid_one_never_owes(money):
    payment = money.pay("1")
    post(money, "correction", "-70", key="spent")
    assert "would owe 70.00 afterwards" in refund(money, payment, "bank").err
    assert refund(money, payment, "bank", None, "r1", "--may-owe").status == 0
    assert money.balance(A) == -7_000
    money.kopeck("account", "add", "P1", "--kind", "prepaid")
    prepaid = money.pay("2", "P1")
    post(money, "correction", "-70", number="P1", key="spent-2")
    assert "may not go below 0.00" in refund(money, prepaid, "bank", None, "r2", "--may-owe").err
    assert money.balance("P1") == 3_000


def test_a_leaving_customer_is_paid_out_to_the_kopeck(money):
    post(money, amount="12.34")
    said = money.kopeck("account", "payout", A, "--by", "bank", "--key", "p", "--why", "leaves", "--document", "77")
    assert said.status == 0, said.err
    assert (money.balance(A), money.balance("bank:RUB")) == (0, 1_234)
    money.verified()


def test_a_prepaid_customer_who_leaves_with_a_balance_is_paid_out_and_closed(money):
    assert money.kopeck("customer", "add", "c1", "--kind", "prepaid").status == 0
    post(money, amount="5", number="c1")
    assert money.kopeck("customer", "close", "c1").status == 2
    assert money.kopeck("account", "payout", "c1", "--by", "cash", "--key", "p", "--why", "leaves").status == 0
    assert money.kopeck("customer", "close", "c1").out == "customer c1 is closed\n"
    late = post(money, number="c1", key="late")
    assert "account c1 is closed" in late.err


def test_the_journal_document_tells_of_refunds_and_of_none_where_there_is_none(money):
    from gateway.journal.documents import payment_documents

    first, second = money.pay("1"), money.pay("2")
    refund(money, first, amount="30")

    async def documents():
        import aiopg

        async with aiopg.connect(money.database.dsn) as connection, connection.cursor() as cur:
            return await payment_documents(cur, [first, second])

    told, untouched = asyncio.run(documents())
    assert told["returned"] == 3_000
    assert [(t["step"], t["debit"], t["credit"], t["amount"]) for t in told["transfers"]][2:] == [
        ("refund", A, "clearing:osmp-demo:RUB", 3_000)
    ]
    assert told["state"] == "posted"
    assert "returned" not in untouched
    assert money.one("SELECT count(*) FROM outbox WHERE ref = %s", first) == 2


@pytest.mark.parametrize(
    ("corruption", "told"),
    [
        ("UPDATE payments SET returned_minor = 1", "in 1 events, 30.00 in 1 transfers were taken off"),
        ("UPDATE payments SET returned_minor = 0", "nothing was taken off it"),
        ("DELETE FROM posting_requests", "no request asked for it"),
        ("UPDATE posting_requests SET amount_minor = 5", "request 1 (refund of 0.05) is posted: transfer"),
        ("UPDATE posting_requests SET posting_id = NULL", "request 1 (refund of 30.00) is posted: it has no transfer"),
        ("DROP TRIGGER posting_requests_kept ON posting_requests", "no enabled trigger refuses DELETE"),
    ],
)
def test_verify_finds_what_was_falsified(money, corruption, told):
    refund(money, money.pay("1"), amount="30")
    money.verified()
    with closing(psycopg2.connect(money.database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        if "TRIGGER" not in corruption:
            cur.execute("SET session_replication_role = replica")
        cur.execute(corruption)
    said = money.kopeck("verify", "--no-journal")
    assert said.status == 1
    assert told in said.out


# -- invoices and debtors ----------------------------------------------------------------------------------------------


@pytest.fixture
def books(database) -> Books:
    """A1 with an invoice of 146.40 that is due long ago and one of 12.20 of today."""
    found = Books(database.dsn)
    found.catalogue()
    account = found.account("A1")
    order = found.order(account, "2026-01-01 00:00+03")
    lines = [Charge(12_200, order_id=order), Charge(2_440, "data", "usage", order, 1_500)]
    found.invoices(found.run(LONG_AGO), [(account, lines)], on=LONG_AGO)
    found.invoices(found.run(TODAY), [(account, [Charge(1_220)])], on=TODAY)
    return found


def unpaid(kopeck, books):
    listed = json.loads(kopeck("invoice", "list", "--json").out)
    return {invoice["number"]: invoice["unpaid"] for invoice in listed}


def by_hand(kopeck, *arguments):
    said = kopeck("account", *arguments, "--why", "as asked")
    assert said.status == 0, said.err
    return said.out


def test_cash_pays_invoices_and_lifts_a_suspension_as_a_payment_does(kopeck, books):
    books.ask(
        "INSERT INTO order_suspensions (order_id, from_at, reason, actor) "
        "SELECT id, now() - interval '1 day', 'dunning', 't' FROM orders"
    )
    books.ask("UPDATE accounts SET dunning_step = 3 WHERE number = 'A1'")
    assert books.one("SELECT count(*) FROM order_suspensions WHERE until_at IS NULL") == 1
    by_hand(kopeck, "post", "A1", "--kind", "bank", "--amount", "146.40", "--key", "k")
    assert books.one("SELECT count(*) FROM order_suspensions WHERE until_at IS NULL") == 0
    assert unpaid(kopeck, books) == {"I-000001": 0, "I-000002": 1_220}


def test_money_that_leaves_a_receipt_leaves_the_invoices_it_was_directed_to(kopeck, books):
    by_hand(kopeck, "post", "A1", "--kind", "cash", "--amount", "100", "--key", "k")
    receipt = str(books.one("SELECT id FROM transfers WHERE step = 'cash'"))
    assert kopeck("invoice", "allocate", "I-000002", "--transfer", receipt).status == 0
    assert kopeck("invoice", "allocate", "I-000001", "--transfer", receipt, "--amount", "80").status == 0
    assert unpaid(kopeck, books) == {"I-000001": 5_860, "I-000002": 0}
    refund_of = ("refund", "--transfer", receipt, "--to", "cash", "--may-owe")
    by_hand(kopeck, *refund_of, "--amount", "7", "--key", "r1")  # 7.80 of it were directed nowhere
    assert books.one("SELECT sum(amount_minor) FROM payment_allocations") == 9_220
    by_hand(kopeck, *refund_of, "--amount", "20", "--key", "r2")
    directed = dict(books.ask("SELECT invoice_id, sum(amount_minor) FROM payment_allocations GROUP BY 1"))
    assert sorted(directed.values()) == [1_220, 6_080]
    more = kopeck("invoice", "allocate", "I-000001", "--transfer", receipt, "--amount", "70")
    assert "were directed to I-000001 already" in more.err
    by_hand(kopeck, *refund_of, "--key", "r3")
    assert books.one("SELECT sum(amount_minor) FROM payment_allocations") == 0
    assert unpaid(kopeck, books) == {"I-000001": 14_640, "I-000002": 1_220}
    assert kopeck("verify", "--no-journal").out.count("receipts") == 1


def test_a_statement_names_documents_not_ids_of_ours(kopeck, books):
    by_hand(kopeck, "post", "A1", "--kind", "cash", "--amount", "100", "--key", "k", "--document", "order 77")
    credit = kopeck("invoice", "credit", "I-000001", "--all", "--key", "c", "--why", "wrong")
    assert credit.status == 0
    rows = [line.split("\t") for line in kopeck("account", "show", "A1").out.splitlines()[4:]]
    assert [(row[2], row[3]) for row in rows] == [
        ("invoice, tax", "C-000001"),
        ("invoice, revenue", "C-000001"),
        ("by hand, cash", "order 77"),
        ("invoice, tax", "I-000002"),
        ("invoice, revenue", "I-000002"),
        ("invoice, tax", "I-000001"),
        ("invoice, revenue", "I-000001"),
    ]
