"""The auditor finds what is planted: a small clean record with its books, and one corruption after the other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from loadtests.auditor import AccountRow, Background, Books, PaymentRow, audit
from loadtests.faults import GATEWAY_KILLED, POSTGRES_KILLED, Struck
from loadtests.partners import SILENCE, Heard, Meaning, cyberplat_partner, open_line, osmp_partner
from loadtests.record import FORGED, MALFORMED, Exchange, Sent

TIME = "2026-11-23T10:00:00+00:00"
AT = datetime(2026, 11, 23, 10, 0, 5, 250_000, tzinfo=UTC)
HEARD_DATE = "2026-11-23T13:00:05"  # the same instant on Moscow's clock
LINES = {
    "o": open_line(osmp_partner("o", "secret")),
    "c": open_line(cyberplat_partner("c")),
}
BACKGROUND = Background(LINES, frozenset({"A", "B"}))

# Accounts 1 and 2 are subscribers, 10 transit, 11 and 12 the partners' clearing accounts.
# k1 was paid and repeated, k2 paid and cancelled, k3 refused, k4 raced by two sums, k5 lost in a closed connection
# and credited, k6 lost and never arrived, k7 a stranger's, k8 nonsense.
PAY = Sent("c", "pay", "k1", account="A", amount=100, service="1", time=TIME)
EXCHANGES = (
    Exchange(1, 1.0, Sent("c", "check", "", account="A", amount=100), Heard(Meaning.DONE, 0), 1.1),
    Exchange(2, 2.0, PAY, Heard(Meaning.DONE, 0, 501, HEARD_DATE), 2.1),
    Exchange(3, 3.0, PAY, Heard(Meaning.DONE, 0, 501, HEARD_DATE), 3.1),
    Exchange(4, 4.0, replace(PAY, amount=7), Heard(Meaning.CONFLICT, 4), 4.1),
    Exchange(5, 5.0, replace(PAY, key="k2", account="B"), Heard(Meaning.DONE, 0, 502, HEARD_DATE), 5.1),
    Exchange(6, 6.0, Sent("c", "cancel", "k2"), Heard(Meaning.DONE, 0, 502), 6.1),
    Exchange(7, 7.0, replace(PAY, key="k2", account="B"), Heard(Meaning.CANCELLED, 7, 502), 7.1),
    Exchange(8, 8.0, replace(PAY, key="k3", account="nobody"), Heard(Meaning.REFUSED, 2), 8.1),
    Exchange(9, 9.0, Sent("o", "pay", "k4", account="B", amount=20, time=TIME), Heard(Meaning.CONFLICT, 215), 9.2),
    Exchange(10, 9.0, Sent("o", "pay", "k4", account="B", amount=21, time=TIME), Heard(Meaning.DONE, 0, 504), 9.1),
    Exchange(11, 10.0, Sent("o", "pay", "k5", account="A", amount=5, time=TIME), SILENCE),
    Exchange(12, 11.0, Sent("o", "pay", "k6", account="A", amount=6, time=TIME), SILENCE),
    Exchange(13, 12.0, replace(PAY, key="k7", form=FORGED), Heard(Meaning.DENIED, -4), 12.1),
    Exchange(14, 13.0, replace(PAY, key="k8", form=MALFORMED), Heard(Meaning.REFUSED, 3), 13.1),
    Exchange(15, 14.0, Sent("c", "status", "k1"), Heard(Meaning.DONE, 0, 501, HEARD_DATE), 14.1),
)


def _row(number: int, partner: str, key: str, account: str, amount: int, state: str) -> PaymentRow:
    version = 2 if state == "reversed" else 1
    service = "1" if partner == "c" else ""
    time = datetime.fromisoformat(TIME)
    return PaymentRow(number, partner, key, account, amount, service, time, state, "ok", version, AT)


BOOKS = Books(
    payments=(
        _row(501, "c", "k1", "A", 100, "posted"),
        _row(502, "c", "k2", "B", 100, "reversed"),
        _row(503, "c", "k3", "nobody", 100, "refused"),
        _row(504, "o", "k4", "B", 21, "posted"),
        _row(505, "o", "k5", "A", 5, "posted"),
    ),
    accounts=(
        AccountRow(1, "A", "subscriber", 105, 105),
        AccountRow(2, "B", "subscriber", 21, 21),
        AccountRow(10, "transit:RUB", "transit", 0, 0),
        AccountRow(11, "clearing:c:RUB", "clearing", -100, -100),
        AccountRow(12, "clearing:o:RUB", "clearing", -26, -26),
    ),
    movements={
        501: (("hold", 11, 10, 100), ("post", 10, 1, 100)),
        502: (("hold", 11, 10, 100), ("post", 10, 2, 100), ("reverse", 2, 11, 100)),
        504: (("hold", 12, 10, 21), ("post", 10, 2, 21)),
        505: (("hold", 12, 10, 5), ("post", 10, 1, 5)),
    },
    events={501: (1, "posted"), 502: (2, "reversed"), 503: (1, "refused"), 504: (1, "posted"), 505: (1, "posted")},
    clearing={"c": 11, "o": 12},
    conflicts={("c", "k1"): 1, ("o", "k4"): 1},
    forged={"c": 1},
)


def test_a_clean_record_and_its_books_have_no_difference() -> None:
    found = audit(EXCHANGES, BOOKS, BACKGROUND)
    assert found.differences == []
    assert found.examined["payments on the books"] == 5
    assert found.examined["keys never settled"] == 2


def test_an_audit_of_nothing_is_a_difference() -> None:
    nothing = Books((), (), {}, {}, {}, {}, {})
    assert any("nothing was examined" in text for text in audit((), nothing, BACKGROUND).differences)


def _payment(number: int, **changed: object) -> Callable[[Books], Books]:
    def plant(books: Books) -> Books:
        rows = [replace(row, **changed) if row.id == number else row for row in books.payments]  # type: ignore[arg-type]
        return replace(books, payments=tuple(rows))

    return plant


def _without(number: int) -> Callable[[Books], Books]:
    return lambda books: replace(books, payments=tuple(row for row in books.payments if row.id != number))


def _account(number: int, **changed: int) -> Callable[[Books], Books]:
    def plant(books: Books) -> Books:
        rows = [replace(row, **changed) if row.id == number else row for row in books.accounts]
        return replace(books, accounts=tuple(rows))

    return plant


def _twice(books: Books) -> Books:
    return replace(books, payments=(*books.payments, replace(books.payments[0], id=599)))


def _stranger_credited(books: Books) -> Books:
    return replace(books, payments=(*books.payments, _row(506, "c", "k7", "A", 100, "refused")))


def _nobodys(books: Books) -> Books:
    return replace(books, payments=(*books.payments, _row(507, "c", "k99", "A", 100, "refused")))


def _movement(number: int, *moved: tuple[str, int, int, int]) -> Callable[[Books], Books]:
    return lambda books: replace(books, movements={**books.movements, number: moved})


PLANTED_IN_BOOKS: dict[str, tuple[Callable[[Books], Books], str]] = {
    "a payment that was heard done is gone": (_without(501), "LOST"),
    "a refusal is gone": (_without(503), "refusal is not on record"),
    "a payment is there twice": (_twice, "2 payments"),
    "a stranger's payment is there": (_stranger_credited, "nobody who may ever asked"),
    "a payment nobody sent": (_nobodys, "nobody sent"),
    "another sum": (_payment(501, amount=101), "nobody sent"),
    "another account": (_payment(501, account="B"), "nobody sent"),
    "the loser of a race was credited": (_payment(504, amount=20), "heard done for"),
    "another number": (_payment(501, id=777), "heard number 501"),
    "another date": (_payment(501, registered_at=AT.replace(second=6)), "heard the date"),
    "another date of the partner's": (_payment(501, partner_time=AT), "has the date"),
    "a refused payment was credited": (_payment(503, state="posted"), "is posted"),
    "a done payment is reversed and nobody asked": (_payment(501, state="reversed"), "is reversed"),
    "a cancelled payment stands": (_payment(502, state="posted"), "is posted"),
    "a transfer is missing": (_movement(501, ("hold", 11, 10, 100)), "transfers are"),
    "a transfer is there twice": (
        _movement(501, ("hold", 11, 10, 100), ("post", 10, 1, 100), ("post", 10, 1, 100)),
        "transfers are",
    ),
    "a transfer of another sum": (_movement(501, ("hold", 11, 10, 100), ("post", 10, 1, 99)), "transfers are"),
    "a transfer to another account": (_movement(501, ("hold", 11, 10, 100), ("post", 10, 2, 100)), "transfers are"),
    "a refused payment moved money": (_movement(503, ("hold", 11, 10, 100)), "transfers are"),
    "transfers of no payment": (_movement(999, ("hold", 11, 10, 100)), "does not exist"),
    "a kopeck too many": (_account(1, balance=106, moved=106), "105 was paid"),
    "a balance without a transfer": (_account(1, balance=104), "transfers sum to"),
    "money stuck in transit": (_account(10, balance=5, moved=5), "0 was paid"),
    "clearing does not follow": (_account(11, balance=-99, moved=-99), "-100 was paid"),
    "balances do not sum to zero": (_account(2, balance=22, moved=22), "not zero"),
    "an event is missing": (lambda books: replace(books, events={**books.events, 502: (1, "posted")}), "events are"),
    "a conflict is not on record": (lambda books: replace(books, conflicts={}), "conflicts heard"),
    "conflicts nobody sent": (lambda books: replace(books, conflicts={("c", "k1"): 9}), "that nobody sent"),
    "a stranger is not on record": (lambda books: replace(books, forged={}), "strangers denied"),
    "more strangers than came": (lambda books: replace(books, forged={"c": 2}), "strangers on record"),
}


@pytest.mark.parametrize("name", PLANTED_IN_BOOKS)
def test_what_is_wrong_in_the_books_is_found(name: str) -> None:
    plant, words = PLANTED_IN_BOOKS[name]
    found = audit(EXCHANGES, plant(BOOKS), BACKGROUND)
    assert any(words in text for text in found.differences), found.differences


def _heard(number: int, heard: Heard) -> tuple[Exchange, ...]:
    return tuple(replace(one, heard=heard) if one.number == number else one for one in EXCHANGES)


PLANTED_IN_RECORD: dict[str, tuple[int, Heard, str]] = {
    "a repeat heard another number": (3, Heard(Meaning.DONE, 0, 999, HEARD_DATE), "heard number 999"),
    "a repeat heard another date": (3, Heard(Meaning.DONE, 0, 501, "2026-11-23T13:00:06"), "heard the date"),
    "a repeat heard another sum": (10, Heard(Meaning.DONE, 0, 504, None, 22), "heard the sum 22"),
    "a pay heard no number": (3, Heard(Meaning.DONE, 0), "without a number"),
    "a conflicting pay heard done": (4, Heard(Meaning.DONE, 0, 501, HEARD_DATE), "heard done for"),
    "a repeat heard conflict": (3, Heard(Meaning.CONFLICT, 4), "own contents"),
    "a good payment was refused": (3, Heard(Meaning.REFUSED, 2), "nothing is wrong with it"),
    "a payment to nobody was done": (8, Heard(Meaning.DONE, 0, 503, HEARD_DATE), "must be refused"),
    "a lost payment was heard done": (12, Heard(Meaning.DONE, 0, 506), "LOST"),
    "a stranger was let in": (13, Heard(Meaning.DONE, 0, 507), "heard done"),
    "a stranger was told to repeat": (13, Heard(Meaning.LATER, -3), "heard later"),
    "nonsense was accepted": (14, Heard(Meaning.DONE, 0, 508), "heard done"),
    "the partner was denied": (2, Heard(Meaning.DENIED, -4), "heard denied"),
    "a done payment was not found": (15, Heard(Meaning.NOT_FOUND, 6), "not found after"),
    "a cancel was refused": (6, Heard(Meaning.IMPOSSIBLE, 9), "nothing stands against it"),
    "a payment was called cancelled": (3, Heard(Meaning.CANCELLED, 7, 501), "what cannot be"),
    "a check of a good account failed": (1, Heard(Meaning.REFUSED, 2), "(check of A)"),
}


@pytest.mark.parametrize("name", PLANTED_IN_RECORD)
def test_what_is_wrong_in_the_answers_is_found(name: str) -> None:
    number, heard, words = PLANTED_IN_RECORD[name]
    found = audit(_heard(number, heard), BOOKS, BACKGROUND)
    assert any(words in text for text in found.differences), found.differences


def test_strangers_in_a_killed_gateways_memory_are_a_note_and_no_difference() -> None:
    killed = replace(BACKGROUND, struck=(Struck(GATEWAY_KILLED, 12.5, 13.0),))
    found = audit(EXCHANGES, replace(BOOKS, forged={}), killed)
    assert found.differences == []
    assert any("killed gateway's memory" in note for note in found.notes)


def test_strangers_lost_long_before_a_kill_are_a_difference() -> None:
    killed = replace(BACKGROUND, struck=(Struck(GATEWAY_KILLED, 60.0, 61.0),))
    assert audit(EXCHANGES, replace(BOOKS, forged={}), killed).differences


def test_a_conflict_on_record_twice_is_a_note_only_where_postgresql_was_killed() -> None:
    books = replace(BOOKS, conflicts={("c", "k1"): 4, ("o", "k4"): 1})
    assert audit(EXCHANGES, books, BACKGROUND).differences
    killed = replace(BACKGROUND, struck=(Struck(POSTGRES_KILLED, 4.0, 5.0),))
    assert audit(EXCHANGES, books, killed).differences == []
