"""Card numbers in texts that are kept: found by scheme and check digit, and cut to first six and last four digits.

Rules. Terminals send card numbers in free fields, so names of parameters tell nothing. A number that is known to be
something else (an account, a payment's key) is left, and only a caller knows which are. Digits that are themselves
percent-encoded are not looked for: no terminal writes them so.

Does not know: where the text comes from, which numbers are accounts.
"""

import re
from collections.abc import Collection
from typing import Final

_BETWEEN: Final = "(?:[ +-]|%20|%2[Dd])"
#: Digits in groups, such as a card number is written in: one group, or several with one blank or dash between them.
#: Not the digits of a percent-escape: in "%204111..." the number begins after "%20".
_DIGIT_GROUPS: Final = re.compile(
    rf"(?:(?<=%[0-9A-Fa-f]{{2}})|(?<![0-9%]))[0-9]{{3,}}(?:{_BETWEEN}[0-9]{{3,}})*(?:{_BETWEEN}[0-9]{{1,2}}(?![0-9]))?"
)
_GROUP: Final = re.compile(rf"({_BETWEEN})")
#: First digits and lengths by scheme (ISO/IEC 7812): Visa, Mastercard, Mir, American Express, Diners, JCB, and
#: Maestro, UnionPay, Discover.
_SCHEME: Final = re.compile(
    "4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    "|220[0-4][0-9]{12,15}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|35[0-9]{14,17}|(?:50|5[6-9]|6[0-9])[0-9]{11,17}"
)
_LEAST_CARD: Final = 13
_MOST_CARD: Final = 19
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")


def is_card_number(digits: str) -> bool:
    """Whether ASCII digits are a card's number by length, first digits and check digit (Luhn)."""
    if _SCHEME.fullmatch(digits) is None:
        return False
    backwards = digits[::-1]
    return sum(map(int, backwards[::2] + backwards[1::2].translate(_DOUBLED))) % 10 == 0


def card_numbers(text: str) -> set[str]:
    """Digits of every card number in the text, written in one piece or in groups with a blank or dash between."""
    return {digits for run in _DIGIT_GROUPS.finditer(text) for _, _, digits in _cards_in(run[0])}


def mask_cards(text: str, known: Collection[str] = ()) -> str:
    """The text with card numbers cut to their first six and last four digits.

    Args:
        known: digits that are left, because they are known to be something else: an account, a payment's key.
    """
    if len(text) < _LEAST_CARD:
        return text
    return _DIGIT_GROUPS.sub(lambda run: _masked_run(run[0], known), text)


def _masked_run(run: str, known: Collection[str]) -> str:
    if len(run) < _LEAST_CARD:
        return run
    parts = _GROUP.split(run)
    for first, last, digits in _cards_in(run):
        if digits not in known:
            parts[first : last + 1] = [f"{digits[:6]}{'*' * (len(digits) - 10)}{digits[-4:]}"] + [""] * (last - first)
    return "".join(parts)


def _cards_in(run: str) -> list[tuple[int, int, str]]:
    """Card numbers in groups of digits: (index of the first part, of the last, digits), none overlapping.

    The parts are those of _GROUP.split: groups at even places, what stands between them at odd ones.
    """
    parts = _GROUP.split(run)
    found = []
    first = 0
    while first < len(parts):
        digits, last = "", first
        while last < len(parts) and len(digits) <= _MOST_CARD:
            digits += parts[last]
            if len(digits) >= _LEAST_CARD and is_card_number(digits):
                found.append((first, last, digits))
                first = last
                break
            last += 2
        first += 2
    return found
