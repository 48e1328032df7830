"""What a conflicting request asked, beside what its payment has."""

import pytest

from billing.language import language_of
from web.console.payments.conflicts import conflict_words, conflicts_told, distinct

PAYMENT = {"_id": 7, "state": "posted", "amount": 10_000, "currency": "RUB", "account": "79161234567", "service": "2"}
ATTEMPT = {"_id": 1, "kind": "conflict", "payment_id": 7, "amount": 10_000, "account": "79161234567"}


def told(attempt, payment=PAYMENT, language="ru"):
    return conflict_words(language_of(language), payment, {**ATTEMPT, **attempt}).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        ({"amount": 20_000}, "зачислено 100,00 ₽, партнёр прислал 200,00 ₽"),
        ({"account": "79260000000"}, "в платеже лицевой счёт 79161234567, партнёр прислал 79260000000"),
        (
            {"amount": 1, "account": "7"},
            "зачислено 100,00 ₽, партнёр прислал 0,01 ₽; в платеже лицевой счёт 79161234567, партнёр прислал 7",
        ),
        ({}, "в платеже услуга 2, партнёр прислал другую"),
        ({"amount": None}, "в платеже услуга 2, партнёр прислал другую"),
    ],
)
def test_every_field_that_differs_is_told_as_it_was_and_as_it_came(attempt, words):
    assert told(attempt) == words


def test_money_is_called_posted_only_where_it_is():
    assert "зачислено" not in told({"amount": 20_000}, {**PAYMENT, "state": "refused"})
    assert told({"amount": 20_000}, language="en") == "₽100.00 posted, partner sent ₽200.00"


def test_a_strangers_account_number_is_written_out():
    assert "7\\u202e9" in told({"account": "7\u202e9"})


def test_only_conflicts_of_known_payments_are_told_and_each_sentence_once():
    attempts = [
        {**ATTEMPT, "_id": 4, "amount": 1},
        {**ATTEMPT, "_id": 3, "amount": 1},
        {**ATTEMPT, "_id": 2, "kind": "repeat", "amount": 2},
        {**ATTEMPT, "_id": 1, "payment_id": 8},
    ]
    found = conflicts_told(language_of("ru"), {7: PAYMENT}, attempts)
    assert set(found) == {3, 4}
    assert [attempt_id for _, attempt_id in distinct(found)] == [4]
