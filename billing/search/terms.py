"""What a person types into the search box, and everything it may be.

Rules. Pure. The same text may be a number, a phone and a name at once: every reading that is possible is kept, and the
stores look for each. Letters that nobody sees (controls, marks of direction, halves of pairs) are not part of a search.
Any text is read or refused with a sentence; reading the cleaned text again gives the same.

Does not know: languages of pages, tables, who asks.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from billing.refusals import Refusal
from ratingcore.money import read_typed_sum

#: Characters of a search, and words of a name in it.
MAX_CHARS: Final = 200
MAX_WORDS: Final = 8
#: Longest number, code or key of anything.
MAX_CODE_CHARS: Final = 64
#: Digits of a phone, from a local number to ITU-T E.164's longest.
PHONE_DIGITS: Final = range(5, 16)
_MAX_ID: Final = 2**63 - 1


class SearchKind(StrEnum):
    """What is found, in the order in which a page tells it."""

    CUSTOMER = "customer"
    ACCOUNT = "account"
    ORDER = "order"
    INVOICE = "invoice"
    PAYMENT = "payment"
    PARTNER = "partner"
    USER = "user"


#: Words before a colon that ask for one kind; folded.
KIND_WORDS: Final = MappingProxyType(
    {
        "customer": SearchKind.CUSTOMER,
        "client": SearchKind.CUSTOMER,
        "клиент": SearchKind.CUSTOMER,
        "абонент": SearchKind.CUSTOMER,
        "account": SearchKind.ACCOUNT,
        "лс": SearchKind.ACCOUNT,
        "лицевой": SearchKind.ACCOUNT,
        "лицевой счет": SearchKind.ACCOUNT,
        "order": SearchKind.ORDER,
        "заказ": SearchKind.ORDER,
        "invoice": SearchKind.INVOICE,
        "счет": SearchKind.INVOICE,
        "документ": SearchKind.INVOICE,
        "payment": SearchKind.PAYMENT,
        "платеж": SearchKind.PAYMENT,
        "partner": SearchKind.PARTNER,
        "партнер": SearchKind.PARTNER,
        "user": SearchKind.USER,
        "staff": SearchKind.USER,
        "пользователь": SearchKind.USER,
        "сотрудник": SearchKind.USER,
    }
)


class SearchError(Refusal):
    """The text cannot be searched for."""

    default_code = "search_refused"


@dataclass(frozen=True, slots=True)
class SearchText:
    """A search. Each reading is empty or None where the text cannot be that.

    text: what was typed without a kind and what nobody sees. codes: spellings under which a number, key or login may be
    stored, as typed first. number: an id. phone: digits as `search_phone` of the database has them. email: in lower
    case. amount: minor units; is_amount: it can be nothing else. folded: lower case, ё as е; words: its words.
    """

    text: str = ""
    kind: SearchKind | None = None
    codes: tuple[str, ...] = ()
    number: int | None = None
    phone: str = ""
    email: str = ""
    amount: int | None = None
    is_amount: bool = False
    folded: str = ""
    words: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing is left to search for."""
        return not self.text

    def asks_for(self, kind: SearchKind) -> bool:
        """Whether objects of this kind are wanted."""
        return self.kind in (None, kind)


_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_PREFIX: Final = re.compile(r"([^\W\d_]+(?: [^\W\d_]+)?) ?: ?(.*)", re.DOTALL)
_WORD: Final = re.compile(r"[^\W_]+")
_PHONE: Final = re.compile(r"[+0-9(][0-9 ().-]*", re.ASCII)
#: What people copy along with a name or number.
_AROUND: Final = "«»„“”\"',;"
_NUMBER_SIGNS: Final = re.compile(r"^(?:№|N[oº°]\.? )\s*")


def read_search(typed: str) -> SearchText:
    """Everything a typed text may be.

    Raises:
        SearchError: longer than MAX_CHARS (search_long), or more than MAX_WORDS words (search_words).

    >>> read_search("Счёт: I-000123").kind, read_search("счёт: i-000123").codes
    (<SearchKind.INVOICE: 'invoice'>, ('i-000123', 'I-000123'))
    >>> read_search("8 (916) 123-45-67").phone, read_search("1 234,50 ₽").amount, read_search("#12").number
    ('9161234567', 123450, 12)
    """
    text = clean(typed)
    if len(text) > MAX_CHARS:
        raise SearchError(f"search for at most {MAX_CHARS} characters", code="search_long", limit=MAX_CHARS)
    kind = None
    if match := _PREFIX.fullmatch(text):
        kind = KIND_WORDS.get(folded(match[1]))
        text = match[2] if kind else text
    text = _NUMBER_SIGNS.sub("", text.strip(_AROUND + " ")).strip(_AROUND + " ")
    lowered = folded(text)
    words = tuple(dict.fromkeys(_WORD.findall(lowered)))
    if len(words) > MAX_WORDS:
        raise SearchError(f"search for at most {MAX_WORDS} words", code="search_words", limit=MAX_WORDS)
    if not words:
        return SearchText(kind=kind)
    phone = _phone(text)
    typed_sum = read_typed_sum(lowered)
    email = text.lower() if re.fullmatch(r"[^\s@]+@[^\s@]+", text) else ""
    return SearchText(
        text, kind, _codes(text, phone), _number(text), phone, email,
        int(typed_sum.amount) if typed_sum else None, bool(typed_sum and typed_sum.is_marked and "." not in text),
        lowered, words,
    )  # fmt: skip


def clean(typed: str) -> str:
    """The text with composed letters, single blanks, and without what nobody sees.

    >>> clean("  Анна\\u200b\\u202e  Ёлкина\\x00\\ud800 ")
    'Анна Ёлкина'
    """
    blanked = "".join(" " if letter.isspace() else letter for letter in typed)
    seen = "".join(letter for letter in blanked if unicodedata.category(letter) not in _UNSEEN)
    return " ".join(unicodedata.normalize("NFC", seen).split())


def folded(text: str) -> str:
    """As the database compares names (search_fold)."""
    return text.lower().replace("ё", "е")


def _phone(text: str) -> str:
    """The digits of a phone, national ones where it is Russian; "" where it is none."""
    if not _PHONE.fullmatch(text):
        return ""
    digits = re.sub(r"[^0-9]", "", text)
    if len(digits) not in PHONE_DIGITS:
        return ""
    return digits[1:] if len(digits) == 11 and digits[0] in "78" else digits


def _number(text: str) -> int | None:
    digits = text.removeprefix("#")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 19:
        return None
    number = int(digits)
    return number if number <= _MAX_ID else None


def _codes(text: str, phone: str) -> tuple[str, ...]:
    """Spellings of one code. An account's number is often a phone, stored with or without the country."""
    codes = [] if " " in text else [text, text.upper(), text.lower()]
    if phone:
        codes += [phone]
        if len(phone) == 10:
            codes += [f"7{phone}", f"8{phone}", f"+7{phone}"]
    elif " " in text and re.fullmatch(r"[0-9 -]+", text):
        codes.append(re.sub(r"[^0-9]", "", text))
    if " " in text:
        codes.append(text)
    return tuple(code for code in dict.fromkeys(codes) if len(code) <= MAX_CODE_CHARS)
