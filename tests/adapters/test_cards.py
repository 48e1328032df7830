"""Card numbers are found by scheme and check digit, whatever they stand in."""

import pytest

from adapters import cards

CARD = "4111111111111111"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (CARD, "411111******1111"),
        ("4111 1111 1111 1111", "411111******1111"),
        ("4111-1111-1111-1111", "411111******1111"),
        ("4111+1111%201111-1111", "411111******1111"),
        ("%20" + CARD, "%20411111******1111"),
        ("card 3782 822463 10005.", "card 378282*****0005."),
        ("2200000000000004", "220000******0004"),
        ("5555555555554444,4222222222222", "555555******4444,422222***2222"),
        ("6212345678901232", "621234******1232"),
        (f"79161234567 {CARD}", "79161234567 411111******1111"),
        (f"{CARD} {CARD}", "411111******1111 411111******1111"),
    ],
)
def test_a_card_number_keeps_its_first_six_and_last_four_digits(written, kept):
    assert cards.mask_cards(written) == kept


@pytest.mark.parametrize(
    "written",
    [
        "4111111111111112",  # the check digit is wrong
        "20261120101530",  # no scheme begins with 20
        "7916123456712345",
        f"9{CARD}9",  # longer than any
        "4111111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",  # nobody writes one so
        "",
    ],
)
def test_what_is_no_card_number_is_left(written):
    assert cards.mask_cards(written) == written


def test_a_number_that_is_known_to_be_an_account_is_left():
    assert cards.mask_cards(f"{CARD} 5555555555554444", {CARD}) == f"{CARD} 555555******4444"
    assert cards.card_numbers(f"a={CARD}&b=5555-5555-5555-4444") == {CARD, "5555555555554444"}
