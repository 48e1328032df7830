"""A language as a value: its texts and its formats; which there are; which one a person reads.

Rules. One ``Language`` for each code, kept for the life of the process. The user's own choice goes before the browser's
cookie, the cookie before what the browser accepts; where none of them names a language there is, DEFAULT is read.

Does not know: who the person is, where the choice is kept.
"""

from functools import cache, cached_property
from typing import Final

from billing.language import catalogues
from billing.language.formats import Formats
from billing.language.marks import Message

#: What is read by a person that asks for none of the languages there are.
DEFAULT: Final = "ru"
#: Languages of an Accept-Language header that are looked at.
MAX_ACCEPTED: Final = 20


class Language:
    """The texts and the formats of one language.

    Functions that tell a text take it in English, as it stands in the code, and the values it names. A text with no
    values is put through ``%`` as well, so that a percent sign is always written twice.
    """

    def __init__(self, code: str) -> None:
        self.code = code

    @cached_property
    def formats(self) -> Formats:
        """How numbers, money, dates and times are written."""
        return Formats(self.code)

    @cached_property
    def name(self) -> str:
        """What the language calls itself, such as ``Русский``."""
        return self.formats.language_name

    def find(self, text: str) -> str:
        """The text in this language, values not yet put in; of a ``Message`` the one of its context."""
        found = catalogues.translations(self.code)
        if isinstance(text, Message):
            return found.pgettext(text.context, str(text))
        return found.gettext(text)

    def find_plural(self, one: str, many: str, num: int, context: str = "") -> str:
        """The form of a text that goes with a number, values not yet put in."""
        found = catalogues.translations(self.code)
        return found.npgettext(context, one, many, num) if context else found.ngettext(one, many, num)

    def gettext(self, text: str, /, **values: object) -> str:
        """A text with its values.

        >>> language_of("en").gettext("Payment No. %(id)s", id=7)
        'Payment No. 7'
        """
        return self.find(text) % values

    def ngettext(self, one: str, many: str, num: int, /, **values: object) -> str:
        """A text in the form that goes with a number, which it may name as ``num``.

        >>> language_of("en").ngettext("%(num)s payment", "%(num)s payments", 1200)
        '1,200 payments'
        """
        return self.find_plural(one, many, num) % {"num": self.formats.count(num), **values}

    def pgettext(self, context: str, text: str, /, **values: object) -> str:
        """A text that means something else elsewhere."""
        return self.find(Message(context, text)) % values

    def npgettext(self, context: str, one: str, many: str, num: int, /, **values: object) -> str:
        """A text that means something else elsewhere, in the form that goes with a number."""
        return self.find_plural(one, many, num, context) % {"num": self.formats.count(num), **values}

    def __repr__(self) -> str:
        return f"Language({self.code!r})"


@cache
def _language(code: str) -> Language:
    return Language(code)


def language_of(code: str) -> Language:
    """The language of a code.

    Raises:
        LookupError: there is no such language.
    """
    if code not in catalogues.codes():
        raise LookupError(f"there is no language {code!r}: {', '.join(catalogues.codes())}")
    return _language(code)


def languages() -> tuple[Language, ...]:
    """The languages there are, the default one first."""
    return tuple(_language(code) for code in sorted(catalogues.codes(), key=lambda code: code != DEFAULT))


def choose_language(chosen: str | None, cookie: str | None, accepted: str) -> str:
    """Code of the language a person reads.

    Args:
        chosen: the user's setting; cookie: the browser's; accepted: the Accept-Language header.

    >>> choose_language(None, None, "fr, en;q=0.8, ru;q=0.5")
    'en'
    """
    known = catalogues.codes()
    for wish in (chosen, cookie):
        if wish in known:
            return wish
    best, weight = DEFAULT, 0
    for part in accepted.split(",")[:MAX_ACCEPTED]:
        tag, _, parameters = part.strip().partition(";")
        quality = _thousandths(parameters)
        code = _best_code(tag.strip(), known)
        if code and quality > weight:
            best, weight = code, quality
    return best


def _best_code(tag: str, known: tuple[str, ...]) -> str:
    """The language a tag such as ``pt-BR`` names, or the one without its region (RFC 4647, lookup)."""
    by_name = {code.lower(): code for code in known}
    wanted = tag.lower().replace("-", "_")
    while wanted:
        if wanted in by_name:
            return by_name[wanted]
        wanted = wanted.rpartition("_")[0]
    return ""


def _thousandths(parameters: str) -> int:
    """q=0.8 as 800; no q is 1000; an unreadable one is 0 (RFC 9110, section 12.4.2)."""
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1000
    whole, _, fraction = value.strip().partition(".")
    digits = fraction.ljust(3, "0")
    if name.strip() != "q" or whole not in ("0", "1") or not (digits.isascii() and digits.isdigit()) or len(digits) > 3:
        return 0
    return min(int(whole) * 1000 + int(digits), 1000)
