"""A sum of money in words, as the last line of an invoice has it, in Russian and English.

Rules. Units are written out, hundredths stay digits (`Сто двадцать рублей 05 копеек`). Currencies that have no words
here are written with their code. A language that has no words here has none on its documents. Up to 10^15 minor units,
the largest sum there is.

Does not know: documents.
"""

from typing import Final

from ratingcore.money import MAX_MINOR

#: Russian: one, two to four, five and more of the unit and of the hundredth.
_RU: Final = {
    "RUB": (("рубль", "рубля", "рублей"), ("копейка", "копейки", "копеек")),
    "USD": (("доллар", "доллара", "долларов"), ("цент", "цента", "центов")),
    "EUR": (("евро", "евро", "евро"), ("цент", "цента", "центов")),
    "KZT": (("тенге", "тенге", "тенге"), ("тиын", "тиына", "тиынов")),
    "BYN": (("рубль", "рубля", "рублей"), ("копейка", "копейки", "копеек")),
}
_EN: Final = {
    "RUB": (("rouble", "roubles"), ("kopeck", "kopecks")),
    "USD": (("dollar", "dollars"), ("cent", "cents")),
    "EUR": (("euro", "euros"), ("cent", "cents")),
    "GBP": (("pound", "pounds"), ("penny", "pence")),
}

_RU_TENS: Final = "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто"
_RU_HUNDREDS: Final = "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот"
_RU_SMALL: Final = (
    "один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать тринадцать четырнадцать "
    "пятнадцать шестнадцать семнадцать восемнадцать девятнадцать"
)
#: Thousands are feminine.
_RU_GROUPS: Final = (
    (("тысяча", "тысячи", "тысяч"), True),
    (("миллион", "миллиона", "миллионов"), False),
    (("миллиард", "миллиарда", "миллиардов"), False),
    (("триллион", "триллиона", "триллионов"), False),
)
_EN_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_EN_SMALL: Final = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_EN_GROUPS: Final = ("thousand", "million", "billion", "trillion")


def amount_in_words(amount_minor: int, currency: str, language: str) -> str:
    """A sum in words; "" in a language that has none here.

    Raises:
        ValueError: a negative sum or one above MAX_MINOR.

    >>> amount_in_words(2_100_05, "RUB", "ru")
    'Две тысячи сто рублей 05 копеек'
    >>> amount_in_words(2_101_00, "RUB", "en")
    'Two thousand one hundred one roubles 00 kopecks'
    """
    if not 0 <= amount_minor <= MAX_MINOR:
        raise ValueError(f"{amount_minor} minor units have no words")
    if language not in ("ru", "en"):
        return ""
    units, cents = divmod(amount_minor, 100)
    number = _ru_number(units) if language == "ru" else _en_number(units)
    tail = _ru_tail(units, cents, currency) if language == "ru" else _en_tail(units, cents, currency)
    return f"{number[0].upper()}{number[1:]} {tail}"


def plural_ru(number: int, forms: tuple[str, str, str]) -> str:
    """The form that goes with a whole number; forms: of one, of two to four, of five and more.

    >>> [plural_ru(number, ("рубль", "рубля", "рублей")) for number in (1, 3, 11, 25, 101)]
    ['рубль', 'рубля', 'рублей', 'рублей', 'рубль']
    """
    if number % 100 in range(11, 20) or number % 10 == 0 or number % 10 >= 5:
        return forms[2]
    return forms[0] if number % 10 == 1 else forms[1]


def plural_en(number: int, forms: tuple[str, str]) -> str:
    """The form that goes with a whole number; forms: of one, of any other."""
    return forms[0] if number == 1 else forms[1]


def _word(words: str, place: int) -> str:
    return words.split()[place]


def _ru_number(units: int) -> str:
    if not units:
        return "ноль"
    words = _ru_triple(units % 1000, False)
    for names, feminine in _RU_GROUPS:
        units //= 1000
        if units % 1000:
            words = [*_ru_triple(units % 1000, feminine), plural_ru(units % 1000, names), *words]
    return " ".join(words)


def _ru_triple(number: int, is_feminine: bool) -> list[str]:
    words = [_word(_RU_HUNDREDS, number // 100 - 1)] if number >= 100 else []
    rest = number % 100
    if rest >= 20:
        words.append(_word(_RU_TENS, rest // 10 - 2))
        rest %= 10
    if rest:
        words.append({1: "одна", 2: "две"}[rest] if is_feminine and rest <= 2 else _word(_RU_SMALL, rest - 1))
    return words


def _ru_tail(units: int, cents: int, currency: str) -> str:
    if currency not in _RU:
        return f"{currency} {cents:02d}/100"
    names, hundredths = _RU[currency]
    return f"{plural_ru(units, names)} {cents:02d} {plural_ru(cents, hundredths)}"


def _en_number(units: int) -> str:
    if not units:
        return "zero"
    words = _en_triple(units % 1000)
    for name in _EN_GROUPS:
        units //= 1000
        if units % 1000:
            words = [*_en_triple(units % 1000), name, *words]
    return " ".join(words)


def _en_triple(number: int) -> list[str]:
    words = [_word(_EN_SMALL, number // 100 - 1), "hundred"] if number >= 100 else []
    rest = number % 100
    if rest >= 20:
        tens = _word(_EN_TENS, rest // 10 - 2)
        return [*words, f"{tens}-{_word(_EN_SMALL, rest % 10 - 1)}" if rest % 10 else tens]
    return [*words, _word(_EN_SMALL, rest - 1)] if rest else words


def _en_tail(units: int, cents: int, currency: str) -> str:
    if currency not in _EN:
        return f"{currency} {cents:02d}/100"
    names, hundredths = _EN[currency]
    return f"{plural_en(units, names)} {cents:02d} {plural_en(cents, hundredths)}"
